//! Nobody who may go waits for more than a stated amount of work, whoever else comes.
//!
//! Some tenants always have something waiting, and there is an endless stream of others that come once.
//! For the head of one that stays, with tag s while the clock stood at V0, §3.4 promises: as long as the
//! clock V lies below s, finished work times θ over the active weights is at most s - V0; and from there
//! on, what others are granted is at most the largest charge, LAG and the refunds of each that waited
//! then. With wrong forecasts what runs may turn out otherwise by 2·D·ε.

use super::backlog::Guess;
use super::*;
use account::{Account, Tag, span};
use std::collections::{BTreeMap, BTreeSet};

const STAY: u128 = 4;
const LAG: u64 = 300;
/// The largest cost of a request, forecast or true, and so the largest error.
const MOST: u64 = 1500 * 100;
const SLOTS: u32 = 3;

/// How long the head of one that stays has been waiting.
struct Head {
    tag: Tag,
    /// s - V0.
    ahead: Tag,
    /// Work finished since then, and the most weight that was active.
    finished: u64,
    weight: u64,
    /// Once the clock has come up: granted work since then, and how much it may be.
    passed: Option<(u64, u64)>,
}

struct Stream {
    queue: FairQueue,
    dice: Dice,
    guess: Guess,
    /// Whether each tenant is a group of its own, so that the upper level is put to the test.
    groups: bool,
    newcomers: u128,
    weights: BTreeMap<TenantId, u32>,
    waiting: BTreeMap<TicketId, (TenantId, Spent, u64)>,
    running: BTreeMap<TicketId, (TenantId, Spent, u64)>,
    heads: BTreeMap<TenantId, Head>,
}

impl Stream {
    fn plan(&self, n: u128, weight: u32) -> TenantPlan {
        match self.groups {
            true => TenantPlan { group: group(n, weight), ..tenant(n, 100) },
            false => tenant(n, weight),
        }
    }

    fn send(&mut self, plan: TenantPlan) {
        let dice = &mut self.dice;
        let mut demand = demand(plan, model(1, None));
        let length = dice.within(50, 1500);
        let output = if self.guess == Guess::Exact { 0 } else { length - 40 };
        demand.prompt_tokens = length - output;
        demand.max_output_tokens = (self.guess != Guess::Learned).then_some(0);
        let spent = Spent::Tokens { prompt: length - output, output };
        let ticket = self.queue.enqueue(at(0), demand).unwrap();
        self.waiting.insert(ticket, (plan.id, spent, length * 100));
        self.take_grants();
    }

    fn account(&self, id: TenantId) -> Account {
        let tenant = self.queue.tenants.find(&id).unwrap();
        match self.groups {
            true => self.queue.groups.at(tenant.group).unwrap().account,
            false => tenant.account,
        }
    }

    fn clock(&self) -> Tag {
        let pool = self.queue.models.place(&model(1, None).id).unwrap();
        match self.groups {
            true => self.queue.models.at(pool).unwrap().clock.now(),
            false => self.queue.groups.find(&group(1, 1).id).unwrap().clock(pool),
        }
    }

    fn take_grants(&mut self) {
        while let Some(effect) = self.queue.poll_effect() {
            let Effect::Grant(grant) = effect else { panic!("{effect:?}") };
            let (id, spent, cost) = self.waiting.remove(&grant.ticket).unwrap();
            let charged = self.queue.seat_record(grant.ticket).unwrap().charged;
            assert!(charged <= MOST && cost <= MOST);
            self.running.insert(grant.ticket, (id, spent, cost));
            self.heads.remove(&id);
            for (waiter, head) in &mut self.heads {
                if let Some((granted, most)) = &mut head.passed {
                    *granted += cost;
                    assert!(granted <= most, "{waiter} waits for {granted}, promised were {most}");
                }
            }
        }
    }

    /// One request ends, those who stay have two waiting again, and four newcomers wait.
    fn step(&mut self) {
        let nth = self.dice.index(self.running.len());
        let ticket = *self.running.keys().nth(nth).unwrap();
        let (_, spent, cost) = self.running.remove(&ticket).unwrap();
        self.heads.values_mut().for_each(|head| head.finished += cost);
        self.queue.release(at(0), ticket, spent);
        self.take_grants();
        self.refill();
        self.watch();
    }

    fn refill(&mut self) {
        for n in 0..STAY {
            let plan = self.plan(n, 20 + 40 * u32::try_from(n).unwrap());
            self.weights.insert(plan.id, 20 + 40 * u32::try_from(n).unwrap());
            while self.waiting.values().filter(|(id, ..)| *id == plan.id).count() < 4 {
                self.send(plan);
            }
        }
        while self.waiting.len() < 4 * usize::try_from(STAY).unwrap() + 4 {
            self.newcomers += 1;
            let weight = self.dice.small(50, 150);
            let plan = self.plan(1000 + self.newcomers, weight);
            self.weights.insert(plan.id, weight);
            self.send(plan);
        }
    }

    fn watch(&mut self) {
        let clock = self.clock();
        let theta = u64::from(Settings::default().theta_percent);
        let all = self.waiting.values().chain(self.running.values());
        let active: BTreeSet<TenantId> = all.map(|(id, ..)| *id).collect();
        let weight: u64 = active.iter().map(|id| u64::from(self.weights[id])).sum();
        let waiters = self.waiting.values().map(|(id, ..)| *id);
        let error = if self.guess == Guess::Exact { 0 } else { MOST };
        let slack = |id: TenantId| -> u64 {
            let refunds = u64::try_from(self.account(id).credit).unwrap();
            MOST + LAG * 100 + refunds + 2 * u64::from(SLOTS) * error
        };
        let slacks: BTreeMap<TenantId, u64> = waiters.map(|id| (id, slack(id))).collect();
        let all: u64 = slacks.values().sum();
        for id in (0..STAY).map(|n| tenant(n, 1).id) {
            let tag = self.account(id).tag;
            let new = || Head { tag, ahead: tag - clock, finished: 0, weight, passed: None };
            if self.heads.get(&id).is_none_or(|head| tag > head.tag) {
                // A new head, or what runs of it turned out dearer and puts it back.
                self.heads.insert(id, new());
            }
            let head = self.heads.get_mut(&id).unwrap();
            (head.tag, head.weight) = (tag, head.weight.max(weight));
            if head.passed.is_none() && clock >= tag {
                head.passed = Some((0, all - slacks[&id]));
            }
            if head.passed.is_none() {
                let moved = span(head.finished * theta / 100, share(u32::try_from(head.weight).unwrap()));
                assert!(moved <= head.ahead + 1000, "{id}: the clock should have come up to its tag");
            }
        }
    }
}

fn stream(seed: u64, steps: u32, guess: Guess, groups: bool) {
    let settings = Settings { slots: SLOTS, lag_tokens: 300, max_queued: 1000, ..Settings::default() };
    let mut stream = Stream {
        queue: FairQueue::new(settings),
        dice: Dice(seed),
        guess,
        groups,
        newcomers: 0,
        weights: BTreeMap::new(),
        waiting: BTreeMap::new(),
        running: BTreeMap::new(),
        heads: BTreeMap::new(),
    };
    stream.queue.remember_idle(0);
    stream.refill();
    for _ in 0..steps {
        stream.step();
    }
    assert!(stream.newcomers > u128::from(steps / 8), "{}", stream.newcomers);
}

/// Invariant 8 among the tenants of a group.
pub fn no_tenant_starves(seed: u64, steps: u32) {
    for guess in [Guess::Exact, Guess::Learned, Guess::Blind] {
        stream(seed, steps, guess, false);
    }
}

/// Invariant 8 among groups.
pub fn no_group_starves(seed: u64, steps: u32) {
    for guess in [Guess::Exact, Guess::Learned, Guess::Blind] {
        stream(seed, steps, guess, true);
    }
}

#[test]
fn invariant_8_no_tenant_starves() {
    for_seeds(0, 40, |seed| no_tenant_starves(seed, 1300));
}

#[test]
fn invariant_8_no_group_starves() {
    for_seeds(0, 40, |seed| no_group_starves(seed, 1300));
}
