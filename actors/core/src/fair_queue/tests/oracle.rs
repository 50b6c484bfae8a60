//! The real queue beside the naive one of `naive`: the same events, then the same grants with the same
//! forecasts, the same refusals, and at the end the same tags and clocks to the last unit.

use super::naive::{End, Job, Naive, State};
use super::*;

const FLOWS: usize = 7;
const SETS: usize = 3;
const POOLS: usize = 3;

struct Both {
    queue: FairQueue,
    naive: Naive,
    dice: Dice,
    now: u64,
    tenants: Vec<TenantPlan>,
    groups: Vec<GroupPlan>,
    models: Vec<ModelPlan>,
    /// Tickets by number.
    tickets: Vec<TicketId>,
    grants: usize,
}

fn wide(n: impl TryInto<i128, Error: std::fmt::Debug>) -> i128 {
    n.try_into().unwrap()
}

fn cap(cap: Option<u32>) -> Option<usize> {
    cap.map(cap_of)
}

impl Both {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let slots = dice.small(1, 8);
        let settings = Settings { slots, max_queued: u32::MAX, ..Settings::default() };
        let mut naive = Naive::new(cap_of(slots), settings.theta_percent.into());
        let groups: Vec<GroupPlan> = (0..3).map(|n| group(n, dice.small(1, 300))).collect();
        groups.iter().for_each(|group| naive.add_set(group.weight.get().into()));
        let mut both = Self {
            queue: FairQueue::new(settings),
            naive,
            dice,
            now: 0,
            tenants: vec![],
            models: vec![],
            groups,
            tickets: vec![],
            grants: 0,
        };
        both.queue.remember_idle(usize::MAX);
        // The first tenants never leave their group, so that none is forgotten.
        for n in 0..FLOWS {
            let plan = TenantPlan {
                group: both.groups[n % SETS],
                max_in_flight: both.dice.one_in(3).then(|| both.dice.small(1, 3)),
                ..tenant(wide(n).unsigned_abs(), both.dice.small(1, 500))
            };
            both.naive.add_flow(plan.weight.get().into(), n % SETS, cap(plan.max_in_flight));
            both.tenants.push(plan);
        }
        for n in 0..POOLS {
            let mut plan = model(wide(n).unsigned_abs(), both.dice.one_in(2).then(|| both.dice.small(1, 3)));
            plan.cost_factor = CostFactor::from_hundredths(both.dice.small(50, 300)).unwrap();
            both.naive.add_pool(cap(plan.max_in_flight), plan.cost_factor.hundredths().into());
            both.models.push(plan);
            for flow in 0..FLOWS {
                both.arrive(flow, n);
            }
        }
        both
    }

    fn arrive(&mut self, flow: usize, pool: usize) {
        let dice = &mut self.dice;
        let sent = Demand {
            key: dice.one_in(4).then(|| (key(dice.below(2).into()), dice.small(1, 2))),
            prompt_tokens: dice.below(2000),
            max_output_tokens: dice.one_in(2).then(|| dice.below(1000)),
            answers: dice.small(1, 3),
            deadline: dice.one_in(4).then(|| at(self.now + dice.within(1, 30))),
            ..demand(self.tenants[flow], self.models[pool])
        };
        let job = Job {
            flow,
            pool,
            key: sent.key.map(|(key, cap)| (usize::try_from(key.0.as_u128()).unwrap(), cap_of(cap))),
            prompt: sent.prompt_tokens.into(),
            most: sent.max_output_tokens.map(i128::from),
            answers: sent.answers.into(),
            deadline: sent.deadline.map(|deadline| deadline.as_micros() / 1_000_000),
            state: State::Waiting,
        };
        let ticket = self.queue.enqueue(at(self.now), sent).unwrap();
        let number = self.naive.arrive(self.now, job);
        self.tickets.push(ticket);
        assert_eq!(number + 1, self.tickets.len());
        self.agree();
    }

    fn any(&mut self, running: bool) -> Option<usize> {
        let jobs = self.naive.jobs.iter();
        let wanted = |state: State| match running {
            true => matches!(state, State::Running(..)),
            false => state == State::Waiting,
        };
        let all: Vec<usize> = jobs.filter(|(_, job)| wanted(job.state)).map(|(number, _)| *number).collect();
        (!all.is_empty()).then(|| all[self.dice.index(all.len())])
    }

    fn step(&mut self) {
        self.now += self.dice.below(3);
        match self.dice.below(100) {
            0..=39 => {
                let waiting = self.naive.jobs.values().filter(|job| job.state == State::Waiting).count();
                if waiting < 50 {
                    let (flow, pool) = (self.dice.index(FLOWS), self.dice.index(POOLS));
                    self.arrive(flow, pool);
                }
            }
            40..=73 => self.finish(),
            74..=78 => self.progress(),
            79..=83 => {
                if let Some(number) = self.any(false) {
                    assert!(self.queue.cancel(at(self.now), self.tickets[number]));
                    self.naive.jobs.remove(&number);
                }
            }
            84..=85 => {
                self.queue.expire(at(self.now));
                self.drop_waiting(|job, now| job.deadline.is_some_and(|deadline| deadline <= now));
            }
            _ => self.change(),
        }
        self.agree();
    }

    /// The naive queue refuses some that wait.
    fn drop_waiting(&mut self, of: impl Fn(&Job, u64) -> bool) {
        let now = self.now;
        let drops = |job: &Job| job.state == State::Waiting && of(job, now);
        let gone = self.naive.jobs.extract_if(.., |_, job| drops(job));
        self.naive.refused.extend(gone.map(|(number, _)| number));
    }

    fn finish(&mut self) {
        let Some(number) = self.any(true) else { return };
        let (prompt, output) = (self.dice.below(2000), self.dice.below(2000));
        let (end, spent) = match self.dice.below(9) {
            0 => (End::Held, Spent::Held),
            1 => (End::Failed, Spent::Nothing),
            2 => (End::Unreceived, Spent::Never),
            _ => (End::Tokens(prompt.into(), output.into()), Spent::Tokens { prompt, output }),
        };
        assert!(self.queue.release(at(self.now), self.tickets[number], spent));
        self.naive.finish(self.now, number, end);
    }

    fn progress(&mut self) {
        let Some(number) = self.any(true) else { return };
        let (prompt, output) = (self.dice.below(1000), self.dice.below(2000));
        self.queue.progress(at(self.now), self.tickets[number], prompt, output);
        self.naive.progress(number, (prompt + output).into());
    }

    fn change(&mut self) {
        let (flow, set, pool) = (self.dice.index(FLOWS), self.dice.index(SETS), self.dice.index(POOLS));
        let kind = self.dice.below(7);
        match kind {
            0 => {
                self.tenants[flow].weight = share(self.dice.small(1, 500));
                self.naive.reweigh(flow, self.tenants[flow].weight.get().into());
            }
            1 => {
                self.tenants[flow].max_in_flight = self.dice.one_in(2).then(|| self.dice.small(1, 3));
                self.naive.flows[flow].cap = cap(self.tenants[flow].max_in_flight);
            }
            2 if flow >= SETS && self.naive.flows[flow].set != set => {
                self.tenants[flow].group = self.groups[set];
                self.naive.move_to(flow, set);
            }
            3 => {
                self.groups[set].weight = share(self.dice.small(1, 300));
                let plan = self.groups[set];
                self.tenants.iter_mut().filter(|t| t.group.id == plan.id).for_each(|t| t.group = plan);
                self.queue.set_group(at(self.now), plan);
                self.naive.reweigh_set(set, plan.weight.get().into());
            }
            4 => {
                self.models[pool].max_in_flight = self.dice.one_in(2).then(|| self.dice.small(1, 3));
                self.queue.set_model(at(self.now), self.models[pool]);
                self.naive.pools[pool].cap = cap(self.models[pool].max_in_flight);
            }
            5 => {
                let slots = self.dice.small(1, 8);
                self.queue.set_slots(at(self.now), slots);
                self.naive.slots = cap_of(slots);
            }
            6 => {
                self.queue.suspend_tenant(at(self.now), self.tenants[flow].id);
                self.drop_waiting(|job, _| job.flow == flow);
            }
            _ => {}
        }
        if kind <= 2 {
            self.queue.set_tenant(at(self.now), self.tenants[flow]);
        }
        self.naive.dispatch(self.now);
    }

    /// The same was granted and refused since the last look.
    fn agree(&mut self) {
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        while let Some(effect) = self.queue.poll_effect() {
            match effect {
                Effect::Grant(grant) => granted.push((grant.ticket, i128::from(grant.forecast_tokens))),
                Effect::Refuse { ticket, .. } => refused.push(ticket),
            }
        }
        let ticket = |number: usize| self.tickets[number];
        let should: Vec<_> = self.naive.granted.drain(..).map(|(n, tokens)| (ticket(n), tokens)).collect();
        assert_eq!(granted, should, "grants and forecasts");
        self.grants += should.len();
        let mut should: Vec<_> = self.naive.refused.drain(..).map(ticket).collect();
        should.sort();
        refused.sort();
        assert_eq!(refused, should, "refusals");
        for (plan, flow) in self.tenants.iter().zip(&self.naive.flows) {
            if let Some(tenant) = self.queue.tenants.find(&plan.id) {
                assert_eq!(tenant.account.tag, flow.account.tag, "tag of {}", plan.id);
            }
        }
    }
}

fn cap_of(cap: u32) -> usize {
    usize::try_from(cap).unwrap()
}

/// The order of grants, and all that decides it, is that of the specification.
pub fn grants_are_those_of_the_specification(seed: u64, steps: u32) {
    let mut both = Both::new(seed);
    for _ in 0..steps {
        both.step();
    }
    assert!(both.grants > usize::try_from(steps / 5).unwrap(), "{} grants", both.grants);
    let dump = both.queue.dump();
    for (set, view) in dump.groups.iter().enumerate() {
        assert_eq!(view.virtual_time, both.naive.sets[set].tag, "tag of group {set}");
        for (pool, model) in both.models.iter().enumerate() {
            assert_eq!(view.clocks[&model.id], both.naive.clocks[&(set, pool)].now, "clock {set} {pool}");
        }
    }
    for (pool, view) in dump.models.iter().enumerate() {
        assert_eq!(view.clock, both.naive.pools[pool].clock.now, "clock of model {pool}");
    }
}

#[test]
fn the_order_of_grants_is_that_of_a_naive_scheduler() {
    for_seeds(0, 40, |seed| grants_are_those_of_the_specification(seed, 4000));
}
