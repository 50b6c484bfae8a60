//! What tenants were entitled to: the fluid share by weight of what was served while they waited.
//!
//! Each grant on a model is divided among the groups, and within them among the tenants, that wait for the
//! model at that moment, by weight (generalised processor sharing). A tenant that waits for several models
//! counts at the one with most of its requests; one at its own cap does not count. Who is served without
//! waiting, or until nothing is left waiting, was entitled to what it got.

use super::directory::{Place, Tenant};
use obleth_core::fair_queue::ModelPlan;
use std::collections::BTreeMap;

/// Cost per weight, × 2³².
type Level = i128;

fn level(cost: u64, weight: u64) -> Level {
    i128::from(cost).saturating_mul(1 << 32) / i128::from(weight.max(1))
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Entitlement {
    models: BTreeMap<Place, Shared>,
    cells: BTreeMap<(Place, Place), Cell>,
}

/// A model, shared by groups.
#[derive(Debug, Default)]
struct Shared {
    level: Level,
    weight: u64,
}

/// A group on a model, shared by its tenants.
#[derive(Debug, Default)]
struct Cell {
    level: Level,
    /// The level of the model up to which this cell is up to date.
    seen: Level,
    weight: u64,
}

/// The account of one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    /// Where it waits, and the level there when that began.
    at: Option<(Place, Level)>,
    /// Served since then, in cost units.
    served: u64,
    /// Entitled to, and had, in cost units.
    pub(super) entitled: u64,
    pub(super) had: u64,
    /// The same over times of waiting that were not ended by a grant, the only ones that tell something.
    pub(super) contested_entitled: u64,
    pub(super) contested_had: u64,
}

impl Due {
    /// The model it waits for.
    pub(super) fn place(&self) -> Option<Place> {
        self.at.map(|(model, _)| model)
    }
}

impl Entitlement {
    /// A grant on a model, before it changes who waits.
    pub(super) fn granted(&mut self, due: &mut Due, model: Place, cost: u64) {
        due.had = due.had.saturating_add(cost);
        match due.at {
            Some(_) => due.served = due.served.saturating_add(cost),
            None => due.entitled = due.entitled.saturating_add(cost),
        }
        if let Some(shared) = self.models.get_mut(&model).filter(|shared| shared.weight > 0) {
            shared.level = shared.level.saturating_add(level(cost, shared.weight));
        }
    }

    /// The tenant waits somewhere else than before, or no more; `satisfied` when a grant left it with
    /// nothing to wait for.
    pub(super) fn moved(&mut self, due: &mut Due, tenant: &Tenant, to: Option<Place>, satisfied: bool) {
        if let Some((model, since)) = due.at.take() {
            let now = self.weigh(model, tenant, false);
            let share = now.saturating_sub(since).saturating_mul(i128::from(tenant.plan.weight.get())) >> 32;
            let share = u64::try_from(share).unwrap_or_default();
            if satisfied {
                due.entitled = due.entitled.saturating_add(due.served);
            } else {
                due.entitled = due.entitled.saturating_add(share);
                due.contested_entitled = due.contested_entitled.saturating_add(share);
                due.contested_had = due.contested_had.saturating_add(due.served);
            }
        }
        due.served = 0;
        due.at = to.map(|model| (model, self.weigh(model, tenant, true)));
    }

    /// Adds or removes the tenant's weight. The level of its group there.
    fn weigh(&mut self, model: Place, tenant: &Tenant, enters: bool) -> Level {
        let group_weight = u64::from(tenant.plan.group.weight.get());
        let weight = u64::from(tenant.plan.weight.get());
        let shared = self.models.entry(model).or_default();
        let cell = self.cells.entry((model, tenant.group)).or_default();
        if cell.weight > 0 {
            let grown = shared.level.saturating_sub(cell.seen).saturating_mul(i128::from(group_weight));
            cell.level = cell.level.saturating_add(grown / i128::from(cell.weight));
        } else {
            shared.weight = shared.weight.saturating_add(group_weight);
        }
        cell.seen = shared.level;
        cell.weight = match enters {
            true => cell.weight.saturating_add(weight),
            false => cell.weight.saturating_sub(weight),
        };
        if cell.weight == 0 {
            shared.weight = shared.weight.saturating_sub(group_weight);
        }
        cell.level
    }
}

/// Cost of tokens on a model, in hundredths of a token.
pub(super) fn cost(tokens: u64, model: &ModelPlan) -> u64 {
    tokens.saturating_mul(u64::from(model.cost_factor.hundredths()))
}
