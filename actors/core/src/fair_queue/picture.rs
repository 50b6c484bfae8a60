//! The state for the live view and the gauges, copied in pieces.
//!
//! Is: plain rows, and a place from which the next piece goes on, so that a lock around the queue is held
//! for a piece and not for a hundred thousand tenants. Is not: a picture of one moment when it took several
//! pieces; each row is true of the moment it was copied in.

use super::FairQueue;
use super::state::{Lane, Model, Tenant};
use crate::ids::{GroupId, ModelId, TenantId};
use crate::moment::Moment;
use crate::units::{CostFactor, Share};

/// See the module head. Costs are in hundredths of a token, virtual times as in [`super::Dump`].
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// When it was begun.
    pub taken: Moment,
    /// Since when `recent_cost` counts; `None` while the queue is younger than a window.
    pub window_start: Option<Moment>,
    pub slots: u32,
    pub in_flight: u32,
    pub queued: u32,
    /// Tenants the queue knows.
    pub known_tenants: usize,
    pub tenants: Vec<TenantRow>,
    pub groups: Vec<GroupRow>,
    pub models: Vec<ModelRow>,
    /// Of requests that ended in the window with known usage: sum of |forecast − actual|, sum of actual.
    pub forecast_errors: (u64, u64),
    lanes: Vec<LaneRow>,
    next_tenant: usize,
    next_group: usize,
}

/// A tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantRow {
    pub id: TenantId,
    pub group: GroupId,
    pub weight: Share,
    pub in_flight: u32,
    pub queued: u32,
    /// Sum of charges, forecasts of running requests included.
    pub served_cost: i128,
    pub virtual_time: i128,
    /// Virtual time less the clock of the pools it is active on: positive = had more than its share.
    pub lag: i128,
    /// At its own cap with something waiting.
    pub blocked: bool,
    /// Arrival of its oldest waiting request.
    pub waiting_since: Option<Moment>,
    /// Since when, without a break, it has had something waiting that only the slots or a model kept
    /// from running, at the same weight.
    pub contends_since: Option<Moment>,
    /// Its rows in `lanes`.
    pub(super) lanes: (usize, usize),
}

/// A tenant on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRow {
    pub model: ModelId,
    pub active: bool,
    /// Charged in the window.
    pub recent_cost: u64,
}

/// A group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRow {
    pub id: GroupId,
    pub weight: Share,
    pub queued: u32,
    pub virtual_time: i128,
    /// Since when it has this weight.
    pub weighed_since: Moment,
}

/// A model pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRow {
    pub id: ModelId,
    pub in_flight: u32,
    pub queued: u32,
    pub cap: Option<u32>,
    pub cost_factor: CostFactor,
    /// Charged in the window.
    pub recent_cost: u64,
    /// Whether its own cap was reached in the window: its tenants compete for it and not for the slots.
    pub was_full: bool,
}

impl TenantRow {
    /// One that only another replica knows: who, what runs and waits, what it was charged with tag and lag, and since
    /// when it waits.
    pub(super) fn of_another(
        (id, group, weight): (TenantId, GroupId, Share),
        (in_flight, queued): (u32, u32),
        (served_cost, virtual_time, lag): (i128, i128, i128),
        (blocked, waiting_since, contends_since): (bool, Option<Moment>, Option<Moment>),
    ) -> Self {
        Self {
            id,
            group,
            weight,
            in_flight,
            queued,
            served_cost,
            virtual_time,
            lag,
            blocked,
            waiting_since,
            contends_since,
            lanes: (0, 0),
        }
    }
}

impl Picture {
    /// A row of this picture with other lanes.
    pub(super) fn with_lanes(&mut self, row: TenantRow, lanes: Vec<LaneRow>) -> TenantRow {
        let first = self.lanes.len();
        self.lanes.extend(lanes);
        TenantRow { lanes: (first, self.lanes.len()), ..row }
    }

    /// The models of a tenant of this picture.
    pub fn lanes_of(&self, tenant: &TenantRow) -> &[LaneRow] {
        self.lanes.get(tenant.lanes.0..tenant.lanes.1).unwrap_or_default()
    }
}

impl FairQueue {
    /// A picture with everything but tenants and groups, which [`Self::copy_into`] adds.
    pub fn begin_picture(&mut self, now: Moment) -> Picture {
        self.note_time(now);
        Picture {
            taken: now,
            window_start: self.watch.window_start(),
            slots: self.settings.slots,
            in_flight: self.counts.in_flight,
            queued: self.counts.queued,
            known_tenants: self.tenants.len(),
            models: self.model_rows(),
            forecast_errors: self.watch.errors(),
            ..Picture::default()
        }
    }

    /// The model pools alone.
    pub fn model_rows(&self) -> Vec<ModelRow> {
        let row = |model: &Model| ModelRow {
            id: model.plan.id,
            in_flight: model.in_flight,
            queued: model.queued,
            cap: model.plan.max_in_flight,
            cost_factor: model.plan.cost_factor,
            recent_cost: model.recent.sum(self.watch.step),
            was_full: !model.open() || model.full_at.is_some_and(|at| self.watch.in_window(at)),
        };
        self.models.iter().map(|(_, model)| row(model)).collect()
    }

    /// Copies the next `most` tenants and groups; whether that was all.
    pub fn copy_into(&self, picture: &mut Picture, most: usize) -> bool {
        let end = |next: usize, all: usize| next.saturating_add(most).min(all);
        let tenants = picture.next_tenant..end(picture.next_tenant, self.tenants.places());
        let groups = picture.next_group..end(picture.next_group, self.groups.places());
        (picture.next_tenant, picture.next_group) = (tenants.end, groups.end);
        for place in tenants {
            self.copy_tenant(picture, place);
        }
        let rows = groups.filter_map(|place| self.groups.at(place)).map(|group| GroupRow {
            id: group.plan.id,
            weight: group.plan.weight,
            queued: group.queued,
            virtual_time: group.account.tag,
            weighed_since: group.weighed_since,
        });
        picture.groups.extend(rows);
        picture.next_tenant >= self.tenants.places() && picture.next_group >= self.groups.places()
    }

    pub(super) fn copy_tenant(&self, picture: &mut Picture, place: usize) {
        let Some(tenant) = self.tenants.at(place) else { return };
        let first = picture.lanes.len();
        let row = |lane: &Lane| {
            let model = self.models.at(lane.model)?.plan.id;
            let recent_cost = lane.recent.sum(self.watch.step);
            Some(LaneRow { model, active: lane.is_active(), recent_cost })
        };
        picture.lanes.extend(tenant.lanes.iter().filter_map(row));
        picture.tenants.push(TenantRow {
            id: tenant.plan.id,
            group: tenant.plan.group.id,
            weight: tenant.plan.weight,
            in_flight: tenant.in_flight,
            queued: tenant.queued.count,
            served_cost: tenant.served,
            virtual_time: tenant.account.tag,
            lag: self.clock_of(place).map_or(0, |clock| tenant.account.tag.saturating_sub(clock)),
            blocked: tenant.blocked() && tenant.queued.count > 0,
            waiting_since: self.waiting_since(tenant),
            contends_since: tenant.contends_since,
            lanes: (first, picture.lanes.len()),
        });
    }

    /// When the oldest waiting request of a tenant came. Tickets ascend in order of arrival, so only the
    /// heads of its queues are looked at.
    pub(super) fn waiting_since(&self, tenant: &Tenant) -> Option<Moment> {
        let ready = tenant.lanes.iter().filter_map(|lane| lane.ready.first());
        let keyed = tenant.keys.values().flat_map(|key| key.queues.values());
        let oldest = ready.chain(keyed.filter_map(|queue| queue.waiting.first())).min()?;
        match self.tickets.get(oldest)? {
            super::state::Ticket::Waiting(waiting) => Some(waiting.since),
            super::state::Ticket::Seated(_) => None,
        }
    }
}
