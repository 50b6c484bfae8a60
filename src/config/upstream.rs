//! The default upstream and the time-outs towards any.

use super::Env;
use obleth_actors::admin::{check_literal, upstream_base};
use obleth_core::breaker::Rules;
use obleth_core::net::{Network, Outbound};
use std::sync::Arc;
use std::time::Duration;

/// How obleth talks to upstreams.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// `OBLETH_UPSTREAM_BASE_URL`, as it is joined with a route: without `/v1`.
    pub base: String,
    /// `OBLETH_FORWARD_AUTHORIZATION`: whether a client's `Authorization` reaches upstreams without a key of
    /// their own.
    pub forward_authorization: bool,
    /// `OBLETH_UPSTREAM_CONNECT_TIMEOUT_MS`.
    pub connect_timeout: Duration,
    /// `OBLETH_UPSTREAM_TIMEOUT_SECS`: to the response headers.
    pub head_timeout: Duration,
    /// `OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS`: between body bytes.
    pub idle_timeout: Duration,
    /// `OBLETH_BREAKER_FAILURES` and `OBLETH_BREAKER_PROBE_SECS`.
    pub breaker: Rules,
    /// `OBLETH_BLOCK_PRIVATE_NETWORKS` and `OBLETH_ALLOWED_NETWORKS`: where connections may go.
    pub outbound: Arc<Outbound>,
}

impl UpstreamConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let outbound = outbound(env);
        let base = env.parsed("OBLETH_UPSTREAM_BASE_URL", "http://127.0.0.1:8081/v1", upstream_base);
        // One that nobody set may be one that nobody uses.
        let given = base.as_ref().filter(|_| env.text("OBLETH_UPSTREAM_BASE_URL").is_some());
        if let Some(Err(why)) = given.map(|base| check_literal(&outbound, base)) {
            env.fault(format!("OBLETH_UPSTREAM_BASE_URL {why}"));
        }
        Self {
            base: base.unwrap_or_default(),
            forward_authorization: env.flag("OBLETH_FORWARD_AUTHORIZATION", true),
            connect_timeout: Duration::from_millis(env.number(
                "OBLETH_UPSTREAM_CONNECT_TIMEOUT_MS",
                5_000,
                1..=600_000,
            )),
            head_timeout: Duration::from_secs(env.number("OBLETH_UPSTREAM_TIMEOUT_SECS", 300, 1..=86_400)),
            idle_timeout: Duration::from_secs(env.number(
                "OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS",
                120,
                1..=86_400,
            )),
            breaker: breaker(env),
            outbound: Arc::new(outbound),
        }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OBLETH_UPSTREAM_BASE_URL", format!("{}/v1", self.base)),
            ("OBLETH_FORWARD_AUTHORIZATION", self.forward_authorization.to_string()),
            ("OBLETH_UPSTREAM_CONNECT_TIMEOUT_MS", self.connect_timeout.as_millis().to_string()),
            ("OBLETH_UPSTREAM_TIMEOUT_SECS", self.head_timeout.as_secs().to_string()),
            ("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", self.idle_timeout.as_secs().to_string()),
            ("OBLETH_BLOCK_PRIVATE_NETWORKS", self.outbound.block_private.to_string()),
            ("OBLETH_ALLOWED_NETWORKS", listed(&self.outbound.allowed)),
            ("OBLETH_BREAKER_FAILURES", self.breaker.failures.to_string()),
            ("OBLETH_BREAKER_PROBE_SECS", self.breaker.first_pause.as_secs().to_string()),
        ]
    }
}

fn outbound(env: &mut Env) -> Outbound {
    let block_private = env.flag("OBLETH_BLOCK_PRIVATE_NETWORKS", false);
    let allowed = env.parsed("OBLETH_ALLOWED_NETWORKS", "", |text| {
        text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::parse).collect()
    });
    let allowed: Vec<Network> = allowed.unwrap_or_default();
    if !block_private && !allowed.is_empty() {
        env.fault(
            "OBLETH_ALLOWED_NETWORKS means nothing without OBLETH_BLOCK_PRIVATE_NETWORKS=true".to_owned(),
        );
    }
    Outbound { block_private, allowed }
}

fn listed(networks: &[Network]) -> String {
    if networks.is_empty() {
        return "(none)".to_owned();
    }
    networks.iter().map(Network::to_string).collect::<Vec<_>>().join(",")
}

fn breaker(env: &mut Env) -> Rules {
    let usual = Rules::default();
    let first = env.number("OBLETH_BREAKER_PROBE_SECS", usual.first_pause.as_secs(), 1..=3600);
    let first_pause = Duration::from_secs(first);
    Rules {
        failures: env.number("OBLETH_BREAKER_FAILURES", usual.failures, 0..=1_000_000),
        first_pause,
        longest_pause: usual.longest_pause.max(first_pause),
        ..usual
    }
}
