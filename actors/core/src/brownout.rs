//! Brownout: which steps a policy takes while the requests of a pool wait too long.
//!
//! Is: policies, and for each policy and pool a ladder that climbs one stage a move while the pressure lasts
//! and comes down one stage a move when it has gone. Is not: how pressure is measured (`fair_queue`), nor
//! what a step does to a request (the shells). Invariant: a ladder moves at most once in [`HOLD`], up only
//! above the threshold of its policy and down only below half of it; a pool and a policy without a ladder
//! are at rest.
//!
//! Another step: a variant of [`Step`], its name and its stages in the tables below it, a field of [`InForce`].

use crate::ids::ModelId;
use crate::moment::Moment;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The least time between two moves of one ladder.
pub const HOLD: Duration = Duration::from_secs(5);

/// What an operator may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Answers are made shorter.
    CapTokens,
    /// Requests that would wait are refused.
    Shed,
}

/// A rung of the ladder. A step has one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    CapTokens,
    /// Only what is beyond the tenant's share of the pool is refused.
    ShedOverShare,
    /// All that waits is refused.
    ShedAll,
}

impl Step {
    /// Every step, in the order of a policy that names none.
    pub const ALL: [Self; 2] = [Self::CapTokens, Self::Shed];

    /// The word in policies, metrics and views.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CapTokens => "cap_tokens",
            Self::Shed => "shed",
        }
    }

    /// Its stages, the mildest first.
    pub const fn stages(self) -> &'static [Stage] {
        match self {
            Self::CapTokens => &[Stage::CapTokens],
            Self::Shed => &[Stage::ShedOverShare, Stage::ShedAll],
        }
    }
}

/// A policy that is enabled and has steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Policy {
    wait_ms: u32,
    max_tokens: u64,
    /// Each step once at most, in the order they are taken.
    steps: [Option<Step>; Step::ALL.len()],
}

/// Whether what waits is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shed {
    #[default]
    Nothing,
    OverShare,
    All,
}

/// What a policy does at a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// The highest output bound.
    pub max_tokens: Option<u64>,
    pub shed: Shed,
}

impl Policy {
    /// A policy of these steps; one named twice counts once. `None`: it has none and can do nothing.
    pub fn new(wait_ms: u32, max_tokens: u64, steps: impl IntoIterator<Item = Step>) -> Option<Self> {
        let mut taken = [None; Step::ALL.len()];
        for step in steps {
            if !taken.contains(&Some(step))
                && let Some(free) = taken.iter_mut().find(|place| place.is_none())
            {
                *free = Some(step);
            }
        }
        taken.first()?.map(|_| Self { wait_ms: wait_ms.max(1), max_tokens: max_tokens.max(1), steps: taken })
    }

    /// The pressure above which a step is taken.
    pub fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms.into())
    }

    /// The output bound of [`Step::CapTokens`].
    pub const fn max_tokens(&self) -> u64 {
        self.max_tokens
    }

    /// Its steps in their order.
    pub fn steps(&self) -> impl Iterator<Item = Step> {
        self.steps.into_iter().flatten()
    }

    /// The rungs of its ladder.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        self.steps().flat_map(|step| step.stages().iter().copied())
    }

    /// The steps of which at least one stage is taken at this level.
    pub fn taken(&self, level: u8) -> impl Iterator<Item = Step> {
        let mut left = usize::from(level);
        self.steps().take_while(move |step| {
            let begun = left > 0;
            left = left.saturating_sub(step.stages().len());
            begun
        })
    }

    /// What holds at this level.
    pub fn at(&self, level: u8) -> InForce {
        let mut force = InForce::default();
        for stage in self.stages().take(level.into()) {
            match stage {
                Stage::CapTokens => force.max_tokens = Some(self.max_tokens),
                Stage::ShedOverShare => force.shed = force.shed.max(Shed::OverShare),
                Stage::ShedAll => force.shed = force.shed.max(Shed::All),
            }
        }
        force
    }

    fn top(&self) -> u8 {
        u8::try_from(self.stages().count()).unwrap_or(u8::MAX)
    }
}

/// What requests wait for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// All slots: the pool of every model that has room.
    Slots,
    /// The slots of a model at its own cap.
    Model(ModelId),
}

/// How much too slow a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// How long the oldest request has waited for the pool.
    pub oldest_wait: Duration,
    /// How long what waits will take at the measured pace; `None` while nothing was measured.
    pub drain: Option<Duration>,
}

/// What a pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    OldestWait,
    Drain,
}

impl Reason {
    /// The word in views.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OldestWait => "oldest_wait",
            Self::Drain => "drain",
        }
    }
}

impl Pressure {
    /// The longer of the two waits.
    pub fn wait(&self) -> Duration {
        self.oldest_wait.max(self.drain.unwrap_or_default())
    }

    /// Which of them that is.
    pub fn reason(&self) -> Reason {
        if self.drain.is_some_and(|drain| drain > self.oldest_wait) {
            Reason::Drain
        } else {
            Reason::OldestWait
        }
    }
}

/// One policy on one pool.
#[derive(Clone, Copy, Debug)]
struct Ladder {
    level: u8,
    moved_at: Moment,
    /// Of the last look at which the pressure held it up.
    reason: Reason,
}

impl Ladder {
    fn may_move(&self, now: Moment) -> bool {
        now.since(self.moved_at) >= HOLD
    }
}

/// A ladder as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub pool: Pool,
    pub policy: Policy,
    /// Stages that are taken; 0 shortly after the last one was given up.
    pub level: u8,
    pub moved_at: Moment,
    pub reason: Reason,
}

/// All ladders. See the module head.
#[derive(Debug, Default)]
pub struct Brownout {
    ladders: BTreeMap<(Pool, Policy), Ladder>,
}

impl Brownout {
    /// Looks at the pressure of the pools; one that is not named has none. Ladders of policies that are not
    /// among `policies` are gone at once. Whether anything changed.
    pub fn observe(
        &mut self,
        now: Moment,
        policies: &BTreeSet<Policy>,
        pressures: &BTreeMap<Pool, Pressure>,
    ) -> bool {
        let before = self.ladders.len();
        self.ladders.retain(|(_, policy), _| policies.contains(policy));
        let mut changed = self.ladders.len() != before;
        for (pool, policy) in self.ladders.keys().copied().collect::<Vec<_>>() {
            let pressure = pressures.get(&pool).copied().unwrap_or_default();
            changed |= self.move_one(now, pool, policy, pressure);
        }
        for (pool, pressure) in pressures {
            let pressed = policies.iter().filter(|policy| pressure.wait() > policy.wait());
            for policy in pressed {
                self.ladders.entry((*pool, *policy)).or_insert_with(|| {
                    changed = true;
                    Ladder { level: 1, moved_at: now, reason: pressure.reason() }
                });
            }
        }
        changed
    }

    /// Moves a ladder that stands, and takes one away that rests and may move again: none is the same.
    fn move_one(&mut self, now: Moment, pool: Pool, policy: Policy, pressure: Pressure) -> bool {
        let Some(ladder) = self.ladders.get_mut(&(pool, policy)) else { return false };
        let wait = pressure.wait();
        let gone = wait.saturating_mul(2) < policy.wait();
        if !gone {
            ladder.reason = pressure.reason();
        }
        if !ladder.may_move(now) {
            return false;
        }
        let level = match ladder.level {
            level if wait > policy.wait() => level.saturating_add(1).min(policy.top()),
            level if gone => level.saturating_sub(1),
            level => level,
        };
        if level == 0 && ladder.level == 0 {
            self.ladders.remove(&(pool, policy));
            return false;
        }
        let moved = level != ladder.level;
        if moved {
            (ladder.level, ladder.moved_at) = (level, now);
        }
        moved
    }

    /// The ladders that do not rest, by pool.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.ladders.iter().map(|((pool, policy), ladder)| Row {
            pool: *pool,
            policy: *policy,
            level: ladder.level,
            moved_at: ladder.moved_at,
            reason: ladder.reason,
        })
    }

    /// Whether every ladder rests: nothing will change without pressure.
    pub fn at_rest(&self) -> bool {
        self.ladders.is_empty()
    }
}

#[cfg(test)]
mod tests;
