//! Tenants that always have something waiting, and requests whose true cost is fixed when they arrive.
//!
//! The ground for the properties about shares: what is chosen, when, is all that can differ.

use super::trace::Trace;
use super::*;
use std::collections::BTreeMap;

/// How well forecasts meet what requests cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Always right.
    Exact,
    /// By the moving average, answers of any length.
    Learned,
    /// Only the prompt is expected, as if answers cost nothing.
    Blind,
    /// Off by a factor of up to sixty.
    Absurd,
}

impl Guess {
    pub const ALL: [Self; 4] = [Self::Exact, Self::Learned, Self::Blind, Self::Absurd];
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub from: usize,
    pub spent: Spent,
    /// What it costs in the end, and what it is charged so far, in cost units.
    pub cost: u64,
    pub charged: u64,
    pub pool: usize,
}

/// See the module head.
pub struct Backlog {
    pub queue: FairQueue,
    pub dice: Dice,
    pub now: Moment,
    pub slots: u32,
    pub groups: Vec<GroupPlan>,
    pub models: Vec<ModelPlan>,
    pub tenants: Vec<TenantPlan>,
    /// The models of each tenant.
    pub uses: Vec<Vec<usize>>,
    pub guess: Guess,
    pub waiting: BTreeMap<TicketId, Job>,
    pub running: BTreeMap<TicketId, Job>,
    /// How many wait of each tenant on each model, and how many run.
    waits: BTreeMap<(usize, usize), u32>,
    runs: BTreeMap<(usize, usize), u32>,
    /// Of the tenants by place, and of the groups by place.
    pub of_tenants: Trace,
    pub of_groups: Trace,
    /// How often a tag moved while its flow competed, other than by charges.
    pub moved: u32,
}

impl Backlog {
    /// Nothing runs yet; everything waits.
    pub fn new(seed: u64, guess: Guess, lag_tokens: u32, shape: impl FnOnce(&mut Self)) -> Self {
        let settings = Settings { slots: 0, max_queued: u32::MAX, lag_tokens, ..Settings::default() };
        let mut backlog = Self {
            queue: FairQueue::new(settings),
            dice: Dice(seed),
            now: at(1),
            slots: 0,
            groups: vec![],
            models: vec![],
            tenants: vec![],
            uses: vec![],
            guess,
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            waits: BTreeMap::new(),
            runs: BTreeMap::new(),
            of_tenants: Trace::default(),
            of_groups: Trace::default(),
            moved: 0,
        };
        shape(&mut backlog);
        backlog.of_tenants = Trace::of(backlog.tenants.len());
        backlog.of_groups = Trace::of(backlog.groups.len());
        backlog.refill();
        backlog.observe();
        backlog.queue.set_slots(backlog.now, backlog.slots);
        backlog.take_grants();
        backlog.refill();
        backlog.settle();
        backlog
    }

    /// More requests of each tenant on each of its models than one call can grant.
    pub fn refill(&mut self) {
        for from in 0..self.tenants.len() {
            for pool in self.uses[from].clone() {
                while self.waits.get(&(from, pool)).is_none_or(|count| *count <= self.slots) {
                    self.send(from, pool);
                }
            }
        }
    }

    fn send(&mut self, from: usize, pool: usize) {
        let dice = &mut self.dice;
        let mut demand = demand(self.tenants[from], self.models[pool]);
        let length = dice.within(100, 3000);
        demand.prompt_tokens = if self.guess == Guess::Exact { length } else { dice.within(16, 100) };
        let output = length - if self.guess == Guess::Exact { length } else { 100 };
        (demand.max_output_tokens, demand.answers) = match self.guess {
            Guess::Exact | Guess::Blind => (Some(0), 1),
            Guess::Learned => (None, 1),
            Guess::Absurd => (None, dice.small(1, 60)),
        };
        let spent = match (self.guess, dice.below(24)) {
            (Guess::Exact, _) => Spent::Tokens { prompt: length, output: 0 },
            (_, 0) => Spent::Nothing,
            (_, 1) => Spent::Never,
            _ => Spent::Tokens { prompt: demand.prompt_tokens, output },
        };
        let factor = u64::from(self.models[pool].cost_factor.hundredths());
        let cost = match spent {
            Spent::Tokens { prompt, output } => (prompt + output).max(16) * factor,
            Spent::Never => 0,
            _ => 16 * factor,
        };
        let ticket = self.queue.enqueue(self.now, demand).unwrap();
        self.waiting.insert(ticket, Job { from, spent, cost, charged: 0, pool });
        *self.waits.entry((from, pool)).or_default() += 1;
        self.take_grants();
    }

    fn group_of(&self, from: usize) -> usize {
        self.groups.iter().position(|group| group.id == self.tenants[from].group.id).unwrap()
    }

    /// What was granted since the last look. Nothing is refused here.
    pub fn take_grants(&mut self) {
        while let Some(effect) = self.queue.poll_effect() {
            let Effect::Grant(grant) = effect else { panic!("{effect:?}") };
            let mut job = self.waiting.remove(&grant.ticket).expect("it waited");
            job.charged = self.queue.seat_record(grant.ticket).unwrap().charged;
            self.running.insert(grant.ticket, job);
            *self.waits.get_mut(&(job.from, job.pool)).unwrap() -= 1;
            *self.runs.entry((job.from, job.pool)).or_default() += 1;
            self.of_tenants.grant(job.from, grant.ticket, job.charged, job.cost);
            self.of_groups.grant(self.group_of(job.from), grant.ticket, job.charged, job.cost);
        }
    }

    /// One of the running requests, if any.
    pub fn any_running(&mut self) -> Option<TicketId> {
        (!self.running.is_empty()).then(|| {
            let nth = self.dice.index(self.running.len());
            *self.running.keys().nth(nth).unwrap()
        })
    }

    pub fn finish(&mut self, ticket: TicketId) {
        let job = self.running.remove(&ticket).unwrap();
        *self.runs.get_mut(&(job.from, job.pool)).unwrap() -= 1;
        self.of_tenants.end(job.from, ticket);
        self.of_groups.end(self.group_of(job.from), ticket);
        self.queue.release(self.now, ticket, job.spent);
        self.take_grants();
        self.settle();
    }

    /// A stream is somewhere on its way.
    pub fn progress(&mut self, ticket: TicketId) {
        let Spent::Tokens { prompt, output } = self.running[&ticket].spent else { return };
        let produced = self.dice.below(output + 1);
        self.queue.progress(self.now, ticket, prompt, produced);
        let charged = self.queue.seat_record(ticket).unwrap().charged;
        let job = self.running.get_mut(&ticket).unwrap();
        job.charged = charged;
        let from = job.from;
        self.of_tenants.charge(from, ticket, charged);
        self.of_groups.charge(self.group_of(from), ticket, charged);
        self.settle();
    }

    /// Something ends, streams or is cancelled; then all have something waiting again.
    pub fn step(&mut self) {
        self.now = self.now + Duration::from_millis(50);
        match (self.dice.below(10), self.any_running()) {
            (0..=6, Some(ticket)) => self.finish(ticket),
            (7..=8, Some(ticket)) => self.progress(ticket),
            _ => {
                // Never the last one of a tenant: it would not be backlogged without a break.
                let nth = self.dice.index(self.waiting.len());
                let (ticket, job) = self.waiting.iter().nth(nth).map(|(t, j)| (*t, *j)).unwrap();
                let left = self.waits.get_mut(&(job.from, job.pool)).unwrap();
                if *left > 1 {
                    *left -= 1;
                    assert!(self.queue.cancel(self.now, ticket));
                    self.waiting.remove(&ticket);
                }
            }
        }
        self.refill();
        self.settle();
    }

    /// Whether a tenant has something that only lacks a slot.
    pub fn competes(&self, from: usize) -> bool {
        let sum = |of: &dyn Fn(usize, usize) -> bool| -> u32 {
            self.runs.iter().filter(|((from, pool), _)| of(*from, *pool)).map(|(_, runs)| runs).sum()
        };
        let room = |cap: Option<u32>, of: &dyn Fn(usize, usize) -> bool| cap.is_none_or(|cap| sum(of) < cap);
        let waits = |pool: usize| self.waits.get(&(from, pool)).is_some_and(|count| *count > 0);
        let open = |wanted: usize| room(self.models[wanted].max_in_flight, &|_, pool| pool == wanted);
        room(self.tenants[from].max_in_flight, &|of, _| of == from)
            && self.uses[from].iter().any(|pool| waits(*pool) && open(*pool))
    }

    fn observe(&mut self) {
        let mut moved = 0;
        for from in 0..self.tenants.len() {
            let competes = self.competes(from);
            let tenant = self.queue.tenants.find(&self.tenants[from].id).unwrap();
            moved += self.of_tenants.observe(from, tenant.plan.weight, tenant.account.tag, competes).abs();
        }
        for place in 0..self.groups.len() {
            let id = self.groups[place].id;
            let Some(group) = self.queue.groups.find(&id) else { continue };
            let (weight, tag) = (group.plan.weight, group.account.tag);
            let mut members = (0..self.tenants.len()).filter(|from| self.tenants[*from].group.id == id);
            let competes = members.any(|from| self.competes(from));
            moved += self.of_groups.observe(place, weight, tag, competes).abs();
        }
        self.moved += u32::from(moved != 0);
    }

    fn settle(&mut self) {
        self.observe();
        self.of_tenants.settled();
        self.of_groups.settled();
    }
}
