//! Names and the plans behind them. Places and ids follow the order of first mention, in the scenario and
//! then in the trace.

use super::scenario::Terms;
use obleth_core::fair_queue::{GroupPlan, ModelPlan, TenantPlan};
use obleth_core::ids::{GroupId, ModelId, TenantId};
use obleth_core::units::{CostFactor, Share};
use std::collections::HashMap;
use std::num::NonZeroU32;
use uuid::Uuid;

/// The group of tenants that name none.
const DEFAULT_GROUP: &str = "default";

/// Place of a tenant, a model or a group in its list.
pub(super) type Place = usize;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Directory {
    groups: List<Share>,
    models: List<ModelPlan>,
    tenants: List<Tenant>,
    default: Terms,
}

/// A tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenant {
    pub(super) plan: TenantPlan,
    pub(super) group: Place,
}

/// Items in order, and the places of their names.
#[derive(Debug)]
struct List<T> {
    items: Vec<(String, T)>,
    places: HashMap<String, Place>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), places: HashMap::new() }
    }
}

impl<T> List<T> {
    fn add(&mut self, kind: &str, name: &str, item: T) -> Result<Place, String> {
        let place = self.items.len();
        if self.places.insert(name.to_owned(), place).is_some() {
            return Err(format!("{kind} {name:?} is listed twice"));
        }
        self.items.push((name.to_owned(), item));
        Ok(place)
    }

    fn at(&self, place: Place) -> Option<&T> {
        self.items.get(place).map(|(_, item)| item)
    }

    fn next_id(&self) -> Uuid {
        Uuid::from_u128(u128::try_from(self.items.len()).unwrap_or_default().saturating_add(1))
    }
}

impl Directory {
    pub(super) fn add_group(&mut self, name: &str, weight: Share) -> Result<Place, String> {
        self.groups.add("group", name, weight)
    }

    pub(super) fn add_model(
        &mut self,
        name: &str,
        cost_factor: CostFactor,
        max_in_flight: Option<u32>,
    ) -> Result<Place, String> {
        let plan = ModelPlan { id: ModelId(self.models.next_id()), cost_factor, max_in_flight };
        self.models.add("model", name, plan)
    }

    /// What tenants take that are met in the trace only.
    pub(super) fn set_default(&mut self, terms: &Terms) -> Result<(), String> {
        if let Some(name) = &terms.group {
            self.group_named("default_tenant", name)?;
        }
        self.default = terms.clone();
        Ok(())
    }

    pub(super) fn add_tenant(&mut self, name: &str, terms: &Terms) -> Result<Place, String> {
        let group = self.group_named(name, terms.group.as_deref().unwrap_or(DEFAULT_GROUP))?;
        let id = Uuid::from_u128(u128::try_from(group).unwrap_or_default().saturating_add(1));
        let group_weight = self.groups.at(group).copied().unwrap_or(Share::DEFAULT);
        let plan = TenantPlan {
            id: TenantId(self.tenants.next_id()),
            weight: terms.weight.unwrap_or(Share::DEFAULT),
            group: GroupPlan { id: GroupId(id), weight: group_weight },
            max_in_flight: terms.max_in_flight.map(NonZeroU32::get),
            max_queued: terms.max_queued,
        };
        self.tenants.add("tenant", name, Tenant { plan, group })
    }

    fn group_named(&mut self, of: &str, name: &str) -> Result<Place, String> {
        match self.groups.places.get(name) {
            Some(place) => Ok(*place),
            None if name == DEFAULT_GROUP => self.add_group(name, Share::DEFAULT),
            None => Err(format!("group {name:?} of {of:?} is not listed in groups")),
        }
    }

    /// The tenant of this name; one not known takes the defaults.
    pub(super) fn tenant_named(&mut self, name: &str) -> Result<Place, String> {
        match self.tenants.places.get(name) {
            Some(place) => Ok(*place),
            None => self.add_tenant(name, &self.default.clone()),
        }
    }

    /// The model of this name; one not known has factor 1 and no cap.
    pub(super) fn model_named(&mut self, name: &str) -> Result<Place, String> {
        match self.models.places.get(name) {
            Some(place) => Ok(*place),
            None => self.add_model(name, CostFactor::ONE, None),
        }
    }

    pub(super) fn tenant(&self, place: Place) -> Option<&Tenant> {
        self.tenants.at(place)
    }

    pub(super) fn model(&self, place: Place) -> Option<&ModelPlan> {
        self.models.at(place)
    }

    pub(super) fn tenant_name(&self, place: Place) -> &str {
        self.tenants.items.get(place).map_or("", |(name, _)| name)
    }

    pub(super) fn group_name(&self, place: Place) -> &str {
        self.groups.items.get(place).map_or("", |(name, _)| name)
    }
}
