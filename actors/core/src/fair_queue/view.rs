//! The state for people: plain data, ordered by id.

use super::account::Tag;
use super::cost::UNITS_A_TOKEN;
use super::picture::{Picture, TenantRow};
use super::{FairQueue, Place};
use crate::ids::{GroupId, ModelId};
use crate::units::Share;
use std::collections::BTreeMap;

/// A picture of the queue. Virtual times are in [`Dump::TOKEN`]ths of a token per weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    pub slots: u32,
    pub in_flight: u32,
    pub queued: u32,
    /// Every tenant the queue remembers.
    pub tenants: Vec<TenantRow>,
    pub groups: Vec<GroupView>,
    pub models: Vec<ModelView>,
}

impl Dump {
    /// Virtual time of one token of a model with factor 1 at weight 1.
    pub const TOKEN: i128 = 100 << 32;
    /// Units of `served_cost` in one token of a model with factor 1.
    pub const COST_UNITS_A_TOKEN: u64 = UNITS_A_TOKEN;
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub id: GroupId,
    pub weight: Share,
    pub in_flight: u32,
    pub queued: u32,
    pub virtual_time: i128,
    /// Its clock on each model, by id.
    pub clocks: BTreeMap<ModelId, i128>,
}

/// A model pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelView {
    pub id: ModelId,
    pub in_flight: u32,
    pub queued: u32,
    pub cap: Option<u32>,
    /// The clock of the groups on it.
    pub clock: i128,
}

impl FairQueue {
    /// The whole state. Takes time in proportion to all that is known.
    pub fn dump(&self) -> Dump {
        Dump {
            slots: self.settings.slots,
            in_flight: self.counts.in_flight,
            queued: self.counts.queued,
            tenants: self.tenant_rows(),
            groups: self.group_views(),
            models: self.model_views(),
        }
    }

    fn tenant_rows(&self) -> Vec<TenantRow> {
        let mut picture = Picture::default();
        for place in 0..self.tenants.places() {
            self.copy_tenant(&mut picture, place);
        }
        picture.tenants.sort_by_key(|row| row.id);
        picture.tenants
    }

    fn group_views(&self) -> Vec<GroupView> {
        let mut in_flight: BTreeMap<Place, u32> = BTreeMap::new();
        for (_, tenant) in self.tenants.iter() {
            let sum = in_flight.entry(tenant.group).or_default();
            *sum = sum.saturating_add(tenant.in_flight);
        }
        let clocks = |group: &super::state::Group| -> BTreeMap<ModelId, Tag> {
            let cells = group.cells.iter().enumerate();
            cells
                .filter_map(|(place, cell)| {
                    Some((self.models.at(place)?.plan.id, cell.as_ref()?.clock.now()))
                })
                .collect()
        };
        let view = |(place, group): (Place, &super::state::Group)| GroupView {
            id: group.plan.id,
            weight: group.plan.weight,
            in_flight: in_flight.get(&place).copied().unwrap_or_default(),
            queued: group.queued,
            virtual_time: group.account.tag,
            clocks: clocks(group),
        };
        let mut views: Vec<GroupView> = self.groups.iter().map(view).collect();
        views.sort_by_key(|view| view.id);
        views
    }

    fn model_views(&self) -> Vec<ModelView> {
        let view = |(_, model): (Place, &super::state::Model)| ModelView {
            id: model.plan.id,
            in_flight: model.in_flight,
            queued: model.queued,
            cap: model.plan.max_in_flight,
            clock: model.clock.now(),
        };
        let mut views: Vec<ModelView> = self.models.iter().map(view).collect();
        views.sort_by_key(|view| view.id);
        views
    }
}
