//! What is counted while a simulation runs, at each step in time that does not depend on who else waits.

use super::directory::{Place, Tenant};
use super::entitlement::{Due, Entitlement, cost};
use super::events::Kind;
use super::gaps::Gaps;
use super::slots::Slots;
use obleth_core::fair_queue::ModelPlan;
use obleth_core::moment::Moment;
use std::time::Duration;

/// A grant as the engine tells of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) now: Moment,
    pub(super) tenant: Place,
    pub(super) model: Place,
    pub(super) waited: Duration,
    /// Whether it was counted as waiting.
    pub(super) queued: bool,
    pub(super) prompt: u64,
    /// What it will produce, and what was forecast.
    pub(super) output: u64,
    pub(super) forecast: u64,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) slots: Slots,
    pub(super) gaps: Gaps,
    entitlement: Entitlement,
    models: Vec<Option<ModelPlan>>,
    /// By place; `None` for those that sent nothing.
    pub(super) tenants: Vec<Option<Seen>>,
}

/// One tenant.
#[derive(Debug)]
pub(super) struct Seen {
    tenant: Tenant,
    pub(super) requests: u64,
    pub(super) finished: u64,
    pub(super) cancelled: u64,
    pub(super) rejected: u64,
    pub(super) timed_out: u64,
    /// Prompt and output tokens.
    pub(super) tokens: u64,
    /// Of granted requests, in microseconds.
    pub(super) waits: Vec<u64>,
    /// The longest time with something waiting and no grant.
    pub(super) longest: Duration,
    pub(super) waiting_time: Duration,
    /// Since when it waits, and since when it waits without a grant.
    waits_since: Option<Moment>,
    dry_since: Moment,
    pub(super) due: Due,
    in_flight: u32,
    /// Waiting requests by model, and how many of them count as ready.
    queued: Vec<Queued>,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    model: Place,
    count: u32,
    ready: u32,
}

impl Seen {
    fn new(tenant: Tenant) -> Self {
        Self {
            tenant,
            requests: 0,
            finished: 0,
            cancelled: 0,
            rejected: 0,
            timed_out: 0,
            tokens: 0,
            waits: Vec::new(),
            longest: Duration::ZERO,
            waiting_time: Duration::ZERO,
            waits_since: None,
            dry_since: Moment::ZERO,
            due: Due::default(),
            in_flight: 0,
            queued: Vec::new(),
        }
    }

    pub(super) fn waiting(&self) -> u32 {
        self.queued.iter().map(|queued| queued.count).fold(0, u32::saturating_add)
    }

    /// One more request waits for the model.
    fn joins(&mut self, model: Place) {
        match self.queued.iter_mut().find(|queued| queued.model == model) {
            Some(queued) => queued.count = queued.count.saturating_add(1),
            None => self.queued.push(Queued { model, count: 1, ready: 0 }),
        }
    }

    /// One request less waits for the model.
    fn leaves(&mut self, model: Place) {
        if let Some(queued) = self.queued.iter_mut().find(|queued| queued.model == model) {
            queued.count = queued.count.saturating_sub(1);
        }
    }

    /// Brings the times of waiting up to date after the queue changed.
    fn note_waiting(&mut self, now: Moment, granted: bool) {
        let waits = self.waiting() > 0;
        if let Some(since) = self.waits_since {
            if granted || !waits {
                self.longest = self.longest.max(now.since(self.dry_since));
                self.dry_since = now;
            }
            if !waits {
                self.waiting_time = self.waiting_time.saturating_add(now.since(since));
                self.waits_since = None;
            }
        } else if waits {
            self.waits_since = Some(now);
            self.dry_since = now;
        }
    }
}

impl Tally {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            slots: Slots::new(slots),
            gaps: Gaps::default(),
            entitlement: Entitlement::default(),
            models: Vec::new(),
            tenants: Vec::new(),
        }
    }

    pub(super) fn advance(&mut self, now: Moment) {
        self.slots.advance(now);
    }

    /// A tenant sends a request to a model.
    pub(super) fn meet(&mut self, tenant: Place, of: &Tenant, model: Place, on: &ModelPlan) {
        if self.models.get(model).is_none_or(Option::is_none) {
            self.slots.meet(model, on.max_in_flight);
            set(&mut self.models, model, *on);
        }
        if self.tenants.get(tenant).is_none_or(Option::is_none) {
            self.gaps.meet(tenant, of.plan.weight.get(), of.group);
            set(&mut self.tenants, tenant, Seen::new(*of));
        }
        self.with(tenant, |seen| seen.requests = seen.requests.saturating_add(1));
    }

    fn with(&mut self, tenant: Place, change: impl FnOnce(&mut Seen)) {
        if let Some(Some(seen)) = self.tenants.get_mut(tenant) {
            change(seen);
        }
    }

    pub(super) fn rejected(&mut self, tenant: Place) {
        self.with(tenant, |seen| seen.rejected = seen.rejected.saturating_add(1));
    }

    /// A request was taken; one that is granted at once never waits.
    pub(super) fn arrived(&mut self, now: Moment, tenant: Place, model: Place, at_once: bool) {
        if at_once {
            return;
        }
        self.with(tenant, |seen| {
            seen.joins(model);
            seen.note_waiting(now, false);
        });
        self.refresh(tenant, false);
    }

    /// A request left the queue without a grant.
    pub(super) fn left(&mut self, now: Moment, tenant: Place, model: Place, how: Kind) {
        self.with(tenant, |seen| {
            seen.leaves(model);
            seen.note_waiting(now, false);
            seen.note_end(how);
        });
        self.refresh(tenant, false);
    }

    pub(super) fn granted(&mut self, grant: &Granted) {
        let Granted { now, tenant, model, .. } = *grant;
        let Some(Some(plan)) = self.models.get(model).copied() else { return };
        let true_cost = cost(grant.prompt.saturating_add(grant.output), &plan);
        let forecast = cost(grant.prompt.saturating_add(grant.forecast), &plan);
        self.slots.take(model);
        self.gaps.granted(tenant, true_cost, forecast);
        let Self { entitlement, tenants, .. } = self;
        if let Some(Some(seen)) = tenants.get_mut(tenant) {
            entitlement.granted(&mut seen.due, model, true_cost);
            seen.waits.push(u64::try_from(grant.waited.as_micros()).unwrap_or(u64::MAX));
            seen.in_flight = seen.in_flight.saturating_add(1);
            if grant.queued {
                seen.leaves(model);
            }
            seen.note_waiting(now, true);
        }
        self.refresh(tenant, true);
    }

    /// A running request ended.
    pub(super) fn ended(&mut self, tenant: Place, model: Place, how: Kind) {
        self.slots.give(model);
        self.gaps.ended(tenant);
        self.with(tenant, |seen| {
            seen.in_flight = seen.in_flight.saturating_sub(1);
            seen.note_end(how);
        });
        self.refresh(tenant, false);
    }

    pub(super) fn served(&mut self, tenant: Place, prompt: u64, output: u64) {
        self.with(tenant, |seen| {
            seen.tokens = seen.tokens.saturating_add(prompt).saturating_add(output);
        });
    }

    /// Tells the others where the tenant waits by now.
    fn refresh(&mut self, tenant: Place, granted: bool) {
        let Self { slots, gaps, entitlement, tenants, .. } = self;
        let Some(Some(seen)) = tenants.get_mut(tenant) else { return };
        let blocked = seen.tenant.plan.max_in_flight.is_some_and(|cap| seen.in_flight >= cap);
        for queued in &mut seen.queued {
            let ready = if blocked { 0 } else { queued.count };
            if ready != queued.ready {
                slots.ready(queued.model, queued.ready, ready);
                queued.ready = ready;
            }
        }
        let mut waits = seen.queued.iter().filter(|queued| queued.ready > 0);
        let most = waits.clone().max_by_key(|queued| queued.ready).map(|queued| queued.model);
        gaps.waits(tenant, waits.next().map(|queued| queued.model).filter(|_| waits.next().is_none()));
        if most != seen.due.place() {
            let satisfied = granted && seen.waiting() == 0;
            entitlement.moved(&mut seen.due, &seen.tenant, most, satisfied);
        }
    }

    /// Closes all that is still open.
    pub(super) fn close(&mut self, now: Moment) {
        let Self { entitlement, tenants, .. } = self;
        for seen in tenants.iter_mut().flatten() {
            if let Some(since) = seen.waits_since {
                seen.longest = seen.longest.max(now.since(seen.dry_since));
                seen.waiting_time = seen.waiting_time.saturating_add(now.since(since));
            }
            entitlement.moved(&mut seen.due, &seen.tenant, None, false);
        }
    }
}

impl Seen {
    fn note_end(&mut self, how: Kind) {
        let count = match how {
            Kind::Finish => &mut self.finished,
            Kind::Cancel => &mut self.cancelled,
            Kind::Timeout => &mut self.timed_out,
            Kind::Enqueue | Kind::Grant | Kind::Reject => return,
        };
        *count = count.saturating_add(1);
    }
}

fn set<T>(list: &mut Vec<Option<T>>, place: Place, item: T) {
    while list.len() <= place {
        list.push(None);
    }
    if let Some(slot) = list.get_mut(place) {
        *slot = Some(item);
    }
}
