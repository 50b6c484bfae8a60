//! What the metrics show.

use super::Env;

/// Labels that cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `OBLETH_METRICS_TENANT_LABELS`: series by tenant, for 50 of them and the rest together.
    pub tenant_labels: bool,
}

impl MetricsConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        Self { tenant_labels: env.flag("OBLETH_METRICS_TENANT_LABELS", false) }
    }

    pub(super) fn effective(self) -> Vec<(&'static str, String)> {
        vec![("OBLETH_METRICS_TENANT_LABELS", self.tenant_labels.to_string())]
    }
}
