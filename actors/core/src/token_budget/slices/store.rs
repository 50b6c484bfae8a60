//! The rules of the common store.
//!
//! Is: what Redis does with the reports of replicas, in Rust, for tests: those of the cores run on it, and the script
//! that Redis runs is compared with it. Is not: used by a running gateway.
//!
//! **Runs.** What the store knows may be lost at any time, so it counts runs: a new one begins when there is none. It
//! gives nothing to anybody before every replica that may hold something has said what ([`Store::beat`]), and nothing of
//! a counter before it was told what the ledger has of it ([`Store::begin`]).

use super::{Counter, Others, Report};
use std::collections::{BTreeMap, BTreeSet};

/// A run opens after this long at the earliest: every replica that lives has found it by then. Milliseconds.
pub const QUARANTINE: u64 = 3_000;
/// A replica that was there when the store was lost, and did not come back, is waited for so long. Milliseconds. It
/// gives up its slices before.
pub const MISSING: u64 = 300_000;
/// Without a sign for so long a replica is not counted any more. Milliseconds.
pub const DEAD: u64 = 3_000;
/// One that has not ended, but gave no sign for so long, is forgotten, and its claims with the next run. Milliseconds.
pub const FORGOTTEN: u64 = 86_400_000;
/// For so long after somebody was refused nobody gets anything beforehand. Milliseconds.
pub const WANTED: u64 = 1_000;
/// What is given beforehand: of what is left, one in so many for each replica.
pub const SPARE: u64 = 8;

/// What one replica has of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    seq: u64,
    claim: u128,
    used: u128,
    busy: u128,
}

#[derive(Clone, Debug, Default)]
struct Shared {
    /// The run that was told what the ledger has.
    begun: Option<String>,
    wanted: Option<u64>,
    parts: BTreeMap<String, Part>,
}

/// What the store says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The claim that is kept now.
    Kept(u128, Others),
    /// It is not known yet what the ledger has.
    Blank,
    /// Not everybody has said what they hold.
    Closed,
    /// Another run than the one that was named.
    Lost,
    /// Something newer was heard; its number.
    Stale(u64),
}

/// What the store says to one who lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    pub run: String,
    pub open: bool,
    /// How many live.
    pub live: u64,
    /// All who have not ended: those that live, and those that may come back with usage that nobody knows.
    pub members: Vec<String>,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Store {
    run: Option<(String, u64)>,
    open: bool,
    members: BTreeMap<String, (u64, String)>,
    expected: BTreeSet<String>,
    counters: BTreeMap<Counter, Shared>,
}

impl Store {
    fn is(&self, run: &str) -> bool {
        self.run.as_ref().is_some_and(|(known, _)| known == run)
    }

    /// The server was started again, with what it had on its disk; or another took over.
    pub fn restart(&mut self) {
        self.run = None;
        self.open = false;
        // Those who had not ended may hold more than it knows.
        self.expected = self.members.keys().cloned().collect();
    }

    /// A replica lives. `next`: the name of a run, if there is none. `asserted`: the run that it has told everything.
    /// `knew`: whom the store knew when it looked last.
    pub fn beat(&mut self, now: u64, id: &str, next: &str, asserted: &str, knew: &[String]) -> Beat {
        let (run, began) = self.run.get_or_insert_with(|| (next.to_owned(), now)).clone();
        self.members.insert(id.to_owned(), (now, asserted.to_owned()));
        self.members.retain(|_, (seen, _)| now.saturating_sub(*seen) < FORGOTTEN);
        if !self.open {
            self.expected.extend(knew.iter().cloned());
            let age = now.saturating_sub(began);
            let lives = |seen: u64| now.saturating_sub(seen) < DEAD;
            let told = |name: &String| self.members.get(name).is_some_and(|(_, told)| *told == run);
            let all = self.members.iter().all(|(name, (seen, _))| !lives(*seen) || told(name));
            let back = age >= MISSING || self.expected.iter().all(told);
            self.open = age >= QUARANTINE && all && back;
        }
        let live = self.members.values().filter(|(seen, _)| now.saturating_sub(*seen) < DEAD).count();
        let live = u64::try_from(live).unwrap_or(u64::MAX);
        Beat { run, open: self.open, live, members: self.members.keys().cloned().collect() }
    }

    /// A replica ends; it has told what it used.
    pub fn leave(&mut self, id: &str) {
        self.members.remove(id);
        self.expected.remove(id);
    }

    /// What everybody has written to the ledger of a counter, for the first time in this run.
    pub fn begin(&mut self, run: &str, counter: Counter, written: &[(String, u128)]) -> bool {
        if !self.is(run) || !self.open {
            return false;
        }
        let shared = self.counters.entry(counter).or_default();
        if shared.begun.replace(run.to_owned()).as_deref() != Some(run) {
            for (id, used) in written {
                let part = shared.parts.entry(id.clone()).or_default();
                part.used = part.used.max(*used);
                part.busy = part.busy.max(*used);
                part.claim = part.claim.max(*used);
            }
        }
        true
    }

    /// A replica says what it has and wants of a counter.
    pub fn report(&mut self, now: u64, run: &str, id: &str, members: u64, report: &Report) -> Reply {
        if !self.is(run) {
            return Reply::Lost;
        }
        let open = self.open;
        let shared = self.counters.entry(report.counter).or_default();
        let begun = shared.begun.as_deref() == Some(run);
        let known = shared.parts.get(id).copied().unwrap_or_default();
        if report.seq <= known.seq {
            return Reply::Stale(known.seq);
        }
        let mut claim = if report.exact { report.have } else { report.have.max(known.claim) };
        let mut others = Others::default();
        for (_, part) in shared.parts.iter().filter(|(name, _)| *name != id) {
            others.claimed = others.claimed.saturating_add(part.claim);
            others.used = others.used.saturating_add(part.used);
            others.busy = others.busy.saturating_add(part.busy);
        }
        let wants = report.least > claim;
        if let (true, true, true, Some(limit)) = (wants, open, begun, report.limit) {
            let room = limit.saturating_sub(others.claimed);
            if room >= report.least {
                let hurry = shared.wanted.is_some_and(|at| now.saturating_sub(at) < WANTED);
                let spare = (room - report.least) / u128::from(SPARE * members.max(1));
                claim = report.least + if hurry { 0 } else { spare };
            } else if others.claimed > others.busy {
                shared.wanted = Some(now);
            }
        }
        let part = Part { seq: report.seq, claim, used: report.used, busy: report.busy };
        shared.parts.insert(id.to_owned(), part);
        match (wants, open, begun) {
            (true, false, _) => Reply::Closed,
            (_, true, false) => Reply::Blank,
            _ => Reply::Kept(claim, others),
        }
    }

    /// The claim that is kept for one replica, in the run that it knows.
    pub fn claim_of(&self, run: &str, id: &str, counter: &Counter) -> Option<u128> {
        let part = self.counters.get(counter).and_then(|shared| shared.parts.get(id));
        self.is(run).then(|| part.map_or(0, |part| part.claim))
    }

    /// What all claims on a counter come to.
    pub fn claimed(&self, counter: &Counter) -> u128 {
        self.counters.get(counter).map_or(0, |shared| shared.parts.values().map(|part| part.claim).sum())
    }
}
