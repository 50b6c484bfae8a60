//! Merging is commutative and idempotent: whatever was heard late, twice or in another order, in the end all agree.

use super::sim::{Dice, model, tenant};
use crate::fair_queue::{
    Demand, Effect, FairQueue, Settings, Spent, Subject, SubjectPlan, TenantPlan, TicketId, Told,
};
use crate::fleet::Pool;
use crate::moment::Moment;
use crate::units::Share;
use std::collections::BTreeMap;

const QUEUES: usize = 3;
const TENANTS: usize = 3;

struct Trial {
    dice: Dice,
    now: u64,
    queues: Vec<FairQueue>,
    running: Vec<Vec<TicketId>>,
    plans: Vec<TenantPlan>,
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
        Self {
            dice: Dice(seed),
            now: 0,
            queues: (0..QUEUES).map(|_| queue()).collect(),
            running: vec![Vec::new(); QUEUES],
            plans: vec![tenant(1, 100), tenant(2, 250), tenant(3, 7)],
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
                    tenant: self.plans[plan],
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
                // Known everywhere at once; what is on its way is of the era before.
                let which = self.place(TENANTS);
                let weight = 1 + u32::try_from(self.dice.below(400)).unwrap();
                self.plans[which].weight = Share::new(weight).unwrap();
                let plan = self.plans[which];
                self.queues.iter_mut().for_each(|queue| queue.set_tenant(now, plan));
                self.eras = true;
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
                SubjectPlan::Tenant(*self.plans.iter().find(|plan| plan.id == id).unwrap())
            }
            Subject::Group(_) => SubjectPlan::Group(self.plans[0].group),
            Subject::Tenants(..) | Subject::Groups(_) => SubjectPlan::Clock,
        };
        let now = self.at();
        self.queues[place].hear(now, u64::try_from(from).unwrap(), subject, plan, told);
    }

    /// Everybody tells and hears all there is, in any order and twice, until nothing is new.
    fn settle(&mut self) {
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
        let groups: Vec<i128> = dumps.iter().map(|dump| dump.groups[0].virtual_time).collect();
        assert!(groups.iter().all(|tag| *tag == groups[0]), "seed {seed}: {groups:?}");
        let clocks: Vec<i128> = dumps.iter().map(|dump| dump.models[0].clock).collect();
        assert!(clocks.iter().all(|clock| *clock == clocks[0]), "seed {seed}: {clocks:?}");
    }
    assert!(with_eras > 20, "{with_eras}");
}
