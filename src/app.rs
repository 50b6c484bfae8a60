//! What every request can reach: the handles of the actors, the configuration it needs, its worker's client.

use crate::config::{Config, Document, Origins, UpstreamConfig};
use crate::http::admin::Failures;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, WorkerMetrics};
use crate::telemetry::AccessLog;
use crate::traces::Traces;
use crate::upstream::Upstream;
use arc_swap::ArcSwap;
use obleth_actors::accounting::Accounting;
use obleth_actors::admin::Admin;
use obleth_actors::budget::Budget;
use obleth_actors::cache::Cache;
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::Fairshare;
use obleth_actors::health::Health;
use obleth_actors::mcp::Mcp;
use obleth_actors::plans::Plans;
use obleth_core::registry::{Pepper, Registry};
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The handles of the actors.
#[derive(Clone, Debug)]
pub struct Handles {
    pub fairshare: Fairshare,
    pub accounting: Accounting,
    pub admin: Admin,
    pub cache: Cache,
    pub budget: Budget,
    pub mcp: Mcp,
}

/// Settings a request needs.
#[derive(Debug)]
pub struct Settings {
    pub upstream: UpstreamConfig,
    pub max_body_bytes: usize,
    pub max_buffered_bytes: usize,
    pub admission_timeout: Duration,
    /// Pause between two comments on a stream that waits; `None` = none are sent.
    pub ping_every: Option<Duration>,
    pub plans: Plans,
    pub pepper: Option<Pepper>,
    pub admin_token: SecretString,
    /// Applied before the gateway serves.
    pub document: Option<Document>,
    /// Web pages that may call MCP servers.
    pub origins: Origins,
}

impl Settings {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            upstream: config.upstream.clone(),
            max_body_bytes: config.listen.max_body_bytes,
            max_buffered_bytes: config.listen.max_buffered_bytes,
            admission_timeout: config.admission.timeout,
            ping_every: config.admission.ping_every,
            plans: Plans {
                default_model_max_in_flight: config.admission.default_model_max_in_flight,
                brownout: config.admission.brownout(),
            },
            pepper: config.data.pepper.clone(),
            admin_token: config.listen.admin_token.clone(),
            document: config.document.clone(),
            origins: config.mcp.origins.clone(),
        }
    }
}

/// What all workers share.
#[derive(Debug)]
pub struct Gateway {
    pub handles: Handles,
    pub registry: Arc<ArcSwap<Registry>>,
    /// The breakers of the models' upstreams.
    pub health: Health,
    pub settings: Settings,
    pub lifecycle: Lifecycle,
    pub metrics: Metrics,
    pub access: AccessLog,
    pub traces: Traces,
    pub clock: Clock,
    /// Of callers of the management API that had no valid token.
    pub failures: Failures,
    /// Authenticated requests that have not ended.
    pub running: AtomicUsize,
    /// Bytes of request bodies that are held, all requests together.
    pub buffered: AtomicUsize,
}

impl Gateway {
    /// Authenticated requests that have not ended, waiting ones included.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Acquire)
    }
}

/// What one worker has for itself.
#[derive(Debug)]
pub struct Worker {
    pub gateway: Arc<Gateway>,
    pub upstream: Upstream,
    pub metrics: WorkerMetrics,
}
