//! Changes while requests wait and run: weights, groups, caps, slots; suspension and removal.

use super::account::Tag;
use super::plan::{GroupPlan, ModelPlan, Refusal, TenantPlan, TicketId};
use super::planted::{Fault, planted};
use super::state::{KeyLine, Keyed, Tenant, Ticket};
use super::{FairQueue, Place};
use crate::ids::{KeyId, ModelId, TenantId};
use crate::moment::Moment;
use std::collections::BTreeMap;

impl FairQueue {
    /// Sets D. Fewer than are out: the next grants wait until enough came back.
    pub fn set_slots(&mut self, now: Moment, slots: u32) {
        self.note_time(now);
        self.settings.slots = slots;
        self.dispatch(now);
    }

    /// Changes a tenant. One the queue has not heard of needs no change: its demands carry the plan.
    pub fn set_tenant(&mut self, now: Moment, plan: TenantPlan) {
        self.note_time(now);
        let Some(place) = self.tenants.place(&plan.id) else { return };
        self.apply_tenant(place, plan);
        self.dispatch(now);
    }

    /// Changes a group.
    pub fn set_group(&mut self, now: Moment, plan: GroupPlan) {
        self.note_time(now);
        let Some(place) = self.groups.place(&plan.id) else { return };
        self.apply_group(place, plan);
        self.dispatch(now);
    }

    /// Changes the cap of a tenant's key, [`super::NO_CAP`] = none. Takes time in proportion to all that
    /// waits and runs.
    pub fn set_key(&mut self, now: Moment, tenant: TenantId, key: KeyId, cap: u32) {
        self.note_time(now);
        let Some(place) = self.tenants.place(&tenant) else { return };
        self.count_key(place, key, cap);
        let Some(tenant) = self.tenants.at_mut(place) else { return };
        tenant.settle_key(key);
        tenant.forget_key(key);
        self.refresh(place);
        self.dispatch(now);
    }

    /// Requests of the key that came while it had no cap are counted from now on.
    fn count_key(&mut self, place: Place, key: KeyId, cap: u32) {
        let Self { tenants, tickets, .. } = self;
        let Some(Tenant { keys, lanes, .. }) = tenants.at_mut(place) else { return };
        let line = keys.entry(key).or_insert(KeyLine { cap, in_flight: 0, queues: BTreeMap::new() });
        line.cap = cap;
        let known = Keyed::Known(key);
        for (id, ticket) in tickets {
            match ticket {
                Ticket::Waiting(waiting) if waiting.tenant == place && waiting.key == known => {
                    waiting.key = Keyed::Counted(key);
                    line.queues.entry(waiting.model).or_default().waiting.insert(*id);
                    if let Some(lane) = lanes.iter_mut().find(|lane| lane.model == waiting.model) {
                        lane.ready.remove(id);
                    }
                }
                Ticket::Seated(seat) if seat.tenant == place && seat.key == known => {
                    seat.key = Keyed::Counted(key);
                    line.in_flight = line.in_flight.saturating_add(1);
                }
                Ticket::Waiting(_) | Ticket::Seated(_) => {}
            }
        }
    }

    /// Changes a model. Running requests keep the factor they were granted with.
    pub fn set_model(&mut self, now: Moment, plan: ModelPlan) {
        self.note_time(now);
        let Some(place) = self.models.place(&plan.id) else { return };
        if let Some(model) = self.models.at_mut(place) {
            model.plan = plan;
        }
        if planted(Fault::RaiseIgnored) {
            return;
        }
        self.dispatch(now);
    }

    /// Refuses what the tenant has waiting; what runs finishes.
    pub fn suspend_tenant(&mut self, now: Moment, tenant: TenantId) {
        self.note_time(now);
        let Some(place) = self.tenants.place(&tenant) else { return };
        self.dismiss_waiting(place, None, None);
        self.dispatch(now);
    }

    /// Refuses what a tenant's key has waiting; what runs finishes.
    pub fn dismiss_key(&mut self, now: Moment, tenant: TenantId, key: KeyId) {
        self.note_time(now);
        let Some(place) = self.tenants.place(&tenant) else { return };
        self.dismiss_waiting(place, None, Some(key));
        self.dispatch(now);
    }

    /// Refuses what waits for the model; what runs finishes, then the model is forgotten.
    pub fn remove_model(&mut self, now: Moment, model: ModelId) {
        self.note_time(now);
        let Some(place) = self.models.place(&model) else { return };
        let waits = |tenant: &Tenant| tenant.lane(place).is_some_and(|lane| lane.queued > 0);
        let waiting: Vec<Place> =
            self.tenants.iter().filter(|(_, tenant)| waits(tenant)).map(|(tenant, _)| tenant).collect();
        for tenant in waiting {
            self.dismiss_waiting(tenant, Some(place), None);
        }
        if let Some(model) = self.models.at_mut(place) {
            model.removed = true;
        }
        self.drop_model_if_removed(place);
        self.dispatch(now);
    }

    /// Refuses what a tenant has waiting; of one model, or of one key, or all.
    fn dismiss_waiting(&mut self, tenant: Place, model: Option<Place>, key: Option<KeyId>) {
        let tickets: Vec<TicketId> = self
            .tenants
            .at(tenant)
            .map(|tenant| tenant.waiting(model).into_iter().collect())
            .unwrap_or_default();
        for ticket in tickets.into_iter().skip(usize::from(planted(Fault::SuspensionMisses))) {
            if let Some(Ticket::Waiting(waiting)) = self.tickets.get(&ticket)
                && key.is_none_or(|key| waiting.key.is(key))
            {
                let waiting = *waiting;
                self.dismiss(ticket, &waiting, Refusal::Suspended);
            }
        }
    }

    /// Forgets a removed model with its last request.
    pub(super) fn drop_model_if_removed(&mut self, place: Place) {
        let Some(model) = self.models.at(place) else { return };
        if !model.removed || model.in_flight > 0 || model.queued > 0 {
            return;
        }
        let id = model.plan.id;
        for (_, tenant) in self.tenants.iter_mut() {
            tenant.lanes.retain(|lane| lane.model != place);
        }
        for (_, group) in self.groups.iter_mut() {
            if let Some(cell) = group.cells.get_mut(place) {
                *cell = None;
            }
        }
        self.models.remove(&id);
    }

    /// Puts a new plan of a tenant into force.
    pub(super) fn apply_tenant(&mut self, place: Place, plan: TenantPlan) {
        let Some(old) = self.tenants.at(place).map(|tenant| tenant.plan) else { return };
        let group = self.meet_group(plan.group);
        if plan.measure() != old.measure() {
            self.remeasure_tenant(place, old, plan, group);
        }
        if let Some(tenant) = self.tenants.at_mut(place) {
            tenant.plan = plan;
        }
        self.note_score(place);
        self.refresh(place);
    }

    /// Another weight, another group, or both; unless another replica has seen to it already.
    fn remeasure_tenant(&mut self, place: Place, old: TenantPlan, plan: TenantPlan, group: Place) {
        let (own, new) = (old.measure(), plan.measure());
        let before = self.shared.as_ref().map_or(own, |shared| shared.records.measure_of_tenant(place, own));
        if new.group != own.group {
            self.move_tenant(place, group, before.group == new.group);
        }
        let clock = self.clock_of(place);
        if let Some(tenant) = self.tenants.at_mut(place) {
            if before == new {
                tenant.account.remeasure(own.weight, new.weight);
            } else if before.weight != new.weight {
                let clock = clock.unwrap_or(tenant.account.tag);
                tenant.account.reweigh(clock, before.weight, new.weight);
            }
            if new.weight != own.weight {
                tenant.contends_since = None;
            }
        }
        if let Some(shared) = self.shared.as_mut() {
            shared.records.own_measure_of_tenant(place);
        }
    }

    /// Puts a new plan of a group into force.
    pub(super) fn apply_group(&mut self, place: Place, plan: GroupPlan) {
        let Self { groups, models, watch, shared, .. } = self;
        let Some(group) = groups.at_mut(place) else { return };
        if group.plan == plan {
            return;
        }
        let own = group.plan.measure();
        let before = shared.as_ref().map_or(own, |shared| shared.records.measure_of_group(place, own));
        let active =
            group.cells.iter().enumerate().filter(|(_, cell)| cell.as_ref().is_some_and(|c| c.counted > 0));
        let clocks = active.filter_map(|(model, _)| Some(models.at(model)?.clock.now()));
        let clock = clocks.max().unwrap_or(group.account.tag);
        if before == plan.measure() {
            group.account.remeasure(group.plan.weight, plan.weight);
        } else {
            group.account.reweigh(clock, before.weight, plan.weight);
        }
        if let Some(shared) = shared {
            shared.records.own_measure_of_group(place);
        }
        if group.plan.weight != plan.weight {
            group.weighed_since = watch.now;
        }
        group.plan = plan;
        self.refresh_group(place);
    }

    /// Leaves a group and enters another at its clock, where its tag may be already. Running requests stay charged to
    /// the old group.
    fn move_tenant(&mut self, place: Place, to: Place, is_there: bool) {
        let before = self.clock_of(place);
        self.withdraw(place);
        let Some(tenant) = self.tenants.at_mut(place) else { return };
        let (from, queued) = (tenant.group, tenant.queued.count);
        tenant.group = to;
        let models: Vec<Place> = tenant.lanes.iter().map(|lane| lane.model).collect();
        for model in models {
            self.meet_lane(place, model);
        }
        if let Some(group) = self.groups.at_mut(from) {
            group.members = group.members.saturating_sub(1);
            group.queued = group.queued.saturating_sub(queued);
        }
        self.welcome(place, to, queued);
        let after = self.clock_of(place);
        if let Some(tenant) = self.tenants.at_mut(place) {
            let tag = tenant.account.tag;
            if is_there {
                tenant.account.arrive(after.unwrap_or(tag));
            } else {
                tenant.account.rebase(before.unwrap_or(tag), after.unwrap_or_default());
            }
        }
        self.refresh(place);
        self.forget_group_if_empty(from);
    }

    /// The side of the group that a tenant enters.
    fn welcome(&mut self, tenant: Place, group: Place, queued: u32) {
        let Some(tenant) = self.tenants.at(tenant) else { return };
        let lanes = tenant.lanes.iter().filter(|lane| lane.queued > 0);
        let clock = lanes.filter_map(|lane| Some(self.models.at(lane.model)?.clock.now())).max();
        let Some(group) = self.groups.at_mut(group) else { return };
        group.members = group.members.saturating_add(1);
        if group.queued == 0
            && let Some(clock) = clock
        {
            self.counts.activations = self.counts.activations.wrapping_add(1);
            group.activation = self.counts.activations;
            group.account.activate(clock);
        }
        group.queued = group.queued.saturating_add(queued);
    }

    /// The clock to measure a tenant by: the foremost of the pools where it is active, else of all it was heard of on,
    /// else of all its group has, as one that is known from other replicas alone.
    pub(super) fn clock_of(&self, tenant: Place) -> Option<Tag> {
        let tenant = self.tenants.at(tenant)?;
        let group = self.groups.at(tenant.group)?;
        let clocks = |active: bool| {
            let lanes = tenant.lanes.iter().filter(move |lane| !active || lane.is_active());
            lanes.map(|lane| group.clock(lane.model)).max()
        };
        let all = || group.cells.iter().flatten().map(|cell| cell.clock.now()).max();
        clocks(true).or_else(|| clocks(false)).or_else(all)
    }
}
