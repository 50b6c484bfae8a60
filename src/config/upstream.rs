//! The default upstream and the time-outs towards any.

use super::Env;
use obleth_actors::admin::upstream_base;
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
}

impl UpstreamConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let base = env.parsed("OBLETH_UPSTREAM_BASE_URL", "http://127.0.0.1:8081/v1", upstream_base);
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
        }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OBLETH_UPSTREAM_BASE_URL", format!("{}/v1", self.base)),
            ("OBLETH_FORWARD_AUTHORIZATION", self.forward_authorization.to_string()),
            ("OBLETH_UPSTREAM_CONNECT_TIMEOUT_MS", self.connect_timeout.as_millis().to_string()),
            ("OBLETH_UPSTREAM_TIMEOUT_SECS", self.head_timeout.as_secs().to_string()),
            ("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", self.idle_timeout.as_secs().to_string()),
        ]
    }
}
