//! Why one request waits: the facts of its place, for whoever asks about it.
//!
//! Is: read only, and asked for requests that queue, never for those seated at once. Is not: a forecast of
//! when it will be granted (`pace`).

use super::fairness::{among, entitled};
use super::plan::{Demand, TicketId};
use super::state::{Cell, Group, Lane, Model, Tenant, Ticket};
use super::{FairQueue, Place};
use crate::ids::KeyId;
use crate::units::{Portion, Share};

/// The limit that holds a request back: the narrowest of those that are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Nothing but its turn.
    None,
    /// All slots are taken.
    Slots,
    ModelCap,
    TenantCap,
    KeyCap,
}

/// Where a request stands. Shares are those on its own model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Requests of its own tenant that came before it and wait.
    pub ahead_of_tenant: u32,
    /// Requests of all tenants that wait, its own tenant's included and itself not.
    pub others_waiting: u32,
    pub bound: Bound,
    /// By weight among the groups and tenants active on the model, itself included.
    pub entitled: Portion,
    /// Of what was charged on the model in the window that `Picture::window_start` tells.
    pub actual: Portion,
}

/// What a position is told by.
struct Asker<'a> {
    tenant: Option<&'a Tenant>,
    group: Option<&'a Group>,
    model: Option<(Place, &'a Model)>,
    key_full: bool,
    tenant_full: bool,
    model_full: bool,
    weight: Share,
    group_weight: Share,
}

impl FairQueue {
    /// Where a request that arrives now would stand.
    pub fn position_of(&self, demand: &Demand) -> Position {
        let tenant = self.tenants.find(&demand.tenant.id);
        let place = self.models.place(&demand.model.id);
        let model = place.and_then(|place| Some((place, self.models.at(place)?)));
        let full = |cap: Option<u32>, in_flight: u32| cap.is_some_and(|cap| in_flight >= cap);
        let asker = Asker {
            tenant,
            group: self.groups.find(&demand.tenant.group.id),
            model,
            key_full: demand.key.is_some_and(|(key, cap)| key_in_flight(tenant, key) >= cap),
            tenant_full: full(demand.tenant.max_in_flight, tenant.map_or(0, |tenant| tenant.in_flight)),
            model_full: full(demand.model.max_in_flight, model.map_or(0, |(_, model)| model.in_flight)),
            weight: demand.tenant.weight,
            group_weight: demand.tenant.group.weight,
        };
        let ahead = tenant.map_or(0, |tenant| tenant.queued.count);
        self.position(&asker, ahead, self.counts.queued)
    }

    /// Where a waiting request stands now; `None` when it does not wait.
    pub fn position_at(&self, ticket: TicketId) -> Option<Position> {
        let Some(Ticket::Waiting(waiting)) = self.tickets.get(&ticket) else { return None };
        let tenant = self.tenants.at(waiting.tenant)?;
        let group = self.groups.at(tenant.group)?;
        let model = self.models.at(waiting.model)?;
        let line = waiting.key.counted().and_then(|key| tenant.keys.get(&key));
        let asker = Asker {
            tenant: Some(tenant),
            group: Some(group),
            model: Some((waiting.model, model)),
            key_full: line.is_some_and(|line| line.in_flight >= line.cap),
            tenant_full: tenant.blocked(),
            model_full: !model.open(),
            weight: tenant.plan.weight,
            group_weight: group.plan.weight,
        };
        let ahead = tenant.waiting(None).range(..ticket).count();
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        Some(self.position(&asker, ahead, self.counts.queued.saturating_sub(1)))
    }

    fn position(&self, asker: &Asker<'_>, ahead: u32, others: u32) -> Position {
        let lane = asker.model.and_then(|(place, _)| asker.tenant?.lane(place));
        let step = self.watch.step;
        let own = lane.map_or(0, |lane| lane.recent.sum(step));
        let all = asker.model.map_or(0, |(_, model)| model.recent.sum(step));
        Position {
            ahead_of_tenant: ahead,
            others_waiting: others,
            bound: self.bound(asker),
            entitled: entitled_on_model(asker, lane),
            actual: Portion::of(own.into(), all.into()),
        }
    }

    fn bound(&self, asker: &Asker<'_>) -> Bound {
        match asker {
            Asker { key_full: true, .. } => Bound::KeyCap,
            Asker { tenant_full: true, .. } => Bound::TenantCap,
            Asker { model_full: true, .. } => Bound::ModelCap,
            _ if self.counts.in_flight >= self.slots() => Bound::Slots,
            _ => Bound::None,
        }
    }
}

/// On the model, as if the tenant were active there already.
fn entitled_on_model(asker: &Asker<'_>, lane: Option<&Lane>) -> Portion {
    let cell: Option<&Cell> = asker.model.and_then(|(place, _)| asker.group?.cell(place));
    let members = cell.map_or(0, |cell| cell.active_weight);
    let groups = asker.model.map_or(0, |(_, model)| model.active_weight);
    entitled(
        among(members, lane.map_or(0, |lane| lane.counted), asker.weight),
        among(groups, cell.map_or(0, |cell| cell.counted), asker.group_weight),
    )
}

fn key_in_flight(tenant: Option<&Tenant>, key: KeyId) -> u32 {
    tenant.and_then(|tenant| tenant.keys.get(&key)).map_or(0, |line| line.in_flight)
}
