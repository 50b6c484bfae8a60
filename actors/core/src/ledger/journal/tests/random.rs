//! Any interleaving of requests, writes, batches, failures, kills and damage.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// The oldest open request ends.
    Close,
    /// A request ends that never had a seat.
    Refuse,
    Write,
    /// The disk takes so many bytes.
    Short(usize),
    /// A batch; does the database take it, and is that heard?
    Batch(bool, bool),
    Keep,
    /// A panic in the core was contained.
    Fault,
    /// Killed; of what was on its way to the kernel so many bytes arrived.
    Kill(usize),
    /// A byte of a segment goes bad.
    Flip(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Open),
        5 => Just(Step::Close),
        3 => Just(Step::Refuse),
        4 => Just(Step::Write),
        1 => (0..300_usize).prop_map(Step::Short),
        4 => any::<(bool, bool)>().prop_map(|(taken, told)| Step::Batch(taken, told)),
        4 => Just(Step::Batch(true, true)),
        3 => Just(Step::Keep),
        1 => Just(Step::Fault),
        1 => (0..400_usize).prop_map(Step::Kill),
    ]
}

/// What must be true in the end.
struct Story {
    world: World,
    next: u128,
    running: VecDeque<u128>,
    /// Appended, and perhaps not with the kernel: opens and rows.
    appended: Vec<(u128, u16)>,
    /// What the kernel has of them: the ids that must have a row, and those whose own row must be it.
    opened: BTreeSet<u128>,
    closed: BTreeSet<u128>,
    flips: usize,
}

impl Story {
    fn new() -> Self {
        Self {
            world: World::new(LIMITS),
            next: 0,
            running: VecDeque::new(),
            appended: Vec::new(),
            opened: BTreeSet::new(),
            closed: BTreeSet::new(),
            flips: 0,
        }
    }

    /// Everything that was appended is with the kernel.
    fn written(&mut self) {
        if self.world.journal.unwritten().is_none() {
            for (id, status) in self.appended.drain(..) {
                if status == 500 { &mut self.opened } else { &mut self.closed }.insert(id);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Open => {
                self.next += 1;
                if world.journal.open(&open_row(self.next)).is_ok() {
                    self.running.push_back(self.next);
                    self.appended.push((self.next, 500));
                }
            }
            Step::Close => {
                let Some(id) = self.running.pop_front() else { return };
                if world.journal.close(&row(id)) {
                    self.appended.push((id, 200));
                }
            }
            Step::Refuse => {
                self.next += 1;
                if world.journal.close(&row(self.next)) {
                    self.appended.push((self.next, 200));
                }
            }
            Step::Write => world.write(),
            Step::Short(most) => world.write_at_most(most),
            Step::Batch(taken, told) => _ = world.batch(2, taken, told),
            Step::Keep => world.keep(),
            Step::Fault => world.journal.resume(),
            Step::Kill(most) => {
                world.write_at_most(most);
                self.written();
                self.appended.clear();
                self.running.clear();
                self.world.restart();
            }
            Step::Flip(segment, at) => {
                let segments = world.disk.len();
                let Some(file) = world.disk.values_mut().nth(segment % segments) else { return };
                if file.len() > HEADER {
                    let at = HEADER + at % (file.len() - HEADER);
                    file[at] ^= 0x10;
                    self.flips += 1;
                }
            }
        }
        self.written();
        self.world.check();
    }

    /// A last kill, and everything is handed over.
    fn end(&mut self) {
        self.world.restart();
        self.world.drain();
        self.world.check();
        assert_eq!(self.world.journal.counts().waiting, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn each_row_is_recorded_once_whatever_happens(steps in prop::collection::vec(step(), 1..150)) {
        let mut story = Story::new();
        steps.iter().for_each(|step| story.take(step));
        story.world.write();
        story.written();
        story.end();
        let database = &story.world.database;
        for id in &story.closed {
            prop_assert_eq!(database.get(id), Some(&200), "the row of {} is its own", id);
        }
        for id in &story.opened {
            prop_assert!(database.contains_key(id), "{} has no row", id);
        }
        let known = |id: &u128| *id <= story.next;
        prop_assert!(database.keys().all(known));
        for (id, status) in database {
            prop_assert!(*status == 200 || !story.closed.contains(id));
        }
        prop_assert_eq!(story.world.journal.counts().corrupt, 0);
    }

    #[test]
    fn a_bad_byte_costs_at_most_one_row(
        steps in prop::collection::vec(
            prop_oneof![20 => step(), 1 => any::<(usize, usize)>().prop_map(|(n, at)| Step::Flip(n, at))],
            1..150,
        )
    ) {
        let mut story = Story::new();
        steps.iter().for_each(|step| story.take(step));
        story.world.write();
        story.written();
        story.end();
        let all: BTreeSet<u128> = story.opened.union(&story.closed).copied().collect();
        let missing = all.iter().filter(|id| !story.world.database.contains_key(id)).count();
        prop_assert!(missing <= story.flips, "{} rows are missing after {} flips", missing, story.flips);
    }
}
