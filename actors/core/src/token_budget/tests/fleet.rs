//! Replicas that share a hard budget through the model of the store: calls and answers that are late, come twice, out
//! of order or never, replicas that crash and come back, a store that is lost, and parts that do not see each other.

use super::super::slices::store::{Beat, DEAD, MISSING, QUARANTINE, Reply, Store};
use super::*;
use std::collections::BTreeMap;

const LIMIT: u64 = 20_000;
/// Used by somebody who shares nothing.
const GONE: u64 = 3_000;

/// A replica: its core, its own requests, and what it wrote to the ledger.
struct Replica {
    id: String,
    core: TokenBudget,
    holds: Vec<(HoldId, u64)>,
    /// Used, and in the ledger's database.
    written: u64,
    /// Used, and in the journal alone.
    journal: u64,
    run: String,
    asserted: String,
    open: bool,
    knew: Vec<String>,
    alive: bool,
    cut: bool,
    lives: u64,
}

/// On its way from the store.
struct Late {
    to: usize,
    life: u64,
    counter: Counter,
    answer: Answer,
}

struct World {
    seed: u64,
    dice: Dice,
    now: u64,
    store: Store,
    /// What the store has on its disk.
    kept: Store,
    replicas: Vec<Replica>,
    runs: u64,
    /// Calls that arrive later, or a second time.
    calls: Vec<(usize, u64, String, Report)>,
    answers: Vec<Late>,
    granted: u64,
    refused: BTreeMap<&'static str, u64>,
    faults: bool,
}

fn counter() -> Counter {
    Counter { owner: Owner::Tenant(tenant(1)), period: Period::Total, index: 0, what: What::Tokens }
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let mut world = Self {
            seed,
            dice: Dice(seed),
            now: 1_000_000,
            store: Store::default(),
            kept: Store::default(),
            replicas: Vec::new(),
            runs: 0,
            calls: Vec::new(),
            answers: Vec::new(),
            granted: 0,
            refused: BTreeMap::new(),
            faults: true,
        };
        for n in 0..count {
            world.replicas.push(Replica {
                id: format!("r{n}"),
                core: TokenBudget::default(),
                holds: Vec::new(),
                written: 0,
                journal: 0,
                run: String::new(),
                asserted: String::new(),
                open: false,
                knew: Vec::new(),
                alive: false,
                cut: false,
                lives: 0,
            });
        }
        (0..count).for_each(|n| world.start(n));
        world
    }

    fn moment(&self) -> Moment {
        Moment::from_micros(self.now * 1000)
    }

    /// Begins with what the ledger has of it, once the journal is in it.
    fn start(&mut self, n: usize) {
        let (now, seq) = (self.moment(), self.now * 1000);
        let replica = &mut self.replicas[n];
        replica.written += std::mem::take(&mut replica.journal);
        replica.core = TokenBudget::default();
        replica.core.share(now, seq);
        let used = Amount { tokens: replica.written, pico: 0 };
        replica.core.restore(NOON, Owner::Tenant(tenant(1)), [used; 3]);
        (replica.alive, replica.cut, replica.open) = (true, false, false);
        (replica.run, replica.asserted) = (String::new(), String::new());
        // Whom it knew lies with its journal.
        replica.lives += 1;
    }

    /// What is held is charged at the replay of the journal.
    fn crash(&mut self, n: usize) {
        let replica = &mut self.replicas[n];
        replica.journal += replica.holds.drain(..).map(|(_, held)| held).sum::<u64>();
        replica.alive = false;
    }

    fn used(&self) -> u64 {
        let held = |replica: &Replica| replica.holds.iter().map(|(_, held)| held).sum::<u64>();
        let of = |replica: &Replica| replica.written + replica.journal + held(replica);
        GONE + self.replicas.iter().map(of).sum::<u64>()
    }

    fn reaches(&mut self, n: usize) -> bool {
        !(self.replicas[n].cut || self.faults && self.dice.one_in(12))
    }

    fn beat(&mut self, n: usize) {
        if !self.reaches(n) {
            return;
        }
        self.runs += 1;
        let next = format!("run{}", self.runs);
        let replica = &mut self.replicas[n];
        let (id, asserted, knew) = (replica.id.clone(), replica.asserted.clone(), replica.knew.clone());
        let Beat { run, open, members, .. } = self.store.beat(self.now, &id, &next, &asserted, &knew);
        let now = self.moment();
        let replica = &mut self.replicas[n];
        replica.core.heard(now);
        if run != replica.asserted {
            replica.run.clone_from(&run);
            let mut told = true;
            for report in replica.core.assert(NOON, |_| true) {
                told &= self.store.report(self.now, &run, &id, 1, &report) != Reply::Lost;
            }
            if told {
                replica.asserted = run;
            }
        }
        replica.open = open && replica.asserted == replica.run;
        if replica.open {
            replica.knew = members;
        }
    }

    /// Sends a report; the answer comes at once, later, or never, and the call perhaps twice.
    fn send(&mut self, n: usize, report: Report) -> Option<Reply> {
        let life = self.replicas[n].lives;
        let run = self.replicas[n].run.clone();
        if self.faults && self.dice.one_in(6) {
            self.calls.push((n, life, run.clone(), report));
        }
        if !self.reaches(n) {
            return None;
        }
        let reply = self.arrive(n, &run, &report);
        if self.faults && self.dice.one_in(6) {
            if let Reply::Kept(claim, others) = reply {
                let answer = Answer { seq: report.seq, claim, others };
                self.answers.push(Late { to: n, life, counter: report.counter, answer });
            }
            return None;
        }
        if let Reply::Kept(claim, others) = reply {
            let answer = Answer { seq: report.seq, claim, others };
            self.replicas[n].core.claimed(report.counter, &answer);
        }
        Some(reply)
    }

    fn arrive(&mut self, n: usize, run: &str, report: &Report) -> Reply {
        let members = u64::try_from(self.replicas.len()).unwrap();
        let id = self.replicas[n].id.clone();
        self.store.report(self.now, run, &id, members, report)
    }

    fn begin(&mut self, n: usize) {
        let written: Vec<_> =
            self.replicas.iter().map(|replica| (replica.id.clone(), u128::from(replica.written))).collect();
        let gone = [(String::new(), u128::from(GONE))];
        let written = [written, gone.to_vec()].concat();
        let run = self.replicas[n].run.clone();
        self.store.begin(&run, counter(), &written);
    }

    fn request(&mut self, n: usize, size: u64) -> Result<(), &'static str> {
        let limits = hard(LIMIT);
        let now = self.moment();
        for turn in 0..6 {
            let demand = Demand { asked: turn == 5, ..demand(&limits, size, 0) };
            match self.replicas[n].core.reserve(now, &demand) {
                Ok(granted) => {
                    self.replicas[n].holds.push((granted.id, size));
                    self.granted += 1;
                    return Ok(());
                }
                Err(Refusal::Short) => {}
                Err(Refusal::Exhausted(_)) => return Err("exhausted"),
                Err(Refusal::Reserved { .. }) => return Err("reserved"),
                Err(other) => panic!("{other:?}"),
            }
            if !self.replicas[n].open {
                return Err("away");
            }
            for ask in self.replicas[n].core.lacks() {
                let Ask::Claim { counter, least, limit } = ask else { panic!("{ask:?}") };
                let report = self.replicas[n].core.claim(counter, least, limit).unwrap();
                match self.send(n, report) {
                    None | Some(Reply::Lost | Reply::Closed | Reply::Stale(_)) => return Err("away"),
                    Some(Reply::Blank) => self.begin(n),
                    Some(Reply::Kept(claim, others)) => {
                        if claim < least && others.claimed > others.busy {
                            self.all_give_back();
                        }
                    }
                }
            }
        }
        Err("unlucky")
    }

    fn all_give_back(&mut self) {
        for n in 0..self.replicas.len() {
            if self.replicas[n].alive
                && let Some(report) = self.replicas[n].core.give_back(counter())
            {
                self.send(n, report);
            }
        }
    }

    fn settle(&mut self, n: usize) {
        if self.replicas[n].holds.is_empty() {
            return;
        }
        let count = u64::try_from(self.replicas[n].holds.len()).unwrap();
        let at = usize::try_from(self.dice.below(count)).unwrap();
        let (id, held) = self.replicas[n].holds.swap_remove(at);
        let tokens = if self.dice.one_in(3) { held } else { self.dice.below(held + 1) };
        let now = self.moment();
        self.replicas[n].core.settle(now, id, used(tokens));
        self.replicas[n].journal += tokens;
    }

    fn round(&mut self, n: usize) {
        let now = self.moment();
        let reports = self.replicas[n].core.round(now);
        for report in reports {
            if self.send(n, report) == Some(Reply::Blank) && report.counter == counter() {
                self.begin(n);
            }
        }
        self.replicas[n].core.unheard(now);
        if !self.dice.one_in(3) {
            let replica = &mut self.replicas[n];
            replica.written += std::mem::take(&mut replica.journal);
        }
    }

    fn step(&mut self) {
        self.now += 1 + self.dice.below(120);
        let n = usize::try_from(self.dice.below(u64::try_from(self.replicas.len()).unwrap())).unwrap();
        if self.replicas[n].alive {
            match self.dice.below(10) {
                0..=4 => {
                    let most = if self.dice.one_in(4) { 900 } else { 90 };
                    let size = 1 + self.dice.below(most);
                    if let Err(why) = self.request(n, size) {
                        *self.refused.entry(why).or_default() += 1;
                    }
                }
                5..=7 => self.settle(n),
                8 => self.beat(n),
                _ => self.round(n),
            }
        } else if self.dice.one_in(30) {
            self.start(n);
        }
        if self.dice.one_in(2) {
            self.deliver();
        }
        if self.faults {
            match self.dice.below(4_000) {
                0..=3 => self.crash(n),
                4 if self.dice.one_in(2) => self.store = Store::default(),
                4 => {
                    // With what was on its disk some time ago.
                    self.store = self.kept.clone();
                    self.store.restart();
                }
                41..=45 => self.kept = self.store.clone(),
                5..=8 => self.replicas[n].cut = true,
                9..=40 => self.replicas[n].cut = false,
                _ => {}
            }
        }
        assert!(self.used() <= LIMIT, "seed {}: {} of {LIMIT} are used or held", self.seed, self.used());
        self.check_claims();
    }

    /// The store never keeps less for a replica than it believes to have.
    fn check_claims(&self) {
        for replica in self.replicas.iter().filter(|replica| replica.alive && !replica.asserted.is_empty()) {
            let kept = self.store.claim_of(&replica.asserted, &replica.id, &counter());
            let believed = replica.core.allowance(&counter());
            let kept = kept.unwrap_or(u128::MAX);
            assert!(kept >= believed, "seed {}: {} believes {believed} of {kept}", self.seed, replica.id);
        }
    }

    fn deliver(&mut self) {
        if !self.calls.is_empty() {
            let at = usize::try_from(self.dice.below(u64::try_from(self.calls.len()).unwrap())).unwrap();
            let (n, _, run, report) = self.calls.swap_remove(at);
            self.arrive(n, &run, &report);
        }
        if !self.answers.is_empty() {
            let at = usize::try_from(self.dice.below(u64::try_from(self.answers.len()).unwrap())).unwrap();
            let late = self.answers.swap_remove(at);
            if self.replicas[late.to].lives == late.life {
                self.replicas[late.to].core.claimed(late.counter, &late.answer);
            }
        }
    }

    /// Everything ends, everybody is well again, and what is not in use is given back.
    fn rest(&mut self) {
        self.faults = false;
        while !(self.calls.is_empty() && self.answers.is_empty()) {
            self.deliver();
        }
        for n in 0..self.replicas.len() {
            self.replicas[n].cut = false;
            if !self.replicas[n].alive {
                self.start(n);
            }
            while !self.replicas[n].holds.is_empty() {
                self.settle(n);
            }
        }
        for _ in 0..40 {
            self.now += QUARANTINE / 8;
            for n in 0..self.replicas.len() {
                self.beat(n);
                self.round(n);
            }
        }
    }
}

#[test]
fn however_calls_go_astray_a_hard_budget_is_not_passed_and_nothing_is_lost_of_it() {
    let (mut granted, mut refused) = (0, BTreeMap::<_, u64>::new());
    for seed in 0..60 {
        let mut world = World::new(seed, 2 + usize::try_from(seed % 4).unwrap());
        for _ in 0..4_000 {
            world.step();
        }
        world.rest();
        assert!(world.store.claimed(&counter()) <= u128::from(world.used()), "seed {seed}: slices lie idle");
        for replica in &world.replicas {
            assert!(replica.open, "seed {seed}: {} waits for ever", replica.id);
        }
        if world.request(0, 1).is_ok() {
            world.settle(0);
            world.rest();
        }
        // Whoever looks at it begins it, if nobody has asked since it was lost.
        world.begin(0);
        let claimed = world.store.claimed(&counter());
        assert_eq!(claimed, u128::from(world.used()), "seed {seed}: claims are what is used");
        // To the last token, by whoever comes.
        while world.used() < LIMIT {
            let n = usize::try_from(world.now % 2).unwrap();
            world.now += 1;
            assert_eq!(world.request(n, 1), Ok(()), "seed {seed}: {} used", world.used());
            assert!(world.used() <= LIMIT);
        }
        assert!(matches!(world.request(1, 1), Err("exhausted" | "reserved")), "seed {seed}");
        granted += world.granted;
        world.refused.into_iter().for_each(|(why, count)| *refused.entry(why).or_default() += count);
    }
    assert!(granted > 1000, "{granted} {refused:?}");
    for why in ["exhausted", "reserved", "away"] {
        assert!(refused.contains_key(why), "{refused:?}");
    }
}

#[test]
fn a_dead_replica_keeps_its_slice_until_it_returns() {
    let mut world = World::new(1, 2);
    world.faults = false;
    for _ in 0..12 {
        (0..2).for_each(|n| world.beat(n));
        world.now += QUARANTINE / 10;
    }
    assert_eq!(world.request(0, 1_000), Ok(()));
    world.crash(0);
    world.now += DEAD * 10;
    world.beat(1);
    assert_eq!(
        world.request(1, LIMIT - GONE - 1_000),
        Err("reserved"),
        "the rest of the slice may be in use"
    );
    world.start(0);
    world.beat(0);
    assert_eq!(world.request(1, LIMIT - GONE - 1_000), Ok(()));
    assert_eq!(world.used(), LIMIT);
}

#[test]
fn one_that_stood_still_longer_than_others_wait_spends_nothing_of_what_it_had() {
    for asks_first in [false, true] {
        let mut world = World::new(1, 2);
        world.faults = false;
        let beats = |world: &mut World, all: &[usize], millis: u64| {
            for _ in 0..millis / 500 {
                world.now += 500;
                all.iter().for_each(|n| world.beat(*n));
            }
        };
        beats(&mut world, &[0, 1], 2 * QUARANTINE);
        assert_eq!(world.request(0, 1_000), Ok(()));
        world.settle(0);
        let replica = &mut world.replicas[0];
        replica.written += std::mem::take(&mut replica.journal);
        let slack = u64::try_from(replica.core.allowance(&counter())).unwrap() - replica.written;
        assert!(slack > 100, "{slack}");
        // Replica 0 is stopped, the store is lost, and after a while the other one gets everything.
        world.store = Store::default();
        beats(&mut world, &[1], MISSING + QUARANTINE);
        let left = LIMIT - world.used();
        assert_eq!(world.request(1, left), Ok(()));
        // It goes on as if nothing had been.
        if asks_first {
            assert_eq!(world.request(0, slack / 2), Err("away"));
        }
        beats(&mut world, &[0, 1], 1_000);
        assert!(world.request(0, slack / 2).is_err());
        assert_eq!(world.used(), LIMIT);
        world.check_claims();
    }
}
