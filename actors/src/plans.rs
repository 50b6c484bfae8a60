//! The registry's records as the scheduler takes them.

use crate::admin::brownout::BrownoutDefaults;
use obleth_core::fair_queue::{GroupPlan, ModelPlan, TenantPlan};
use obleth_core::registry::{Model, Registry, Tenant};

/// Turns records into plans; holds the defaults of records that set no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plans {
    /// `OBLETH_DEFAULT_MODEL_MAX_IN_FLIGHT`.
    pub default_model_max_in_flight: Option<u32>,
    /// `OBLETH_BROWNOUT_...`.
    pub brownout: BrownoutDefaults,
}

impl Plans {
    /// The plan of a model.
    pub fn model(&self, model: &Model) -> ModelPlan {
        ModelPlan {
            id: model.id,
            cost_factor: model.admission_weight,
            max_in_flight: model.max_in_flight.or(self.default_model_max_in_flight),
        }
    }

    /// The plan of a tenant. `None`: its group is not in this snapshot.
    pub fn tenant(&self, registry: &Registry, tenant: &Tenant) -> Option<TenantPlan> {
        let group = registry.group(tenant.group)?;
        Some(TenantPlan {
            id: tenant.id,
            weight: tenant.weight,
            group: GroupPlan { id: group.id, weight: group.weight },
            max_in_flight: tenant.max_in_flight,
            max_queued: tenant.max_queued,
        })
    }
}
