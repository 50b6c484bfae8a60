//! What must hold after each step of the random driver, and between it and the one before.

use super::super::*;
use super::{Driver, Known, Met};
use account::Account;
use std::collections::BTreeMap;

/// The state that one step is compared with.
pub struct Before {
    dump: Dump,
    accounts: BTreeMap<TenantId, Account>,
    /// How far tags may fall in this step: by what the refunded requests were charged.
    tenants_may_fall: BTreeMap<TenantId, i128>,
    groups_may_fall: BTreeMap<GroupId, i128>,
    /// Plans changed: tags are rescaled.
    pub changed: bool,
    /// Grants of an earlier step have not been heard of yet.
    pub late: bool,
}

/// Who would be refused if a demand came now and found no slot.
#[derive(Clone, Copy)]
pub struct Fullness {
    queued: u32,
    of_tenant: u32,
    /// Queued cost per weight of this tenant, and the most of any.
    score: u64,
    highest: u64,
}

impl Driver {
    pub fn before(&self) -> Before {
        Before {
            dump: self.last.clone(),
            accounts: self.queue.tenants.iter().map(|(_, t)| (t.plan.id, t.account)).collect(),
            tenants_may_fall: BTreeMap::new(),
            groups_may_fall: BTreeMap::new(),
            changed: false,
            late: !self.queue.effects.is_empty(),
        }
    }

    /// A release may refund at most what this ticket was charged.
    pub fn allow_fall(&self, before: &mut Before, ticket: TicketId, id: TenantId) {
        let charged = self.queue.seat_record(ticket).unwrap().charged;
        let tenant = self.queue.tenants.find(&id).unwrap();
        *before.tenants_may_fall.entry(id).or_default() += account::span(charged, tenant.plan.weight) + 1;
        let Some(Ticket::Seated(seat)) = self.queue.tickets.get(&ticket) else { panic!("it runs") };
        let Some(group) = self.queue.groups.find(&seat.group.1) else { return };
        let fall = account::span(charged, group.plan.weight) + 1;
        *before.groups_may_fall.entry(seat.group.1).or_default() += fall;
    }

    /// Right after an arrival at an empty queue: at the clock or beyond it, and without credit.
    pub fn check_activation(&self, demand: &Demand) {
        let tenant = self.queue.tenants.find(&demand.tenant.id).unwrap();
        let group = self.queue.groups.at(tenant.group).unwrap();
        let model = self.queue.models.place(&demand.model.id).unwrap();
        assert!(tenant.account.tag >= group.clock(model), "lifted to the clock");
        assert_eq!(tenant.account.credit, 0, "no credit after idling");
        if group.queued == 1 {
            assert!(group.account.tag >= self.queue.models.at(model).unwrap().clock.now());
            assert_eq!(group.account.credit, 0);
        }
    }

    pub fn fullness(&self, demand: &Demand) -> Fullness {
        let mut costs: BTreeMap<Place, u128> = BTreeMap::new();
        for ticket in self.queue.tickets.values() {
            if let Ticket::Waiting(waiting) = ticket {
                *costs.entry(waiting.tenant).or_default() += u128::from(waiting.cost);
            }
        }
        let score = |(place, cost): (&Place, &u128)| {
            u64::try_from(cost * 1024 / u128::from(self.queue.tenants.at(*place).unwrap().plan.weight.get()))
        };
        let own = self.queue.tenants.place(&demand.tenant.id);
        let of_tenant = own.map_or(0, |place| self.queue.tenants.at(place).unwrap().queued.count);
        let own = own.and_then(|place| costs.get_key_value(&place)).map_or(0, |pair| score(pair).unwrap());
        let highest = costs.iter().map(|pair| score(pair).unwrap()).max().unwrap_or(0);
        Fullness { queued: self.queue.queued(), of_tenant, score: own, highest }
    }

    /// A refusal at the door is the right one. `full` is from before; the plans that came with the demand
    /// may have let others in since, or changed weights.
    pub fn check_refusal(&mut self, demand: &Demand, refusal: Refusal, full: Fullness) {
        let most = demand.tenant.max_queued.unwrap_or(1024);
        let unchanged = self.queue.queued() == full.queued
            && self
                .last
                .tenants
                .iter()
                .any(|view| view.id == demand.tenant.id && view.weight == demand.tenant.weight);
        match refusal {
            Refusal::TenantQueueFull { .. } => {
                assert!(full.of_tenant >= most);
                self.met.insert(Met::TenantQueueFull);
            }
            Refusal::Heaviest { .. } | Refusal::QueueFull { .. } => {
                assert!(full.of_tenant < most || !unchanged);
                assert!(full.queued >= 16);
                let heaviest = matches!(refusal, Refusal::Heaviest { .. });
                assert!(!unchanged || heaviest || full.score < full.highest, "the heaviest is to blame");
                self.met.insert(if heaviest { Met::Heaviest } else { Met::QueueFull });
            }
            other => panic!("{other:?} at the door"),
        }
    }

    /// Whoever of the same tenant waits longer than the one granted is held back by a model or a key.
    pub fn check_order(&self, grant: &Grant, known: &Known) {
        let same = |other: &Known| other.demand.tenant.id == grant.tenant;
        for (_, older) in self.waiting.range(..grant.ticket).filter(|(_, other)| same(other)) {
            let pool = self.queue.models.find(&older.demand.model.id).unwrap();
            let tenant = self.queue.tenants.find(&grant.tenant).unwrap();
            let key_open = |key| tenant.keys.get(key).is_none_or(|line| line.in_flight < line.cap);
            let key_open = older.demand.key.as_ref().is_none_or(|(key, _)| key_open(key));
            assert!(!pool.open() || !key_open, "an older one was overtaken");
            let same_lane = older.demand.model.id == known.demand.model.id;
            let same_key = older.demand.key.map(|k| k.0) == known.demand.key.map(|k| k.0);
            assert!(!(same_lane && same_key), "not in order of arrival");
        }
    }

    /// What was just granted is within every cap that was told.
    pub fn check_caps(&self, granted: &[Grant]) {
        assert!(granted.is_empty() || self.queue.in_flight() <= self.slots, "a grant within the slots");
        for grant in granted {
            let demand = &self.running[&grant.ticket].demand;
            let others = self.running.iter().filter(|(ticket, _)| **ticket != grant.ticket);
            let others = others.map(|(_, known)| &known.demand);
            assert!(self.books.room(demand, others), "a grant within the caps");
        }
    }

    /// The only grant of a step: its tag was not farther behind the clock than LAG and its refunds.
    pub fn check_lag(&mut self, grant: &Grant, before: &Before) {
        let Some(account) = before.accounts.get(&grant.tenant) else { return };
        if before.tenants_may_fall.contains_key(&grant.tenant) {
            return;
        }
        let tenant = self.queue.tenants.find(&grant.tenant).unwrap();
        let charged = self.running[&grant.ticket].charged;
        let start = tenant.account.tag - account::span(charged, tenant.plan.weight);
        let clocks = before.dump.groups.iter().find(|group| group.id == tenant.plan.group.id);
        let clock = clocks.and_then(|group| group.clocks.get(&grant.model)).copied().unwrap_or_default();
        let most = ((4096 * 100 + account.credit) << 32) / i128::from(tenant.plan.weight.get());
        assert!(start >= clock - most - 1, "lag beyond its bound");
        assert!(tenant.account.credit <= account.credit, "credit is spent, not made, by a grant");
        if start > account.tag {
            self.met.insert(Met::Lagged);
        }
    }

    pub fn verify(&mut self, before: &Before) {
        assert_eq!(self.queue.check(), Ok(()));
        let unheard = |grant: bool| {
            let effects = self.queue.effects.iter();
            effects.filter(|effect| matches!(effect, Effect::Grant(_)) == grant).count()
        };
        let (granted, refused) = (unheard(true), unheard(false));
        assert_eq!(u32::try_from(self.running.len() + granted), Ok(self.queue.in_flight()));
        assert_eq!(u32::try_from(self.waiting.len() - granted - refused), Ok(self.queue.queued()));
        assert_eq!(self.grants - self.releases, u64::try_from(self.running.len()).unwrap());
        if granted + refused == 0 {
            self.check_nobody_eligible();
        }
        let after = self.queue.dump();
        self.check_clocks(before, &after);
        self.check_tags(before, &after);
        self.last = after;
        if self.dice.one_in(10) {
            let waits = self.queue.tenants.iter().filter(|(_, tenant)| tenant.queued.count > 0);
            let highest = waits.map(|(_, tenant)| tenant.score_of(tenant.queued.cost)).max();
            assert_eq!(self.queue.highest_score(), highest);
        }
    }

    /// Work conservation by the driver's own books.
    fn check_nobody_eligible(&self) {
        if self.queue.in_flight() >= self.slots {
            return;
        }
        let running = self.running.values().map(|known| &known.demand);
        let eligible = self.waiting.values().find(|known| self.books.room(&known.demand, running.clone()));
        assert!(eligible.is_none(), "a slot is free and one waits who could use it");
    }

    fn check_clocks(&self, before: &Before, after: &Dump) {
        for old in &before.dump.models {
            let new = after.models.iter().find(|new| new.id == old.id);
            assert!(new.is_none_or(|new| old.clock <= new.clock), "a clock of the groups fell");
        }
        for old in &before.dump.groups {
            let Some(new) = after.groups.iter().find(|new| new.id == old.id) else { continue };
            for (model, clock) in &old.clocks {
                assert!(new.clocks.get(model).is_none_or(|new| new >= clock), "a clock fell");
            }
        }
    }

    /// Tags fall by refunds only; credit is what was refunded and not spent, at most.
    fn check_tags(&self, before: &Before, after: &Dump) {
        for (_, tenant) in self.queue.tenants.iter().filter(|_| self.queue.effects.is_empty()) {
            assert!(tenant.account.credit <= self.books.credit(tenant.plan.id), "more credit than refunds");
        }
        if before.changed {
            return;
        }
        for new in &after.tenants {
            let Some(old) = before.dump.tenants.iter().find(|old| old.id == new.id) else { continue };
            if old.group == new.group && old.weight == new.weight {
                let fall = before.tenants_may_fall.get(&new.id).copied().unwrap_or(0);
                assert!(new.virtual_time >= old.virtual_time - fall, "a tag fell");
            }
        }
        for new in &after.groups {
            let Some(old) = before.dump.groups.iter().find(|old| old.id == new.id) else { continue };
            if old.weight == new.weight {
                let fall = before.groups_may_fall.get(&new.id).copied().unwrap_or(0);
                assert!(new.virtual_time >= old.virtual_time - fall, "a tag of a group fell");
            }
        }
    }
}
