//! Merging is commutative and idempotent: whatever was heard late, twice or in another order, in the end all agree.

use super::sim::{Dice, model, tenant};
use crate::fair_queue::{
    Demand, Effect, FairQueue, GroupPlan, Settings, Spent, Subject, SubjectPlan, TenantPlan, TicketId, Told,
};
use crate::fleet::Pool;
use crate::ids::GroupId;
use crate::moment::Moment;
use crate::units::Share;
use std::collections::BTreeMap;
use uuid::Uuid;

const QUEUES: usize = 3;
const TENANTS: usize = 3;

struct Trial {
    dice: Dice,
    now: u64,
    queues: Vec<FairQueue>,
    running: Vec<Vec<TicketId>>,
    /// As the last change has left them, and as each replica knows them.
    plans: Vec<TenantPlan>,
    known: Vec<Vec<TenantPlan>>,
    told: BTreeMap<(usize, Subject), Told>,
    eras: bool,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let queue = || {
            let mut queue = FairQueue::new(Settings::default());
            queue.join_fleet(0);
            queue.set_leases(&BTreeMap::from([(Pool::Slots, 3)]), 0);
            queue
        };
        let plans = vec![tenant(1, 100), tenant(2, 250), tenant(3, 7)];
        Self {
            dice: Dice(seed),
            now: 0,
            queues: (0..QUEUES).map(|_| queue()).collect(),
            running: vec![Vec::new(); QUEUES],
            known: vec![plans.clone(); QUEUES],
            plans,
            told: BTreeMap::new(),
            eras: false,
        }
    }

    fn place(&mut self, of: usize) -> usize {
        usize::try_from(self.dice.below(u64::try_from(of).unwrap())).unwrap()
    }

    fn at(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    fn step(&mut self) {
        self.now += self.dice.below(100_000);
        let (now, place) = (self.at(), self.place(QUEUES));
        match self.dice.below(10) {
            0..4 => {
                let plan = self.place(TENANTS);
                let demand = Demand {
                    tenant: self.known[place][plan],
                    model: model(1, None),
                    key: None,
                    prompt_tokens: self.dice.below(500),
                    max_output_tokens: Some(300),
                    answers: 1,
                    deadline: None,
                };
                self.queues[place].enqueue(now, demand).unwrap();
            }
            4..7 if !self.running[place].is_empty() => {
                let which = self.place(self.running[place].len());
                let ticket = self.running[place].remove(which);
                let (prompt, output) = (self.dice.below(500), self.dice.below(300));
                self.queues[place].release(now, ticket, Spent::Tokens { prompt, output });
            }
            7 if self.dice.percent(10) => {
                let which = self.place(TENANTS);
                let plan = &mut self.plans[which];
                if self.dice.percent(50) {
                    let weight = 1 + u32::try_from(self.dice.below(400)).unwrap();
                    plan.weight = Share::new(weight).unwrap();
                } else {
                    let id = GroupId(Uuid::from_u128(u128::from(40 + self.dice.below(2))));
                    plan.group = GroupPlan { id, ..plan.group };
                }
                self.eras = true;
            }
            // Each replica hears of a change when it does.
            7 => {
                let which = self.place(TENANTS);
                self.learn(place, which);
            }
            8 => _ = self.tell(place),
            _ => {
                let heard: Vec<_> = self.told.iter().map(|(key, told)| (*key, *told)).collect();
                if !heard.is_empty() {
                    let ((from, subject), told) = heard[self.place(heard.len())];
                    self.hear(place, from, subject, told);
                }
            }
        }
        while let Some(effect) = self.queues[place].poll_effect() {
            if let Effect::Grant(grant) = effect {
                self.running[place].push(grant.ticket);
            }
        }
        self.queues[place].check().unwrap();
    }

    fn learn(&mut self, place: usize, which: usize) {
        let (now, plan) = (self.at(), self.plans[which]);
        self.known[place][which] = plan;
        self.queues[place].set_tenant(now, plan);
    }

    fn tell(&mut self, place: usize) -> bool {
        let told = self.queues[place].tell(100);
        let news = !told.is_empty();
        self.told.extend(told.into_iter().map(|(subject, told)| ((place, subject), told)));
        news
    }

    fn hear(&mut self, place: usize, from: usize, subject: Subject, told: Told) {
        if from == place {
            return;
        }
        let plan = match subject {
            Subject::Tenant(id) => {
                SubjectPlan::Tenant(*self.known[place].iter().find(|plan| plan.id == id).unwrap())
            }
            Subject::Group(id) => SubjectPlan::Group(GroupPlan { id, ..self.plans[0].group }),
            Subject::Tenants(..) | Subject::Groups(_) => SubjectPlan::Clock,
        };
        let now = self.at();
        self.queues[place].hear(now, u64::try_from(from).unwrap(), subject, plan, told);
    }

    /// Everybody tells and hears all there is, in any order and twice, until nothing is new.
    fn settle(&mut self) {
        for place in 0..QUEUES {
            (0..TENANTS).for_each(|which| self.learn(place, which));
        }
        for _ in 0..20 {
            let mut news = false;
            for place in 0..QUEUES {
                news |= self.tell(place);
            }
            if !news {
                return;
            }
            let mut all: Vec<_> = self.told.iter().map(|(key, told)| (*key, *told)).collect();
            all.extend(all.clone());
            while !all.is_empty() {
                let ((from, subject), told) = all.swap_remove(self.place(all.len()));
                (0..QUEUES).for_each(|place| self.hear(place, from, subject, told));
            }
        }
        panic!("there is always something new");
    }
}

#[test]
fn whatever_the_order_all_end_with_the_same_tags() {
    let mut with_eras = 0;
    for seed in 0..60 {
        let mut trial = Trial::new(seed);
        for _ in 0..400 {
            trial.step();
        }
        // Nothing of a request may be left to be corrected later.
        trial.settle();
        with_eras += usize::from(trial.eras);
        let dumps: Vec<_> = trial.queues.iter().map(FairQueue::dump).collect();
        for plan in &trial.plans {
            let tags = dumps.iter().filter_map(|dump| dump.tenants.iter().find(|row| row.id == plan.id));
            let tags: Vec<i128> = tags.map(|row| row.virtual_time).collect();
            assert_eq!(tags.len(), QUEUES, "seed {seed}");
            assert!(tags.iter().all(|tag| *tag == tags[0]), "seed {seed}: {tags:?}");
        }
        let groups = dumps.iter().map(|dump| {
            let groups = dump.groups.iter().map(|row| (row.id, row.virtual_time));
            groups.collect::<BTreeMap<_, _>>()
        });
        let groups: Vec<_> = groups.collect();
        assert!(groups.iter().all(|tags| *tags == groups[0]), "seed {seed}: {groups:?}");
        let clocks: Vec<i128> = dumps.iter().map(|dump| dump.models[0].clock).collect();
        assert!(clocks.iter().all(|clock| *clock == clocks[0]), "seed {seed}: {clocks:?}");
    }
    assert!(with_eras > 20, "{with_eras}");
}

/// A tenant that only the first replica has seen, ahead of the clock by one request.
struct Pair {
    queues: [FairQueue; 2],
    plan: TenantPlan,
}

const AT: Moment = Moment::from_micros(1_000_000);

impl Pair {
    fn new() -> Self {
        let mut queues = [(); 2].map(|()| {
            let mut queue = FairQueue::new(Settings::default());
            queue.join_fleet(0);
            queue.set_leases(&BTreeMap::from([(Pool::Slots, 4)]), 0);
            queue
        });
        let demand = |tenant: TenantPlan, tokens: u64| Demand {
            tenant,
            model: model(1, None),
            key: None,
            prompt_tokens: tokens,
            max_output_tokens: Some(0),
            answers: 1,
            deadline: None,
        };
        // Another tenant moves the clock of both, and the first is ahead of it by one large request.
        let plan = tenant(1, 300);
        for queue in &mut queues {
            for _ in 0..10 {
                queue.enqueue(AT, demand(tenant(2, 100), 1_000)).unwrap();
                let Some(Effect::Grant(grant)) = queue.poll_effect() else { panic!("no grant") };
                queue.release(AT, grant.ticket, Spent::Tokens { prompt: 1_000, output: 0 });
            }
        }
        queues[0].enqueue(AT, demand(plan, 9_000)).unwrap();
        let mut pair = Self { queues, plan };
        pair.exchange(0);
        pair.exchange(1);
        pair
    }

    /// What one replica has to tell, told to the other.
    fn exchange(&mut self, from: usize) {
        let told = self.queues[from].tell(100);
        for (subject, told) in told {
            let plan = match subject {
                Subject::Tenant(id) if id == self.plan.id => SubjectPlan::Tenant(self.plan),
                Subject::Tenant(_) => SubjectPlan::Tenant(tenant(2, 100)),
                Subject::Group(_) => SubjectPlan::Group(self.plan.group),
                _ => SubjectPlan::Clock,
            };
            self.queues[1 - from].hear(AT, u64::try_from(from).unwrap(), subject, plan, told);
        }
    }

    fn leads(&self) -> [i128; 2] {
        [0, 1].map(|place: usize| {
            let dump = self.queues[place].dump();
            dump.tenants.iter().find(|row| row.id == self.plan.id).unwrap().lag
        })
    }
}

#[test]
fn a_change_that_several_replicas_make_is_made_once() {
    // Whoever is first, and whether the other hears of it before it makes the change itself or after.
    for (first, heard_before) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut pair = Pair::new();
        let before = pair.leads();
        assert_eq!(before[0], before[1]);
        assert!(before[0] > 0);
        let (old, new) = (pair.plan, TenantPlan { weight: Share::new(100).unwrap(), ..pair.plan });
        pair.queues[first].set_tenant(AT, new);
        if heard_before {
            pair.plan = old;
            pair.exchange(first);
        }
        pair.plan = new;
        pair.queues[1 - first].set_tenant(AT, new);
        for from in [0, 1, 0, 1] {
            pair.exchange(from);
        }
        let leads = pair.leads();
        // The same cost at a third of the weight.
        assert_eq!(leads, [3 * before[0]; 2], "first {first}, heard before {heard_before}");
    }
}

#[test]
fn a_tenant_that_moves_at_several_replicas_takes_its_debt_along_once() {
    for (first, heard_before) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut pair = Pair::new();
        let debt = pair.leads()[0];
        let old = pair.plan;
        let group = GroupPlan { id: GroupId(Uuid::from_u128(77)), ..old.group };
        let new = TenantPlan { group, ..old };
        pair.queues[first].set_tenant(AT, new);
        if heard_before {
            pair.exchange(first);
        }
        pair.plan = new;
        pair.queues[1 - first].set_tenant(AT, new);
        for from in [0, 1, 0, 1] {
            pair.exchange(from);
        }
        let tags = [0, 1].map(|place: usize| {
            let dump = pair.queues[place].dump();
            dump.tenants.iter().find(|row| row.id == new.id).unwrap().virtual_time
        });
        // The clock of a group that nobody has used stands at that of the groups.
        let clock = pair.queues[0].dump().tenants.iter().find(|row| row.id == new.id).unwrap().lag;
        assert_eq!(tags[0], tags[1], "first {first}, heard before {heard_before}");
        assert!(clock <= debt, "first {first}, heard before {heard_before}: {clock} of {debt}");
    }
}

#[test]
fn one_that_joins_later_does_not_count_the_past_twice() {
    let mut pair = Pair::new();
    // A generation for the two, with a long past in their totals.
    for queue in &mut pair.queues {
        queue.begin_generation(AT, 7);
    }
    for from in [0, 1, 0, 1] {
        pair.exchange(from);
    }
    let tag_of = |queue: &FairQueue, plan: TenantPlan| {
        queue.dump().tenants.iter().find(|row| row.id == plan.id).map(|row| row.virtual_time)
    };
    let other = tenant(2, 100);
    let before = tag_of(&pair.queues[0], other).unwrap();
    assert_eq!(tag_of(&pair.queues[1], other), Some(before));
    assert!(before > 0);
    // The second ends; another one takes its place, and has a request before it has heard of anything.
    let mut newcomer = FairQueue::new(Settings::default());
    newcomer.join_fleet(0);
    newcomer.set_leases(&BTreeMap::from([(Pool::Slots, 4)]), 0);
    let demand = Demand {
        tenant: other,
        model: model(1, None),
        key: None,
        prompt_tokens: 10,
        max_output_tokens: Some(0),
        answers: 1,
        deadline: None,
    };
    newcomer.enqueue(AT, demand).unwrap();
    let own = tag_of(&newcomer, other).unwrap();
    pair.queues[1] = newcomer;
    for queue in &mut pair.queues {
        queue.begin_generation(AT, 8);
    }
    for from in [0, 1, 0, 1] {
        pair.exchange(from);
    }
    for queue in &pair.queues {
        let tag = tag_of(queue, other).unwrap();
        assert!((before..=before + own).contains(&tag), "{tag}, {before} before");
    }
    assert_eq!(tag_of(&pair.queues[0], other), tag_of(&pair.queues[1], other));
}
