//! Slots, queues and waits.

use super::Env;
use obleth_actors::admin::brownout::{self, BrownoutDefaults, BrownoutSpec};
use std::time::Duration;

/// How many requests run and wait.
#[derive(Clone, Debug)]
pub struct AdmissionConfig {
    /// `OBLETH_GLOBAL_MAX_IN_FLIGHT`: slots.
    pub slots: u32,
    /// `OBLETH_DEFAULT_MODEL_MAX_IN_FLIGHT`: cap of a model that sets none.
    pub default_model_max_in_flight: Option<u32>,
    /// `OBLETH_ADMISSION_TIMEOUT_SECS`: longest wait in the queue.
    pub timeout: Duration,
    /// `OBLETH_TENANT_MAX_QUEUED`: queue length of a tenant that sets none.
    pub tenant_max_queued: u32,
    /// `OBLETH_MAX_QUEUED`: queue length of all tenants together.
    pub max_queued: u32,
    /// `OBLETH_BROWNOUT_WAIT_MS`: pressure above which a policy that says no other takes a step.
    pub brownout_wait_ms: u32,
    /// `OBLETH_BROWNOUT_DEFAULT`: the policy of tenants that have none.
    pub brownout_default: Option<BrownoutSpec>,
    /// `OBLETH_SSE_PING_SECS`: pause between two comments on a stream that waits; `None` = no comments.
    pub ping_every: Option<Duration>,
}

impl AdmissionConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let count = 1..=1_000_000;
        Self {
            slots: env.number("OBLETH_GLOBAL_MAX_IN_FLIGHT", 256, count.clone()),
            default_model_max_in_flight: env
                .optional_number("OBLETH_DEFAULT_MODEL_MAX_IN_FLIGHT", count.clone()),
            timeout: Duration::from_secs(env.number("OBLETH_ADMISSION_TIMEOUT_SECS", 60, 1..=86_400)),
            tenant_max_queued: env.number("OBLETH_TENANT_MAX_QUEUED", 1024, 0..=1_000_000),
            max_queued: env.number("OBLETH_MAX_QUEUED", 16_384, count),
            brownout_wait_ms: env.number("OBLETH_BROWNOUT_WAIT_MS", 750, 1..=3_600_000),
            brownout_default: env
                .parsed("OBLETH_BROWNOUT_DEFAULT", r#"{"enabled":false}"#, brownout::parse)
                .filter(|policy| policy.enabled),
            ping_every: Some(env.number("OBLETH_SSE_PING_SECS", 0, 0..=3600))
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        }
    }

    /// What tenants have that say nothing of a brownout, or not everything.
    pub fn brownout(&self) -> BrownoutDefaults {
        BrownoutDefaults::new(self.brownout_wait_ms, self.brownout_default.as_ref())
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let cap = self.default_model_max_in_flight.map_or_else(|| "(none)".to_owned(), |cap| cap.to_string());
        let default = self.brownout_default.as_ref().and_then(|policy| serde_json::to_string(policy).ok());
        vec![
            ("OBLETH_GLOBAL_MAX_IN_FLIGHT", self.slots.to_string()),
            ("OBLETH_DEFAULT_MODEL_MAX_IN_FLIGHT", cap),
            ("OBLETH_ADMISSION_TIMEOUT_SECS", self.timeout.as_secs().to_string()),
            ("OBLETH_TENANT_MAX_QUEUED", self.tenant_max_queued.to_string()),
            ("OBLETH_MAX_QUEUED", self.max_queued.to_string()),
            ("OBLETH_BROWNOUT_WAIT_MS", self.brownout_wait_ms.to_string()),
            ("OBLETH_BROWNOUT_DEFAULT", default.unwrap_or_else(|| "(off)".to_owned())),
            ("OBLETH_SSE_PING_SECS", self.ping_every.map_or(0, |every| every.as_secs()).to_string()),
        ]
    }
}
