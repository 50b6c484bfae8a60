//! Traces: where they go, and how many of them.

use super::Env;
use url::Url;

/// The path of the OTLP/HTTP protocol for traces.
const TRACES: &str = "v1/traces";

/// Where and how much is traced. Nothing is unless there is an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// `OBLETH_OTEL_ENDPOINT`, with the path of the protocol.
    pub endpoint: Option<String>,
    /// `OBLETH_OTEL_SAMPLE_RATIO`: of the traces that begin here.
    pub sample_ratio: f64,
}

impl TracesConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let endpoint = match env.text("OBLETH_OTEL_ENDPOINT") {
            Some(_) => env.parsed("OBLETH_OTEL_ENDPOINT", "", endpoint),
            None => None,
        };
        let sample_ratio = env.parsed("OBLETH_OTEL_SAMPLE_RATIO", "1", |text| {
            let ratio = text.trim().parse::<f64>().ok();
            ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("must be a number from 0 to 1")
        });
        Self { endpoint, sample_ratio: sample_ratio.unwrap_or_default() }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| "(none)".to_owned());
        vec![("OBLETH_OTEL_ENDPOINT", endpoint), ("OBLETH_OTEL_SAMPLE_RATIO", self.sample_ratio.to_string())]
    }
}

/// The address spans are posted to: a base gets the protocol's path, an address with it stays.
fn endpoint(text: &str) -> Result<String, &'static str> {
    let mut url = Url::parse(text.trim()).map_err(|_| "must be an http or https URL")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an http or https URL");
    }
    // It is shown by check-config and in the log.
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("must not hold credentials or a query; use OTEL_EXPORTER_OTLP_HEADERS");
    }
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    if path.strip_suffix(TRACES).is_none_or(|base| !base.ends_with('/')) {
        url.set_path(&format!("{path}/{TRACES}"));
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_gets_the_path_of_the_protocol_once() {
        for (given, address) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://o.example/otlp", "https://o.example/otlp/v1/traces"),
            ("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"),
            ("http://127.0.0.1:4318/xv1/traces", "http://127.0.0.1:4318/xv1/traces/v1/traces"),
        ] {
            assert_eq!(endpoint(given).as_deref(), Ok(address), "{given}");
        }
        for bad in ["collector:4318", "ftp://x", "http://", "x", "http://u:p@h:4318", "http://h/?key=x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
