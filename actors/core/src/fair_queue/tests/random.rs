//! Random driving: arrivals, endings, cancels, double cancels, progress, and changes of weights, groups,
//! caps and slots, with the invariants checked after every step.

use super::*;
use account::Account;
use std::collections::BTreeMap;

const RUNS_EACH: u64 = 10;
const STEPS: u32 = 4000;

#[derive(Clone)]
struct Known {
    demand: Demand,
    /// Cost units charged at most so far.
    charged: u64,
}

struct Driver {
    queue: FairQueue,
    dice: Dice,
    now: Moment,
    tenants: Vec<TenantPlan>,
    groups: Vec<GroupPlan>,
    models: Vec<ModelPlan>,
    slots: u32,
    waiting: BTreeMap<TicketId, Known>,
    running: BTreeMap<TicketId, Known>,
    /// True cost of what each tenant finished.
    ledger: BTreeMap<TenantId, i128>,
    grants: u64,
    releases: u64,
    /// The picture after the last step.
    last: Dump,
}

/// The state that one step is compared with.
struct Before {
    dump: Dump,
    accounts: BTreeMap<TenantId, Account>,
    /// The tenant whose tag may fall in this step, and by how much at most.
    may_fall: Option<(TenantId, i128)>,
    /// Plans changed: tags are rescaled.
    changed: bool,
}

impl Driver {
    fn new(seed: u64) -> Self {
        let groups: Vec<GroupPlan> = (0..3).map(|n| group(n.into(), 50 * (1 + n))).collect();
        let plan = |n: u32| TenantPlan {
            group: groups[usize::try_from(n % 3).unwrap()],
            ..tenant(n.into(), 1 + 30 * n)
        };
        Self {
            queue: FairQueue::new(Settings { slots: 6, max_queued: 40, ..Settings::default() }),
            dice: Dice(seed),
            now: at(0),
            tenants: (0..8).map(plan).collect(),
            models: vec![model(1, Some(2)), model(2, Some(4)), model(3, None)],
            groups,
            slots: 6,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            ledger: BTreeMap::new(),
            grants: 0,
            releases: 0,
            last: with_slots(6).dump(),
        }
    }

    fn demand(&mut self) -> Demand {
        let dice = &mut self.dice;
        let tenant = self.tenants[dice.index(8)];
        let deadline = dice.one_in(4).then(|| self.now + Duration::from_secs(dice.within(1, 20)));
        Demand {
            tenant,
            model: self.models[dice.index(3)],
            key: dice.one_in(3).then(|| (key(u128::from(dice.below(2))), dice.small(1, 2))),
            prompt_tokens: dice.below(3000),
            max_output_tokens: dice.one_in(2).then(|| dice.below(2000)),
            answers: dice.small(1, 2),
            deadline,
        }
    }

    fn any(&mut self, running: bool) -> Option<TicketId> {
        let map = if running { &self.running } else { &self.waiting };
        if map.is_empty() {
            return None;
        }
        map.keys().nth(self.dice.index(map.len())).copied()
    }

    fn before(&self) -> Before {
        let accounts = self.queue.tenants.iter().map(|(_, t)| (t.plan.id, t.account)).collect();
        Before { dump: self.last.clone(), accounts, may_fall: None, changed: false }
    }

    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(self.dice.below(400));
        let mut before = self.before();
        match self.dice.below(100) {
            0..=34 => self.arrive(),
            35..=44 => self.slip_in(),
            45..=74 => self.finish(&mut before),
            75..=82 => self.cancel(),
            83..=90 => self.progress(),
            91..=93 => self.queue.expire(self.now),
            _ => {
                before.changed = true;
                self.change();
            }
        }
        self.drain(&before);
        self.verify(&before);
    }

    fn arrive(&mut self) {
        let demand = self.demand();
        let known = Known { demand: demand.clone(), charged: 0 };
        let was_empty = !self.waiting.values().any(|other| other.demand.tenant.id == demand.tenant.id);
        if let Ok(ticket) = self.queue.enqueue(self.now, demand) {
            self.waiting.insert(ticket, known.clone());
            let tenant = self.queue.tenants.find(&known.demand.tenant.id).unwrap();
            if was_empty && tenant.queued.count == 1 {
                let group = self.queue.groups.at(tenant.group).unwrap();
                let model = self.queue.models.place(&known.demand.model.id).unwrap();
                assert!(tenant.account.tag >= group.clock(model), "lifted to the clock");
            }
        }
    }

    fn slip_in(&mut self) {
        let demand = self.demand();
        if let Some(grant) = self.queue.try_seat(self.now, &demand) {
            assert!(!grant.queued);
            self.start(grant, Known { demand, charged: 0 });
        }
    }

    fn start(&mut self, grant: Grant, known: Known) {
        assert_eq!((grant.tenant, grant.model), (known.demand.tenant.id, known.demand.model.id));
        self.grants += 1;
        let charged = self.queue.seat_record(grant.ticket).unwrap().charged;
        self.running.insert(grant.ticket, Known { charged, ..known });
    }

    fn finish(&mut self, before: &mut Before) {
        let Some(ticket) = self.any(true) else { return };
        let known = self.running.remove(&ticket).unwrap();
        let (prompt, output) = (known.demand.prompt_tokens, self.dice.below(3000));
        let started = self.queue.seat_record(ticket).unwrap().started;
        let (spent, cost) = match self.dice.below(10) {
            0 => (Spent::Never, 0),
            1 => (Spent::Nothing, 1600),
            2 => {
                let tokens = u64::try_from(self.now.since(started).as_micros() * 50 / 1_000_000).unwrap();
                (Spent::Held, tokens.max(16) * 100)
            }
            _ => (Spent::Tokens { prompt, output }, (prompt + output).max(16) * 100),
        };
        let id = known.demand.tenant.id;
        let weight = self.queue.tenants.find(&id).unwrap().plan.weight;
        before.may_fall = Some((id, account::span(known.charged, weight) + 1));
        assert!(self.queue.release(self.now, ticket, spent));
        assert!(!self.queue.release(self.now, ticket, spent), "the second is nothing");
        assert!(!self.queue.cancel(self.now, ticket));
        *self.ledger.entry(id).or_default() += i128::from(cost);
        self.releases += 1;
    }

    fn cancel(&mut self) {
        if let Some(ticket) = self.any(false) {
            assert!(self.queue.cancel(self.now, ticket));
            assert!(!self.queue.cancel(self.now, ticket));
            assert!(!self.queue.release(self.now, ticket, AS_FORECAST));
            self.waiting.remove(&ticket);
        }
        if let Some(ticket) = self.any(true) {
            assert!(!self.queue.cancel(self.now, ticket), "it runs");
        }
    }

    fn progress(&mut self) {
        let Some(ticket) = self.any(true) else { return };
        let prompt = self.running[&ticket].demand.prompt_tokens;
        self.queue.progress(self.now, ticket, prompt, self.dice.below(4000));
        let charged = self.queue.seat_record(ticket).unwrap().charged;
        let known = self.running.get_mut(&ticket).unwrap();
        assert!(charged >= known.charged, "upward only");
        known.charged = charged;
    }

    fn change(&mut self) {
        let (t, g, m) = (self.dice.index(8), self.dice.index(3), self.dice.index(3));
        match self.dice.below(7) {
            0 => self.tenants[t].weight = share(self.dice.small(1, 300)),
            1 => self.tenants[t].max_in_flight = self.dice.one_in(2).then(|| self.dice.small(1, 3)),
            2 => self.tenants[t].group = self.groups[g],
            3 => {
                self.groups[g].weight = share(self.dice.small(1, 300));
                let plan = self.groups[g];
                self.tenants.iter_mut().filter(|t| t.group.id == plan.id).for_each(|t| t.group = plan);
                self.queue.set_group(self.now, plan);
            }
            4 => {
                self.models[m].max_in_flight = self.dice.one_in(3).then(|| self.dice.small(1, 3));
                self.queue.set_model(self.now, self.models[m]);
            }
            5 => {
                self.slots = self.dice.small(0, 9);
                self.queue.set_slots(self.now, self.slots);
            }
            _ if self.dice.one_in(4) => self.queue.suspend_tenant(self.now, self.tenants[t].id),
            _ => self.queue.remember_idle(self.dice.index(8)),
        }
        // Half of the changes come only with the next demand.
        if self.dice.one_in(2) {
            self.queue.set_tenant(self.now, self.tenants[t]);
        }
    }

    fn drain(&mut self, before: &Before) {
        let mut granted: Vec<Grant> = Vec::new();
        while let Some(effect) = self.queue.poll_effect() {
            match effect {
                Effect::Refuse { ticket, refusal } => {
                    let known = self.waiting.remove(&ticket).expect("it waited");
                    if matches!(refusal, Refusal::Timeout { .. }) {
                        assert!(known.demand.deadline.unwrap() <= self.now);
                    }
                }
                Effect::Grant(grant) => {
                    let known = self.waiting.remove(&grant.ticket).expect("it waited");
                    self.check_order(&grant, &known);
                    self.start(grant, known);
                    granted.push(grant);
                }
            }
        }
        if let [grant] = granted[..]
            && !before.changed
        {
            self.check_lag(&grant, before);
        }
        if !granted.is_empty() {
            assert!(self.queue.in_flight() <= self.slots, "a grant within the slots");
        }
    }

    /// Whoever of the same tenant waits longer than the one granted is held back by a model or a key.
    fn check_order(&self, grant: &Grant, known: &Known) {
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

    /// The only grant of a step: its tag was not farther behind the clock than LAG and its refunds.
    fn check_lag(&self, grant: &Grant, before: &Before) {
        let Some(account) = before.accounts.get(&grant.tenant) else { return };
        if before.may_fall.is_some_and(|(id, _)| id == grant.tenant) {
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
    }

    fn verify(&mut self, before: &Before) {
        assert_eq!(self.queue.check(), Ok(()));
        assert_eq!(self.grants - self.releases, u64::from(self.queue.in_flight()));
        assert_eq!(u32::try_from(self.running.len()), Ok(self.queue.in_flight()));
        assert_eq!(u32::try_from(self.waiting.len()), Ok(self.queue.queued()));
        let after = self.queue.dump();
        for (old, new) in before.dump.models.iter().zip(&after.models) {
            assert!(old.id != new.id || old.clock <= new.clock, "a clock of the groups fell");
        }
        for old in &before.dump.groups {
            let Some(new) = after.groups.iter().find(|new| new.id == old.id) else { continue };
            for (model, clock) in &old.clocks {
                assert!(new.clocks[model] >= *clock, "a clock fell");
            }
        }
        for new in after.tenants.iter().filter(|_| !before.changed) {
            let Some(old) = before.dump.tenants.iter().find(|old| old.id == new.id) else { continue };
            if old.group != new.group || old.weight != new.weight {
                continue; // The plan came with a demand.
            }
            let fall = before.may_fall.filter(|(id, _)| *id == new.id).map_or(0, |(_, most)| most);
            assert!(new.virtual_time >= old.virtual_time - fall, "a tag fell");
        }
        self.last = after;
        if self.dice.one_in(10) {
            let waits = self.queue.tenants.iter().filter(|(_, tenant)| tenant.queued.count > 0);
            let highest = waits.map(|(_, tenant)| tenant.score_of(tenant.queued.cost)).max();
            assert_eq!(self.queue.highest_score(), highest);
        }
    }

    /// Everything ends; then each tenant was charged exactly what its requests cost.
    fn finish_all(&mut self) {
        self.queue.set_slots(self.now, 8);
        self.slots = 8;
        while !self.running.is_empty() || !self.waiting.is_empty() {
            let mut before = self.before();
            before.changed = true;
            self.drain(&before);
            self.finish(&mut before);
            self.drain(&before);
            self.verify(&before);
        }
        let dump = self.queue.dump();
        assert_eq!((dump.in_flight, dump.queued), (0, 0));
        assert!(self.queue.models.iter().all(|(_, model)| model.active_weight == 0));
        let cells = self.queue.groups.iter().flat_map(|(_, group)| group.cells.iter().flatten());
        assert!(cells.map(|cell| cell.active_weight).all(|weight| weight == 0));
    }

    fn run(seed: u64, forgetful: bool) {
        let mut driver = Driver::new(seed);
        for _ in 0..STEPS {
            driver.step();
            if !forgetful {
                driver.queue.remember_idle(usize::MAX);
            }
        }
        driver.finish_all();
        if !forgetful {
            for view in driver.queue.dump().tenants {
                let cost = driver.ledger.get(&view.id).copied().unwrap_or_default();
                assert_eq!(view.served_cost, cost, "charges and true cost of {}", view.id);
            }
        }
    }
}

/// Runs some seeds; the output of a failed test names the last one.
fn runs(first: u64, forgetful: bool) {
    for seed in first..first + RUNS_EACH {
        println!("seed {seed}");
        Driver::run(seed, forgetful);
    }
}

#[test]
fn invariants_hold_under_random_driving() {
    runs(100, false);
}

#[test]
fn invariants_hold_under_random_driving_of_other_seeds() {
    runs(200, false);
}

#[test]
fn invariants_hold_while_idle_tenants_are_forgotten() {
    runs(300, true);
}

#[test]
fn invariants_hold_while_idle_tenants_are_forgotten_with_other_seeds() {
    runs(400, true);
}
