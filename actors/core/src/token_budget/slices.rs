//! What this process may spend of budgets that several replicas share.
//!
//! Is: for each shared number the claim that the common store keeps for this replica, and what the others had when it
//! was last asked. Is not: the store, nor the calls to it; it says what to ask ([`Ask`], [`Report`]) and is told the
//! answers. Needed only where there are replicas: alone a process has none of this.
//!
//! **Claims are absolute.** A replica's claim on a counter is the most that it may ever have used and hold of it, from
//! the beginning of the period on, whatever it has used before and whenever it restarted. A hard budget holds because
//! the claims of all replicas together never pass the limit, and each keeps `used + held` within its own. Since claims
//! are absolute, a call that is repeated does nothing more, and a store that was lost is made whole by everyone saying
//! theirs again.
//!
//! **Order.** Each report carries a number that grows; the store ignores one that is not newer than the last. A claim is
//! made smaller here first and then there, by a report that is *exact*; made larger there first and then here. Answers
//! to reports from before the last exact one are not believed. So the store never has less than the replica believes,
//! in whatever order calls and answers arrive, twice or not at all.
//!
//! **Minutes** are a bucket in the store, from which pools are filled here beforehand. They may be wrong by a call that
//! was lost: a minute heals by itself.

use super::bucket::Bucket;
use super::period::Period;
use super::plan::{Minute, What};
use super::{Owner, TokenBudget};
use crate::moment::Moment;
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::time::Duration;

mod minutes;
mod periods;
pub mod store;

pub(super) use periods::Fit;

/// A slice that nobody needed for so long is given back.
pub const IDLE: Duration = Duration::from_secs(1);
/// What was used so lately is told to the store, and the others' part asked, with every round.
pub const FRESH: Duration = Duration::from_secs(10);

/// Without the store for so long, slices are given up: a minute before the others stop waiting for us.
pub const FORFEIT: Duration = Duration::from_secs(240);

/// One number that replicas share: one unit of what an owner uses in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Counter {
    pub owner: Owner,
    pub period: Period,
    pub index: i64,
    pub what: What,
}

/// What the others have of a counter, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// What they may have used and hold.
    pub claimed: u128,
    pub used: u128,
    /// Used and held.
    pub busy: u128,
}

/// What must be asked of the store before a request can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A claim of at least `least`.
    Claim { counter: Counter, least: u128, limit: u128 },
    /// So many tokens or requests of this minute.
    Minute { owner: Owner, minute: Minute, count: u64, limit: u64 },
}

/// What is told to the store of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub counter: Counter,
    /// Grows with each report of this replica.
    pub seq: u64,
    /// The claim is `have` and no more, whatever the store knows.
    pub exact: bool,
    pub have: u128,
    /// What is wanted at least; no more than `have`: nothing.
    pub least: u128,
    /// `None`: there is no hard limit, and nothing is refused.
    pub limit: Option<u128>,
    pub used: u128,
    /// Used and held.
    pub busy: u128,
}

/// What the store says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub seq: u64,
    /// The claim that it keeps now. Less than `least`: the limit left no more.
    pub claim: u128,
    pub others: Others,
}

/// What this replica says to the bucket of a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dip {
    pub owner: Owner,
    pub minute: Minute,
    pub limit: u64,
    /// Taken whatever there is: was used already. Negative: given back.
    pub due: i64,
    /// Taken if it is there.
    pub want: u64,
}

/// What the bucket of a minute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dipped {
    /// Taken of what was wanted, or more.
    pub got: u64,
    /// What can be taken still.
    pub left: u64,
    /// How long until what was wanted can be had; zero: it was.
    pub wait: Duration,
}

/// One counter as it stands here.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    /// The store keeps at least this for us.
    allowance: u128,
    /// The hard limit that it was given under; `None`: none, or not asked yet.
    limit: Option<u128>,
    others: Others,
    /// The number of the last exact report: older answers are not believed.
    exact: u64,
    /// The newest answer.
    heard: u64,
    /// Used and busy as they were told last; `None`: they must be told.
    told: Option<(u128, u128)>,
    /// The store may keep more for us than we know.
    unsure: bool,
    /// A request came by.
    touched: Moment,
}

/// Tokens or requests of a minute that were taken beforehand.
#[derive(Clone, Copy, Debug)]
struct Pool {
    have: i64,
    /// The bucket in the store as it was seen last.
    seen: Bucket,
    /// How long the last one who was refused would have to wait.
    wait: Duration,
    touched: Moment,
}

/// The part of the budgets that is shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Slices {
    seq: u64,
    /// When the store answered a sign of life last.
    heard: Moment,
    counters: HashMap<Counter, Slice, FixedState>,
    pools: HashMap<(Owner, Minute), Pool, FixedState>,
    /// What the call that was answered with `Short` lacks.
    lacking: Vec<Ask>,
    /// Without the store each replica goes by its part of a minute: one in so many.
    parts: Option<u64>,
    /// What this replica's parts began with when the store went away.
    inherited: HashMap<(Owner, Minute), Bucket, FixedState>,
}

impl Slices {
    /// Another call begins.
    pub fn begin(&mut self) {
        self.lacking.clear();
    }

    /// Whether the store is away and every replica goes by its part of a minute.
    pub const fn is_apart(&self) -> bool {
        self.parts.is_some()
    }

    /// Others may believe us dead: what is not in use is not ours any more. A process that was stopped learns of it
    /// with its first request.
    fn is_forfeit(&self, now: Moment) -> bool {
        now.since(self.heard) > FORFEIT
    }

    /// Of what a minute gives, this replica has one part in so many; `None`: the store has the bucket.
    pub fn parts(&self) -> Option<u64> {
        self.parts
    }
}

impl TokenBudget {
    /// From now on budgets are shared with other replicas. `seq` must be more than the last life of this replica
    /// ever used: the time, in microseconds.
    pub fn share(&mut self, now: Moment, seq: u64) {
        let slices = self.slices.get_or_insert_with(Box::default);
        (slices.seq, slices.heard) = (seq, now);
    }

    /// The store has answered a sign of life.
    pub fn heard(&mut self, now: Moment) {
        self.unheard(now);
        if let Some(slices) = &mut self.slices {
            slices.heard = now;
        }
    }

    /// The store did not answer. After too long, what is not in use is given up.
    pub fn unheard(&mut self, now: Moment) {
        if self.slices.as_ref().is_some_and(|slices| slices.is_forfeit(now)) {
            self.give_all_back();
        }
    }

    /// What the last call that answered `Short` needs.
    pub fn lacks(&mut self) -> Vec<Ask> {
        self.slices.as_mut().map(|slices| std::mem::take(&mut slices.lacking)).unwrap_or_default()
    }
}
