//! MCP: which web pages may call.

use super::Env;
use std::collections::BTreeSet;
use std::sync::Arc;
use url::{Host, Url};

/// The rules of the MCP gateway.
#[derive(Clone, Debug)]
pub struct McpConfig {
    /// `OBLETH_MCP_ALLOWED_ORIGINS`.
    pub origins: Origins,
}

/// The `Origin`s that are allowed. A request without one does not come from a web page, and passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Pages that were loaded from this very machine.
    Loopback,
    Any,
    These(Arc<BTreeSet<String>>),
}

impl Origins {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let wrong = "must be origins such as https://app.example.com, separated by commas, or *";
        let origins: Vec<&str> = text.split(',').map(str::trim).filter(|text| !text.is_empty()).collect();
        match origins.as_slice() {
            [] => Ok(Self::Loopback),
            ["*"] => Ok(Self::Any),
            origins => {
                let origin = |text: &&str| {
                    let url = Url::parse(text).ok().filter(|url| url.host().is_some())?;
                    let origin = url.origin().ascii_serialization();
                    origin.eq_ignore_ascii_case(text).then_some(origin)
                };
                let origins = origins.iter().map(origin).collect::<Option<_>>();
                Ok(Self::These(Arc::new(origins.ok_or(wrong)?)))
            }
        }
    }

    /// Whether a page of this `Origin` may call.
    pub fn allow(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(origins) => origins.contains(&origin.to_ascii_lowercase()),
            Self::Loopback => Url::parse(origin).is_ok_and(|url| match url.host() {
                Some(Host::Domain(name)) => name == "localhost",
                Some(Host::Ipv4(address)) => address.is_loopback(),
                Some(Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            }),
        }
    }
}

impl McpConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let origins = env.parsed("OBLETH_MCP_ALLOWED_ORIGINS", "", Origins::parse);
        Self { origins: origins.unwrap_or(Origins::Loopback) }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let origins = match &self.origins {
            Origins::Loopback => "(loopback)".to_owned(),
            Origins::Any => "*".to_owned(),
            Origins::These(origins) => origins.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        };
        vec![("OBLETH_MCP_ALLOWED_ORIGINS", origins)]
    }
}

#[cfg(test)]
mod tests {
    use super::Origins;

    #[test]
    fn an_origin_is_allowed_whole_or_not_at_all() {
        let listed = Origins::parse("https://a.example, http://b.example:8080").unwrap();
        for (origin, loopback, these) in [
            ("http://localhost:3000", true, false),
            ("http://127.0.0.1", true, false),
            ("http://[::1]:1", true, false),
            ("http://localhost.evil.example", false, false),
            ("https://a.example", false, true),
            ("HTTPS://A.example", false, true),
            ("https://a.example.evil.example", false, false),
            ("http://a.example", false, false),
            ("http://b.example", false, false),
            ("http://b.example:8080", false, true),
            ("null", false, false),
            ("", false, false),
        ] {
            assert_eq!(Origins::Loopback.allow(origin), loopback, "{origin}");
            assert_eq!(listed.allow(origin), these, "{origin}");
            assert!(Origins::Any.allow(origin));
        }
        assert_eq!(Origins::parse(""), Ok(Origins::Loopback));
        assert_eq!(Origins::parse("*"), Ok(Origins::Any));
        for wrong in ["a.example", "https://a.example/path", "*,https://a.example", "file:///x"] {
            assert!(Origins::parse(wrong).is_err(), "{wrong}");
        }
    }
}
