//! Listeners, the admin token and the shutdown.

use super::Env;
use secrecy::{ExposeSecret, SecretString};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

/// Fewest characters of an admin token: shorter ones can be guessed.
const TOKEN_MIN: usize = 16;
/// Request bodies held at once when nothing else is said; never less than one body.
const BUFFERED: usize = 512 << 20;

/// Where obleth listens.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// `OBLETH_PROXY_LISTEN`: the data plane.
    pub proxy: SocketAddr,
    /// `OBLETH_ADMIN_LISTEN`: the management API.
    pub admin: SocketAddr,
    /// `OBLETH_METRICS_LISTEN`: `GET /metrics`.
    pub metrics: SocketAddr,
    /// `OBLETH_ADMIN_TOKEN`: required.
    pub admin_token: SecretString,
    /// `OBLETH_MAX_BODY_BYTES`: largest request body, in bytes.
    pub max_body_bytes: usize,
    /// `OBLETH_MAX_BUFFERED_BYTES`: request bodies held at once, all requests together, in bytes.
    pub max_buffered_bytes: usize,
    /// `OBLETH_SHUTDOWN_DELAY_SECS`: how long requests are still served after `/ready` says no, so that a load balancer
    /// can notice.
    pub shutdown_delay: Duration,
    /// `OBLETH_SHUTDOWN_GRACE_SECS`: how long running streams may go on after SIGTERM.
    pub shutdown_grace: Duration,
}

impl ListenConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let mut listen = Self {
            proxy: address(env, "OBLETH_PROXY_LISTEN", "0.0.0.0:8080"),
            admin: address(env, "OBLETH_ADMIN_LISTEN", "127.0.0.1:9090"),
            metrics: address(env, "OBLETH_METRICS_LISTEN", "127.0.0.1:9091"),
            admin_token: env.secret("OBLETH_ADMIN_TOKEN").unwrap_or_default(),
            max_body_bytes: env.number("OBLETH_MAX_BODY_BYTES", 64 << 20, 1024..=1 << 30),
            max_buffered_bytes: 0,
            shutdown_delay: Duration::from_secs(env.number("OBLETH_SHUTDOWN_DELAY_SECS", 5, 0..=300)),
            shutdown_grace: Duration::from_secs(env.number("OBLETH_SHUTDOWN_GRACE_SECS", 30, 0..=3600)),
        };
        let buffered = env.optional_number("OBLETH_MAX_BUFFERED_BYTES", 1024..=1 << 40);
        listen.max_buffered_bytes = buffered.unwrap_or_else(|| BUFFERED.max(listen.max_body_bytes));
        let token = listen.admin_token.expose_secret();
        if token.is_empty() {
            env.fault("OBLETH_ADMIN_TOKEN is required".to_owned());
        } else if token.len() < TOKEN_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            env.fault(format!("OBLETH_ADMIN_TOKEN must be at least {TOKEN_MIN} visible ASCII characters"));
        }
        if listen.max_buffered_bytes < listen.max_body_bytes {
            env.fault("OBLETH_MAX_BUFFERED_BYTES must not be less than OBLETH_MAX_BODY_BYTES".to_owned());
        }
        let ports = [listen.proxy, listen.admin, listen.metrics];
        for (position, one) in ports.iter().enumerate() {
            if one.port() != 0 && ports.iter().skip(position + 1).any(|other| clash(one, other)) {
                env.fault(format!("two listeners share {one}"));
            }
        }
        listen
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OBLETH_PROXY_LISTEN", self.proxy.to_string()),
            ("OBLETH_ADMIN_LISTEN", self.admin.to_string()),
            ("OBLETH_METRICS_LISTEN", self.metrics.to_string()),
            ("OBLETH_ADMIN_TOKEN", "(set)".to_owned()),
            ("OBLETH_MAX_BODY_BYTES", self.max_body_bytes.to_string()),
            ("OBLETH_MAX_BUFFERED_BYTES", self.max_buffered_bytes.to_string()),
            ("OBLETH_SHUTDOWN_DELAY_SECS", self.shutdown_delay.as_secs().to_string()),
            ("OBLETH_SHUTDOWN_GRACE_SECS", self.shutdown_grace.as_secs().to_string()),
        ]
    }
}

fn clash(one: &SocketAddr, other: &SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip() == other.ip())
}

fn address(env: &mut Env, name: &'static str, default: &str) -> SocketAddr {
    env.parsed(name, default, |text| {
        text.trim().parse().map_err(|_| "must be an address such as 127.0.0.1:8080")
    })
    .unwrap_or(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))
}
