//! Arrivals: what a demand teaches, the way past the queue, and the way into it.

use super::account::{Account, Clock};
use super::cost::Asked;
use super::plan::{Demand, Grant, GroupPlan, ModelPlan, NO_CAP, Refusal, TenantPlan, TicketId};
use super::planted::{Fault, planted};
use super::state::{Cell, Group, KeyLine, Keyed, Lane, Model, Queued, Tenant, Ticket, Waiting};
use super::{FairQueue, Place};
use crate::ids::{KeyId, ModelId, TenantId};
use crate::moment::Moment;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

impl FairQueue {
    /// A slot at once, if one is free for this demand. Nobody is overtaken: a free slot means that no
    /// one who waits could use it. A changed plan may set others free, so poll effects afterwards.
    pub fn try_seat(&mut self, now: Moment, demand: &Demand) -> Option<Grant> {
        if self.counts.in_flight >= self.slots() {
            return None;
        }
        let (tenant, model) = self.meet(now, demand);
        let waiting = self.describe(now, demand, tenant, model);
        if !self.may_start(&waiting) || self.yields(&waiting, true) {
            self.leave_idle(tenant, waiting.key.counted());
            return None;
        }
        self.activate(&waiting);
        let ticket = self.next_ticket();
        self.seat(now, ticket, &waiting, false)
    }

    /// Queues a demand and dispatches: its grant, perhaps already there, comes by `poll_effect`.
    pub fn enqueue(&mut self, now: Moment, demand: Demand) -> Result<TicketId, Refusal> {
        let (tenant, model) = self.meet(now, &demand);
        let waiting = self.describe(now, &demand, tenant, model);
        if !self.may_start(&waiting)
            && let Some(refusal) = self.refuses_to_queue(now, &waiting)
        {
            self.leave_idle(tenant, waiting.key.counted());
            return Err(refusal);
        }
        self.activate(&waiting);
        let ticket = self.next_ticket();
        self.join_queue(ticket, &waiting);
        self.dispatch(now);
        Ok(ticket)
    }

    fn next_ticket(&mut self) -> TicketId {
        let ticket = TicketId(self.counts.next_ticket);
        self.counts.next_ticket = self.counts.next_ticket.saturating_add(1);
        ticket
    }

    fn describe(&self, now: Moment, demand: &Demand, tenant: Place, model: Place) -> Waiting {
        let asked = Asked::of(demand);
        let cost = self.settings.cost(
            asked.prompt,
            self.forecast_of(tenant, model, &asked),
            demand.model.cost_factor,
        );
        let key = Keyed::of(demand.key);
        let prompt_cost = self.settings.cost(asked.prompt, 0, demand.model.cost_factor);
        Waiting { tenant, model, key, asked, cost, prompt_cost, since: now, deadline: demand.deadline }
    }

    /// The output forecast of a request.
    pub(super) fn forecast_of(&self, tenant: Place, model: Place, asked: &Asked) -> u64 {
        let own = self.tenants.at(tenant).and_then(|tenant| tenant.lane(model)?.average);
        self.settings.forecast(asked, own, self.models.at(model).and_then(|model| model.average))
    }

    /// Output tokens to expect of a request, all answers together, whether or not the queue has heard of the tenant
    /// and the model.
    pub fn expected_output(
        &self,
        tenant: TenantId,
        model: ModelId,
        max_output: Option<u64>,
        answers: u32,
    ) -> u64 {
        let asked = Asked { prompt: 0, max_output, answers: answers.max(1) };
        let place = self.models.place(&model);
        let own = self.tenants.find(&tenant).and_then(|tenant| tenant.lane(place?)?.average);
        let model = place.and_then(|place| self.models.at(place)?.average);
        self.settings.forecast(&asked, own, model)
    }

    /// Whether a slot is free for this request: of the queue, the model, the tenant and the key.
    fn may_start(&self, waiting: &Waiting) -> bool {
        let Some(tenant) = self.tenants.at(waiting.tenant) else { return false };
        let key_open = |key: KeyId| tenant.keys.get(&key).is_none_or(|line| line.in_flight < line.cap);
        self.counts.in_flight < self.slots()
            && self.models.at(waiting.model).is_some_and(Model::open)
            && !tenant.blocked()
            && waiting.key.counted().is_none_or(key_open)
    }

    /// The bounds of the queue: each tenant's own, then that of all, which the heaviest tenant feels as
    /// its own fault and the others as overload.
    fn refuses_to_queue(&mut self, now: Moment, waiting: &Waiting) -> Option<Refusal> {
        if self.is_nowhere(waiting) {
            return Some(Refusal::StoreAway { queued: false });
        }
        let tenant = self.tenants.at(waiting.tenant)?;
        let most = tenant.plan.max_queued.unwrap_or(self.settings.default_tenant_max_queued);
        let score = tenant.score_of(tenant.queued.cost.saturating_add(u128::from(waiting.cost)));
        let tenant_full = tenant.queued.count >= most;
        if !tenant_full && self.counts.queued < self.settings.max_queued {
            return None;
        }
        let retry_after = self.retry_after(now, waiting.tenant, waiting.model, waiting.key.counted());
        if tenant_full {
            return Some(Refusal::TenantQueueFull { retry_after });
        }
        let blamed = self.highest_score().is_none_or(|highest| score >= highest);
        Some(match blamed != planted(Fault::LightestBlamed) {
            true => Refusal::Heaviest { retry_after },
            false => Refusal::QueueFull { retry_after },
        })
    }

    /// A tenant with nothing queued, and a group with nothing queued, come back at the clock.
    fn activate(&mut self, waiting: &Waiting) {
        let Self { tenants, groups, models, counts, shared, watch, .. } = self;
        // Who waits at another replica has not been away.
        let away = shared.as_ref().map(|shared| {
            let group = tenants.at(waiting.tenant).map_or(0, |tenant| tenant.group);
            let records = &shared.records;
            (!records.tenant_waits(waiting.tenant, watch.now), !records.group_waits(group, watch.now))
        });
        let (tenant_away, group_away) = away.unwrap_or((true, true));
        let Some(tenant) = tenants.at_mut(waiting.tenant) else { return };
        let Some(group) = groups.at_mut(tenant.group) else { return };
        let Some(model) = models.at(waiting.model) else { return };
        if group.queued == 0 {
            counts.activations = counts.activations.wrapping_add(1);
            group.activation = counts.activations;
            if group_away {
                group.account.activate(model.clock.now());
            }
        }
        if tenant.queued.count == 0 {
            counts.activations = counts.activations.wrapping_add(1);
            tenant.activation = counts.activations;
            if tenant_away {
                tenant.account.activate(group.clock(waiting.model));
            }
        }
    }

    fn join_queue(&mut self, ticket: TicketId, waiting: &Waiting) {
        let Some(tenant) = self.tenants.at_mut(waiting.tenant) else { return };
        tenant.queued.count = tenant.queued.count.saturating_add(1);
        tenant.queued.cost = tenant.queued.cost.saturating_add(u128::from(waiting.cost));
        if let Some(lane) = tenant.lane_mut(waiting.model) {
            lane.queued = lane.queued.saturating_add(1);
            lane.work.add(waiting);
            if waiting.key.counted().is_none() {
                lane.ready.insert(ticket);
            }
        }
        if let Some(key) = waiting.key.counted() {
            if let Some(line) = tenant.keys.get_mut(&key) {
                line.queues.entry(waiting.model).or_default().waiting.insert(ticket);
            }
            tenant.settle_key(key);
        }
        if let Some(group) = self.groups.at_mut(tenant.group) {
            group.queued = group.queued.saturating_add(1);
        }
        if let Some(model) = self.models.at_mut(waiting.model) {
            model.queued = model.queued.saturating_add(1);
        }
        self.counts.queued = self.counts.queued.saturating_add(1);
        self.counts.step(self.deadlines.len());
        self.deadlines.extend(waiting.deadline.map(|deadline| (deadline, ticket)));
        self.tickets.insert(ticket, Ticket::Waiting(*waiting));
        self.note_score(waiting.tenant);
        self.refresh(waiting.tenant);
    }

    /// Learns the plans of a demand. Places of its tenant and its model.
    pub(super) fn meet(&mut self, now: Moment, demand: &Demand) -> (Place, Place) {
        self.note_time(now);
        let (model, model_changed) = self.meet_model(demand.model);
        let (tenant, tenant_changed) = self.meet_tenant(demand.tenant);
        // Before anything is dispatched: an ending in there may forget idle tenants.
        self.wake(tenant);
        let key_changed = self.meet_key(tenant, demand.key);
        self.meet_lane(tenant, model);
        if model_changed || tenant_changed || key_changed {
            self.refresh(tenant);
            self.dispatch(now);
        }
        (tenant, model)
    }

    fn meet_model(&mut self, plan: ModelPlan) -> (Place, bool) {
        if let Some(place) = self.models.place(&plan.id)
            && let Some(model) = self.models.at_mut(place)
        {
            let changed = model.plan != plan;
            model.plan = plan;
            model.removed = false;
            return (place, changed);
        }
        let clock = self.models.iter().filter(|(_, model)| model.open()).map(|(_, model)| model.clock.now());
        let model = Model {
            plan,
            in_flight: 0,
            queued: 0,
            clock: Clock::starting_at(clock.max().unwrap_or_default()),
            active_weight: 0,
            groups: BTreeSet::new(),
            average: None,
            pace: Default::default(),
            recent: Default::default(),
            full_at: None,
            removed: false,
            lease: self.first_lease(),
        };
        (self.models.insert(plan.id, model), false)
    }

    pub(super) fn meet_tenant(&mut self, plan: TenantPlan) -> (Place, bool) {
        if let Some(place) = self.tenants.place(&plan.id) {
            let changed = self.tenants.at(place).is_some_and(|tenant| tenant.plan != plan);
            if changed {
                self.apply_tenant(place, plan);
            }
            return (place, changed);
        }
        let group = self.meet_group(plan.group);
        if let Some(group) = self.groups.at_mut(group) {
            group.members = group.members.saturating_add(1);
        }
        let tenant = Tenant {
            plan,
            group,
            account: Account { era: self.first_era(), ..Account::default() },
            activation: 0,
            contends_since: None,
            in_flight: 0,
            queued: Queued::default(),
            served: 0,
            lanes: SmallVec::new(),
            counted: 0,
            keys: BTreeMap::new(),
            idle_mark: None,
            lease: self.first_lease(),
            starved: None,
        };
        (self.tenants.insert(plan.id, tenant), false)
    }

    pub(super) fn meet_group(&mut self, plan: GroupPlan) -> Place {
        let plan = if planted(Fault::GroupsSkipped) { GroupPlan::for_all() } else { plan };
        if let Some(place) = self.groups.place(&plan.id) {
            self.apply_group(place, plan);
            return place;
        }
        let group = Group {
            plan,
            account: Account { era: self.first_era(), ..Account::default() },
            activation: 0,
            weighed_since: self.watch.now,
            members: 0,
            queued: 0,
            active_weight: 0,
            counted: 0,
            cells: Vec::new(),
        };
        self.groups.insert(plan.id, group)
    }

    /// Learns the cap of a key. Its line stays only while the key has work.
    fn meet_key(&mut self, tenant: Place, key: Option<(KeyId, u32)>) -> bool {
        let Some((key, cap)) = key else { return false };
        let Some(tenant) = self.tenants.at_mut(tenant) else { return false };
        if cap == NO_CAP && !tenant.keys.contains_key(&key) {
            return false;
        }
        let line = tenant.keys.entry(key).or_insert(KeyLine { cap, in_flight: 0, queues: BTreeMap::new() });
        if line.cap == cap {
            return false;
        }
        line.cap = cap;
        tenant.settle_key(key);
        true
    }

    /// Makes the lane of a tenant on a model, and the cell of its group there.
    pub(super) fn meet_lane(&mut self, place: Place, model: Place) {
        let Some(tenant) = self.tenants.at_mut(place) else { return };
        if tenant.lane(model).is_none() {
            tenant.lanes.push(Lane::new(model));
        }
        let group = tenant.group;
        if self.groups.at(group).is_some_and(|group| group.cell(model).is_none()) {
            self.make_cell(group, model);
        }
    }

    /// The clock of a new pool starts at the foremost of the open pools, so that it gives no credit.
    fn make_cell(&mut self, group: Place, model: Place) {
        let Some(group) = self.groups.at_mut(group) else { return };
        let open = self.models.iter().filter(|(_, model)| model.open());
        let clock = open.filter_map(|(place, _)| Some(group.cell(place)?.clock.now())).max();
        while group.cells.len() <= model {
            group.cells.push(None);
        }
        if let Some(cell) = group.cells.get_mut(model) {
            let clock = Clock::starting_at(clock.unwrap_or_default());
            *cell = Some(Cell { clock, ..Cell::default() });
        }
    }
}
