//! A scheduler as slow and plain as the specification: a list of requests, looked through from the start
//! for everything. No index, no counter, no code of the real one; numbers are small enough for i128.

use std::collections::BTreeMap;

/// LAG in hundredths of a token, the least charge and the first forecast in tokens, as the specification
/// has them.
const LAG: i128 = 4096 * 100;
const LEAST: i128 = 16;
const COLD: i128 = 256;

#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    pub weight: i128,
    pub tag: i128,
    credit: i128,
    floor: i128,
    activation: u64,
}

impl Account {
    fn activate(&mut self, clock: i128, activation: u64) {
        (self.tag, self.credit, self.floor) = (self.tag.max(clock), 0, clock);
        self.activation = activation;
    }

    fn charge(&mut self, old: i128, new: i128) {
        let change = (new << 32) / self.weight - (old << 32) / self.weight;
        self.tag = (self.tag + change).max(self.floor.min(self.tag));
        self.credit += (old - new).max(0);
    }

    fn reweigh(&mut self, clock: i128, weight: i128) {
        let scaled = clock + (self.tag - clock) * self.weight / weight;
        self.tag = scaled.max(self.floor.min(self.tag));
        self.weight = weight;
    }

    /// A grant: not too far behind the clock, and the forecast on top. The tag it was granted at.
    fn grant(&mut self, clock: i128, cost: i128) -> i128 {
        self.tag = self.tag.max(clock - ((LAG + self.credit) << 32) / self.weight);
        let start = self.tag;
        self.tag += (cost << 32) / self.weight;
        self.credit = (self.credit - cost).max(0);
        start
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    pub now: i128,
    carry: i128,
}

impl Clock {
    fn creep(&mut self, cost: i128, theta: i128, weights: i128) {
        let part = (cost << 32) * theta + self.carry;
        self.now += part / (100 * weights);
        self.carry = part % (100 * weights);
    }
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub cap: Option<usize>,
    pub factor: i128,
    pub clock: Clock,
    average: Option<i128>,
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub account: Account,
    pub set: usize,
    pub cap: Option<usize>,
    averages: BTreeMap<usize, i128>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Waiting,
    /// Charged so far, the set that is charged, the factor, the start.
    Running(i128, usize, i128, u64),
}

/// A request. Times are in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub flow: usize,
    pub pool: usize,
    pub key: Option<(usize, usize)>,
    pub prompt: i128,
    pub most: Option<i128>,
    pub answers: i128,
    pub deadline: Option<u64>,
    pub state: State,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Tokens(i128, i128),
    Held,
    Failed,
    Unreceived,
}

#[derive(Debug, Default)]
pub struct Naive {
    pub slots: usize,
    /// In percent.
    theta: i128,
    pub pools: Vec<Pool>,
    pub sets: Vec<Account>,
    pub flows: Vec<Flow>,
    /// What waits or runs, by number.
    pub jobs: BTreeMap<usize, Job>,
    arrived: usize,
    /// Of a set on a pool, since the set was first heard of there.
    pub clocks: BTreeMap<(usize, usize), Clock>,
    /// Pools a flow was heard of on.
    met: Vec<Vec<usize>>,
    key_caps: BTreeMap<(usize, usize), usize>,
    activations: u64,
    /// Grants with their forecast, and refusals, in order.
    pub granted: Vec<(usize, i128)>,
    pub refused: Vec<usize>,
}

impl Naive {
    pub fn new(slots: usize, theta: i128) -> Self {
        Self { slots, theta, ..Self::default() }
    }

    pub fn add_pool(&mut self, cap: Option<usize>, factor: i128) {
        let open = (0..self.pools.len()).filter(|pool| self.open(*pool));
        let now = open.map(|pool| self.pools[pool].clock.now).max().unwrap_or(0);
        self.pools.push(Pool { cap, factor, clock: Clock { now, carry: 0 }, average: None });
    }

    pub fn add_set(&mut self, weight: i128) {
        self.sets.push(Account { weight, ..Account::default() });
    }

    pub fn add_flow(&mut self, weight: i128, set: usize, cap: Option<usize>) {
        let account = Account { weight, ..Account::default() };
        self.flows.push(Flow { account, set, cap, averages: BTreeMap::new() });
        self.met.push(vec![]);
    }

    fn count(&self, of: impl Fn(&Job) -> bool) -> usize {
        self.jobs.values().filter(|job| matches!(job.state, State::Running(..)) && of(job)).count()
    }

    fn waits(&self, of: impl Fn(&Job) -> bool) -> bool {
        self.jobs.values().any(|job| job.state == State::Waiting && of(job))
    }

    fn active(&self, flow: usize, pool: usize) -> bool {
        self.jobs.values().any(|job| job.flow == flow && job.pool == pool)
    }

    fn set_active(&self, set: usize, pool: usize) -> bool {
        (0..self.flows.len()).any(|flow| self.flows[flow].set == set && self.active(flow, pool))
    }

    fn open(&self, pool: usize) -> bool {
        self.pools[pool].cap.is_none_or(|cap| self.count(|job| job.pool == pool) < cap)
    }

    fn meet(&mut self, flow: usize, pool: usize) {
        if !self.met[flow].contains(&pool) {
            self.met[flow].push(pool);
        }
        let set = self.flows[flow].set;
        let open = self.clocks.iter().filter(|((of, pool), _)| *of == set && self.open(*pool));
        let now = open.map(|(_, clock)| clock.now).max().unwrap_or(0);
        self.clocks.entry((set, pool)).or_insert(Clock { now, carry: 0 });
    }

    /// A request comes. Its number.
    pub fn arrive(&mut self, now: u64, job: Job) -> usize {
        let (flow, pool) = (job.flow, job.pool);
        self.meet(flow, pool);
        let widened = job.key.is_some_and(|(key, cap)| self.key_caps.insert((flow, key), cap) != Some(cap));
        if widened {
            self.dispatch(now);
        }
        let set = self.flows[flow].set;
        if !self.waits(|job| self.flows[job.flow].set == set) {
            self.activations += 1;
            self.sets[set].activate(self.pools[pool].clock.now, self.activations);
        }
        if !self.waits(|job| job.flow == flow) {
            self.activations += 1;
            self.flows[flow].account.activate(self.clocks[&(set, pool)].now, self.activations);
        }
        let number = self.arrived;
        self.arrived += 1;
        self.jobs.insert(number, job);
        self.dispatch(now);
        number
    }

    fn may_go(&self, number: usize) -> bool {
        let job = &self.jobs[&number];
        let key_open = |(key, _): (usize, usize)| {
            let mine = |other: &Job| other.flow == job.flow && other.key.is_some_and(|k| k.0 == key);
            self.count(mine) < self.key_caps[&(job.flow, key)]
        };
        job.state == State::Waiting
            && self.open(job.pool)
            && self.flows[job.flow].cap.is_none_or(|cap| self.count(|other| other.flow == job.flow) < cap)
            && job.key.is_none_or(key_open)
    }

    pub fn dispatch(&mut self, now: u64) {
        while self.count(|_| true) < self.slots {
            let able: Vec<usize> = self.jobs.keys().copied().filter(|number| self.may_go(*number)).collect();
            let stand = |account: &Account| (account.tag, account.activation);
            let set_of = |number: &usize| self.flows[self.jobs[number].flow].set;
            let Some(set) = able.iter().map(set_of).min_by_key(|set| stand(&self.sets[*set])) else { return };
            let in_set = able.iter().filter(|number| set_of(number) == set);
            let by_flow = |number: &&usize| (stand(&self.flows[self.jobs[*number].flow].account), **number);
            let number = *in_set.min_by_key(by_flow).unwrap();
            if self.jobs[&number].deadline.is_some_and(|deadline| deadline <= now) {
                self.jobs.remove(&number);
                self.refused.push(number);
            } else {
                self.seat(now, number, set);
            }
        }
    }

    fn seat(&mut self, now: u64, number: usize, set: usize) {
        let job = self.jobs[&number];
        let known = self.flows[job.flow].averages.get(&job.pool).copied();
        let average = known.or(self.pools[job.pool].average).map(|average| (average + 512) / 1024);
        let each = average.unwrap_or(COLD).min(job.most.unwrap_or(i128::MAX));
        let forecast = each * job.answers;
        let factor = self.pools[job.pool].factor;
        let cost = (job.prompt + forecast).max(LEAST) * factor;
        let open: Vec<usize> = (0..self.pools.len()).filter(|pool| self.open(*pool)).collect();
        let tag = self.flows[job.flow].account.grant(self.clocks[&(set, job.pool)].now, cost);
        let set_tag = self.sets[set].grant(self.pools[job.pool].clock.now, cost);
        for pool in open {
            let clock = &mut self.pools[pool].clock;
            clock.now = clock.now.max(set_tag);
            if let Some(clock) = self.clocks.get_mut(&(set, pool)) {
                clock.now = clock.now.max(tag);
            }
        }
        self.jobs.get_mut(&number).unwrap().state = State::Running(cost, set, factor, now);
        self.granted.push((number, forecast));
    }

    fn recharge(&mut self, number: usize, new: i128) {
        let State::Running(old, set, factor, start) = self.jobs[&number].state else { panic!("not running") };
        self.flows[self.jobs[&number].flow].account.charge(old, new);
        self.sets[set].charge(old, new);
        self.jobs.get_mut(&number).unwrap().state = State::Running(new, set, factor, start);
    }

    pub fn progress(&mut self, number: usize, produced: i128) {
        let State::Running(charged, _, factor, _) = self.jobs[&number].state else { panic!("not running") };
        if produced * factor > charged {
            self.recharge(number, produced * factor);
        }
    }

    pub fn finish(&mut self, now: u64, number: usize, end: End) {
        let job = self.jobs[&number];
        let State::Running(_, _, factor, start) = job.state else { panic!("not running") };
        let held = i128::from(now - start) * 50;
        let (tokens, output) = match end {
            End::Tokens(prompt, output) => ((prompt + output).max(LEAST), Some(output)),
            End::Held => (held.max(LEAST), Some(held)),
            End::Failed => (LEAST, None),
            End::Unreceived => (0, None),
        };
        let share = |output: i128| match end {
            End::Held => output,
            _ => (output + job.answers - 1) / job.answers,
        };
        if let Some(sample) = output.map(|output| share(output) * 1024) {
            let step = |old: Option<i128>| old.map_or(sample, |old| old + (sample - old) / 5);
            let averages = &mut self.flows[job.flow].averages;
            averages.insert(job.pool, step(averages.get(&job.pool).copied()));
            self.pools[job.pool].average = Some(step(self.pools[job.pool].average));
        }
        self.recharge(number, tokens * factor);
        let (set, pool) = (self.flows[job.flow].set, job.pool);
        let flows = (0..self.flows.len()).filter(|f| self.flows[*f].set == set && self.active(*f, pool));
        let weights = flows.map(|flow| self.flows[flow].account.weight).sum();
        let sets = (0..self.sets.len()).filter(|set| self.set_active(*set, pool));
        let set_weights = sets.map(|set| self.sets[set].weight).sum();
        self.clocks.get_mut(&(set, pool)).unwrap().creep(tokens * factor, self.theta, weights);
        self.pools[pool].clock.creep(tokens * factor, self.theta, set_weights);
        self.jobs.remove(&number);
        self.dispatch(now);
    }

    /// The clock a flow is measured by.
    fn clock_of(&self, flow: usize) -> i128 {
        let now = |pool: &usize| self.clocks[&(self.flows[flow].set, *pool)].now;
        let active = self.met[flow].iter().filter(|pool| self.active(flow, **pool));
        active.map(now).max().or(self.met[flow].iter().map(now).max()).unwrap_or(0)
    }

    pub fn reweigh(&mut self, flow: usize, weight: i128) {
        let clock = self.clock_of(flow);
        self.flows[flow].account.reweigh(clock, weight);
    }

    pub fn reweigh_set(&mut self, set: usize, weight: i128) {
        let active = (0..self.pools.len()).filter(|pool| self.set_active(set, *pool));
        let clock = active.map(|pool| self.pools[pool].clock.now).max();
        let account = &mut self.sets[set];
        account.reweigh(clock.unwrap_or(account.tag), weight);
    }

    /// Debts come along, credit does not.
    pub fn move_to(&mut self, flow: usize, set: usize) {
        let before = self.clock_of(flow);
        let waits = |pool: &&usize| self.waits(|job| job.flow == flow && job.pool == **pool);
        let clocks = self.met[flow].iter().filter(waits).map(|pool| self.pools[*pool].clock.now);
        if let Some(clock) = clocks.max()
            && !self.waits(|job| self.flows[job.flow].set == set)
        {
            self.activations += 1;
            self.sets[set].activate(clock, self.activations);
        }
        self.flows[flow].set = set;
        self.met[flow].clone().into_iter().for_each(|pool| self.meet(flow, pool));
        let (after, account) = (self.clock_of(flow), self.flows[flow].account);
        let tag = after + (account.tag - before).max(0);
        self.flows[flow].account = Account { tag, credit: 0, floor: after, ..account };
    }
}
