//! The simulation: each replica is a fair queue and its side of the leases; calls to the store take time, get lost, or
//! are applied without the answer arriving.

use crate::fair_queue::{
    Demand, Effect, FairQueue, GroupPlan, ModelPlan, Refusal, Settings, Spent, Subject, SubjectPlan,
};
use crate::fair_queue::{TenantPlan, TicketId, Told};
use crate::fleet::broker::Broker;
use crate::fleet::{Answer, Ask, Contact, Pool, Replica, Terms};
use crate::ids::{GroupId, ModelId, TenantId};
use crate::moment::Moment;
use crate::units::{CostFactor, Share};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;
use uuid::Uuid;

/// By then a replica that has started has heard of the store: before, it takes no request.
const HEARD: u64 = 120_000;

/// Repeatable numbers (splitmix64).
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What a tenant sends: it keeps `backlog` requests waiting at each of its replicas while it is on.
#[derive(Clone)]
pub(super) struct Load {
    pub tenant: TenantPlan,
    pub model: ModelPlan,
    pub at: Vec<usize>,
    pub backlog: usize,
    pub from: u64,
    pub till: u64,
    /// Requests take so many times as long.
    pub length: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick(usize),
    Arrive(usize, usize),
    /// The question reaches the store.
    Question(usize, u64),
    Answer(usize, u64),
    Ring(usize, String),
    /// The call is given up.
    GaveUp(usize, u64),
    Finish(usize, String, TicketId),
    Tags(usize),
}

pub(super) struct Node {
    pub queue: FairQueue,
    pub replica: Replica,
    alive: bool,
    /// Cut off from the store.
    pub cut: bool,
    /// Until when it stands still, and what has ended at the backend meanwhile.
    asleep: u64,
    overdue: BTreeSet<TicketId>,
    call: Option<(u64, Moment, Ask)>,
    answer: Option<Answer>,
    rung: bool,
    seen: u64,
    lost: bool,
    sender: BTreeMap<TicketId, usize>,
    cost: BTreeMap<TicketId, u64>,
}

/// What is told, as the store keeps it.
#[derive(Default)]
struct Tags {
    next: u64,
    told: BTreeMap<(Subject, u64), (u64, Told)>,
}

pub(super) struct Sim {
    pub nodes: Vec<Node>,
    pub broker: Broker,
    tags: Tags,
    pub store_up: bool,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    pub now: u64,
    pub dice: Dice,
    pub loads: Vec<Load>,
    pub slots: u32,
    /// Chance of a message to be lost, in percent.
    pub loss: u64,
    /// Chance of a question to come after it was given up, in percent.
    pub late: u64,
    delayed: BTreeMap<u64, Ask>,
    pub refused: Vec<Refusal>,
    pub terms: Terms,
    /// Tokens finished, by load.
    pub served: Vec<u64>,
    /// Slots in use × microseconds, since `count_from`.
    busy: u128,
    last: u64,
    pub count_from: u64,
    pub most: u32,
    pub most_of: BTreeMap<Pool, u32>,
    names: u64,
    pub asks: u64,
    pub grants: u64,
    /// Requests that a dead replica was running: they run on at the backend until they end.
    pub orphans: u32,
}

fn id(n: usize) -> Uuid {
    Uuid::from_u128(u128::try_from(n).unwrap() + 1)
}

pub(super) fn group_of(n: usize, weight: u32) -> GroupPlan {
    GroupPlan { id: GroupId(id(n)), weight: Share::new(weight).unwrap() }
}

pub(super) fn tenant(n: usize, weight: u32) -> TenantPlan {
    TenantPlan {
        id: TenantId(id(n)),
        weight: Share::new(weight).unwrap(),
        group: group_of(0, 100),
        max_in_flight: None,
        max_queued: None,
    }
}

pub(super) fn model(n: usize, cap: Option<u32>) -> ModelPlan {
    ModelPlan { id: ModelId(id(n)), cost_factor: CostFactor::ONE, max_in_flight: cap }
}

impl Sim {
    pub fn new(seed: u64, replicas: usize, slots: u32, loads: Vec<Load>) -> Self {
        let mut sim = Self {
            nodes: Vec::new(),
            broker: Broker::default(),
            tags: Tags::default(),
            store_up: true,
            events: BinaryHeap::new(),
            order: 0,
            now: 0,
            dice: Dice(seed),
            served: vec![0; loads.len()],
            loads,
            slots,
            loss: 0,
            late: 0,
            delayed: BTreeMap::new(),
            refused: Vec::new(),
            terms: Terms::default(),
            busy: 0,
            last: 0,
            count_from: 0,
            most: 0,
            most_of: BTreeMap::new(),
            names: 0,
            asks: 0,
            grants: 0,
            orphans: 0,
        };
        for place in 0..replicas {
            sim.nodes.push(Node {
                queue: FairQueue::new(Settings::default()),
                replica: Replica::new(String::new(), Terms::default()),
                alive: false,
                cut: false,
                asleep: 0,
                overdue: BTreeSet::new(),
                call: None,
                answer: None,
                rung: false,
                seen: 0,
                lost: false,
                sender: BTreeMap::new(),
                cost: BTreeMap::new(),
            });
            sim.start(place);
        }
        for load in 0..sim.loads.len() {
            for place in sim.loads[load].at.clone() {
                for _ in 0..sim.loads[load].backlog {
                    let at = sim.loads[load].from + HEARD + sim.dice.below(20_000);
                    sim.later(at, Event::Arrive(place, load));
                }
            }
        }
        sim
    }

    fn later(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    pub fn start(&mut self, place: usize) {
        self.names += 1;
        let settings = Settings { slots: self.slots, max_queued: 100_000, ..Settings::default() };
        let mut queue = FairQueue::new(Settings { default_tenant_max_queued: 100_000, ..settings });
        queue.join_fleet(0);
        let node = &mut self.nodes[place];
        node.queue = queue;
        node.replica = Replica::new(format!("r{}", self.names), self.terms);
        node.alive = true;
        node.call = None;
        node.answer = None;
        node.seen = 0;
        node.sender.clear();
        node.overdue.clear();
        let tick = self.now + self.dice.below(100_000);
        self.later(tick, Event::Tick(place));
        self.later(tick + 1, Event::Tags(place));
    }

    /// Kill -9: what ran there runs on for a while at the backend, unseen.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].alive = false;
        self.orphans += self.nodes[place].queue.in_flight();
    }

    /// It stands still, as if stopped, for so many microseconds.
    pub fn sleep(&mut self, place: usize, micros: u64) {
        self.nodes[place].asleep = self.now + micros;
    }

    /// Changes D everywhere.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        let now = self.moment();
        for place in 0..self.nodes.len() {
            self.nodes[place].queue.set_slots(now, slots);
            self.after(place);
        }
    }

    pub fn empty_the_store(&mut self) {
        self.broker = Broker::default();
        self.tags = Tags::default();
    }

    /// Lets a load that was off begin at a replica again.
    pub fn wake(&mut self, load: usize) {
        for place in self.loads[load].at.clone() {
            for _ in 0..self.loads[load].backlog {
                self.later(self.now + HEARD, Event::Arrive(place, load));
            }
        }
    }

    pub fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            self.account(at);
            self.now = at;
            self.happen(event);
        }
        self.account(end);
        self.now = end;
    }

    fn account(&mut self, at: u64) {
        let in_use = self.in_flight();
        let from = self.last.max(self.count_from);
        self.busy += u128::from(in_use) * u128::from(at.saturating_sub(from));
        self.last = at;
    }

    pub fn in_flight(&self) -> u32 {
        let running = |node: &Node| node.queue.in_flight() - u32::try_from(node.overdue.len()).unwrap();
        self.nodes.iter().filter(|node| node.alive).map(running).sum()
    }

    pub fn reset(&mut self) {
        self.count_from = self.now;
        self.busy = 0;
        self.served.iter_mut().for_each(|served| *served = 0);
    }

    /// Of the slots, in thousandths, since the count began.
    pub fn use_per_mille(&self) -> u128 {
        let span = u128::from(self.now - self.count_from) * u128::from(self.slots);
        self.busy * 1000 / span.max(1)
    }

    fn happen(&mut self, event: Event) {
        let of = match &event {
            Event::Question(..) => None,
            Event::Finish(place, name, _) => {
                (self.nodes[*place].replica.name() == name && self.nodes[*place].alive).then_some(*place)
            }
            Event::Tick(place) | Event::Arrive(place, _) | Event::Answer(place, _) => Some(*place),
            Event::Ring(place, _) | Event::GaveUp(place, _) | Event::Tags(place) => Some(*place),
        };
        if let Some(place) = of
            && self.nodes[place].asleep > self.now
        {
            if let Event::Finish(_, _, ticket) = event {
                self.nodes[place].overdue.insert(ticket);
            }
            // In whatever order.
            let at = self.nodes[place].asleep + self.dice.below(1000);
            return self.later(at, event);
        }
        match event {
            Event::Arrive(place, load) => self.arrive(place, load),
            Event::Finish(place, name, ticket) => {
                if !self.nodes[place].alive || self.nodes[place].replica.name() != name {
                    self.orphans -= 1;
                    return;
                }
                let now = self.moment();
                let node = &mut self.nodes[place];
                node.overdue.remove(&ticket);
                node.replica.look(now, &mut node.queue);
                let cost = node.cost.remove(&ticket).unwrap();
                let load = node.sender.remove(&ticket).unwrap();
                node.queue.release(now, ticket, Spent::Tokens { prompt: 100, output: cost - 100 });
                self.served[load] += cost;
                self.arrive(place, load);
            }
            Event::Tick(place) => {
                if !self.nodes[place].alive {
                    return;
                }
                let pause = 90_000 + self.dice.below(20_000);
                self.later(self.now + pause, Event::Tick(place));
                self.call(place);
                self.after(place);
            }
            Event::Ring(place, name) => {
                if self.nodes[place].alive && self.nodes[place].replica.name() == name {
                    self.nodes[place].rung = true;
                    self.after(place);
                }
            }
            Event::Question(place, number) => self.question(place, number),
            Event::Answer(place, number) => {
                let now = self.moment();
                let node = &mut self.nodes[place];
                let (true, Some((_, sent, _))) = (node.alive, node.call.take_if(|(of, _, _)| *of == number))
                else {
                    return;
                };
                let Some(answer) = node.answer.take() else { return };
                let was_lost = node.replica.contact(now) == Contact::Lost;
                node.replica.hear(now, sent, &mut node.queue, answer);
                if was_lost {
                    node.queue.tell_anew();
                    node.lost = true;
                }
                self.after(place);
            }
            Event::GaveUp(place, number) => {
                let now = self.moment();
                let node = &mut self.nodes[place];
                if node.alive && node.call.take_if(|(of, _, _)| *of == number).is_some() {
                    node.replica.unheard(now, &mut node.queue);
                    self.after(place);
                }
            }
            Event::Tags(place) => self.exchange_tags(place),
        }
    }

    fn arrive(&mut self, place: usize, load: usize) {
        let plan = self.loads[load].clone();
        if !self.nodes[place].alive || self.now >= plan.till {
            return;
        }
        let demand = Demand {
            tenant: plan.tenant,
            model: plan.model,
            key: None,
            prompt_tokens: 100,
            max_output_tokens: Some(1000),
            answers: 1,
            deadline: None,
        };
        let now = self.moment();
        let node = &mut self.nodes[place];
        node.replica.look(now, &mut node.queue);
        match node.queue.enqueue(now, demand) {
            Ok(ticket) => _ = node.sender.insert(ticket, load),
            Err(refusal) => self.refused.push(refusal),
        }
        self.after(place);
    }

    /// After each change at a replica: its grants, and a question if that is worth it.
    fn after(&mut self, place: usize) {
        while let Some(effect) = self.nodes[place].queue.poll_effect() {
            let grant = match effect {
                Effect::Grant(grant) => grant,
                Effect::Refuse { refusal, .. } => {
                    self.refused.push(refusal);
                    continue;
                }
            };
            let load = self.nodes[place].sender.get(&grant.ticket).copied();
            let length = load.map_or(1, |load| self.loads[load].length);
            let took = (50_000 + self.dice.below(200_000)) * length;
            // As many tokens as time, so that shares of slots are shares of tokens.
            let cost = 100 + took / 1000;
            self.nodes[place].cost.insert(grant.ticket, cost);
            self.grants += 1;
            let name = self.nodes[place].replica.name().to_owned();
            self.later(self.now + took, Event::Finish(place, name, grant.ticket));
        }
        let node = &self.nodes[place];
        if node.rung || node.replica.is_urgent(&node.queue) {
            self.call(place);
        }
        self.observe();
    }

    fn observe(&mut self) {
        self.most = self.most.max(self.in_flight() + self.orphans);
        let pools: Vec<Pool> = self
            .loads
            .iter()
            .flat_map(|load| [Pool::Model(load.model.id), Pool::Tenant(load.tenant.id)])
            .collect();
        for pool in pools {
            let sum = self.nodes.iter().filter(|node| node.alive).map(|node| node.queue.in_use(pool)).sum();
            let most = self.most_of.entry(pool).or_default();
            *most = (*most).max(sum);
        }
    }

    /// One call at a time.
    fn call(&mut self, place: usize) {
        if self.nodes[place].call.is_some() {
            return;
        }
        self.order += 1;
        let (now, number) = (self.moment(), self.order);
        let node = &mut self.nodes[place];
        node.rung = false;
        let ask = node.replica.ask(now, &mut node.queue, || format!("g{number}"));
        node.call = Some((number, now, ask));
        self.asks += 1;
        let delay = 50 + self.dice.below(150);
        if self.late > 0 && self.dice.percent(self.late) {
            let ask = self.nodes[place].call.as_ref().map(|(_, _, ask)| ask.clone());
            self.delayed.extend(ask.map(|ask| (number, ask)));
            let delay = self.dice.below(3_000_000);
            self.later(self.now + 250_000 + delay, Event::Question(place, number));
        } else if !self.dice.percent(self.loss) {
            self.later(self.now + delay, Event::Question(place, number));
        }
        self.later(self.now + 250_000, Event::GaveUp(place, number));
        // Leases may have changed and set somebody free.
        let node = &self.nodes[place];
        if node.queue.has_effects() {
            self.after(place);
        }
    }

    fn question(&mut self, place: usize, number: u64) {
        if !self.store_up || self.nodes[place].cut {
            return;
        }
        let current = self.nodes[place].call.as_ref().filter(|(of, _, _)| *of == number);
        let ask = current.map(|(_, _, ask)| ask.clone()).or_else(|| self.delayed.remove(&number));
        let Some(ask) = ask else { return };
        let answer = self.broker.exchange(self.now / 1000 + 1_000_000, &ask);
        for name in &answer.ring {
            let place = self.nodes.iter().position(|node| node.replica.name() == name);
            let delay = 50 + self.dice.below(150);
            if let Some(place) = place
                && !self.nodes[place].cut
                && !self.dice.percent(self.loss)
            {
                self.later(self.now + delay, Event::Ring(place, name.clone()));
            }
        }
        let delay = 50 + self.dice.below(150);
        let awaited = self.nodes[place].call.as_ref().is_some_and(|(of, _, _)| *of == number);
        if awaited && !self.dice.percent(self.loss) {
            self.nodes[place].answer = Some(answer);
            self.later(self.now + delay, Event::Answer(place, number));
        }
    }

    fn exchange_tags(&mut self, place: usize) {
        if !self.nodes[place].alive {
            return;
        }
        let pause = 90_000 + self.dice.below(20_000);
        self.later(self.now + pause, Event::Tags(place));
        if !self.store_up || self.nodes[place].cut || self.dice.percent(self.loss) {
            return;
        }
        let now = self.moment();
        let from: u64 = self.nodes[place].replica.name()[1..].parse().unwrap();
        let node = &mut self.nodes[place];
        for (subject, told) in node.queue.tell(512) {
            self.tags.next += 1;
            self.tags.told.insert((subject, from), (self.tags.next, told));
        }
        if self.tags.next < node.seen {
            node.seen = 0;
        }
        let seen = std::mem::replace(&mut node.seen, self.tags.next);
        for ((subject, other), (number, told)) in &self.tags.told {
            if *other == from || *number <= seen {
                continue;
            }
            let plan = match subject {
                Subject::Tenant(tenant) => {
                    let load = self.loads.iter().find(|load| load.tenant.id == *tenant).unwrap();
                    SubjectPlan::Tenant(load.tenant)
                }
                Subject::Group(group) => {
                    let load = self.loads.iter().find(|load| load.tenant.group.id == *group).unwrap();
                    SubjectPlan::Group(load.tenant.group)
                }
                _ => SubjectPlan::Clock,
            };
            node.queue.hear(now, *other, *subject, plan, *told);
        }
        if std::mem::take(&mut node.lost) {
            node.queue.bound_debts(now);
        }
        node.queue.check().unwrap();
        self.after(place);
    }
}

pub(super) fn secs(n: u64) -> u64 {
    u64::try_from(Duration::from_secs(n).as_micros()).unwrap()
}
