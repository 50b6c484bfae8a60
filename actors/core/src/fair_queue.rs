//! The fair queue: who goes next. Hierarchical start-time fair queuing with D slots, HR-SFQ(D).
//!
//! Is: weights, groups that lend to each other, a clock for every model pool, caps, deadlines, bounded
//! queues, and the charge of every request (forecast at the grant, corrected while it streams and at the
//! end). Is not: an actor, a timer, a network; slots that several replicas share are given to it by
//! [`FairQueue::set_slots`]. Invariant: a free slot and an eligible waiter never exist at once, a seat
//! goes back exactly once, no clock falls. Source: fairness specification §1–§3, §7 (SFQ: Goyal, Vin,
//! Cheng 1996; SFQ(D): Jin, Chase, Kaur 2004; H-SFQ).
//!
//! How it reads. A tenant has a *tag*: the cost it was charged so far, divided by its weight. Whoever has
//! the smallest tag goes next, so service per weight stays level. *Clocks* follow the tags of those who
//! are granted; a tenant that returns is lifted to the clock, so idling earns nothing. A group has a tag
//! and a clock in the same way, one level up. Each pool keeps its own clocks, because a tenant waiting
//! for a full pool must be compared with the others who wait for it.
//!
//! All derived state (who is listed where, sums of active weights) has one writer, `refresh`.

mod account;
mod arena;
mod arrive;
mod check;
mod cost;
mod dispatch;
mod explain;
mod fairness;
mod finish;
mod forget;
mod heaviest;
mod index;
mod live;
mod loads;
mod merge;
mod pace;
mod picture;
mod plan;
mod planted;
mod portion;
mod recent;
mod resume;
mod shared;
mod shed;
mod standing;
mod state;
mod view;
mod wait;
mod work;

pub use check::Broken;
pub use explain::{Bound, Position};
pub use fairness::{Fairness, Weights, tokens_a_weight};
pub use loads::{Load, Loads};
pub use merge::{Measure, NotTold, Subject, SubjectPlan, Told};
pub use picture::{GroupRow, LaneRow, ModelRow, Picture, TenantRow};
pub use plan::{
    Demand, Effect, Grant, GroupPlan, ModelPlan, NO_CAP, Refusal, SeatRecord, Settings, Spent, TenantPlan,
    TicketId,
};
pub use portion::Portion;
pub use shed::{Claim, Keep};
pub use standing::{ModelStanding, Standing};
pub use view::{Dump, GroupView, ModelView};

use crate::ids::{GroupId, ModelId, TenantId};
use crate::moment::Moment;
use arena::{Arena, FixedHash};
use forget::Idle;
use heaviest::Heaviest;
use pace::Pace;
use recent::Watch;
use shared::Shared;
use state::{Group, Model, Tenant, Ticket};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Place of an item in its [`Arena`]. Valid while the item lives; places are used again.
type Place = usize;

/// The scheduler. See the module head.
#[derive(Debug)]
pub struct FairQueue {
    settings: Settings,
    tenants: Arena<TenantId, Tenant>,
    groups: Arena<GroupId, Group>,
    models: Arena<ModelId, Model>,
    /// Everything that waits or runs. Only ever looked up by id, never walked to decide something.
    tickets: HashMap<TicketId, Ticket, FixedHash>,
    /// Waiting tickets that have a deadline.
    deadlines: BTreeSet<(Moment, TicketId)>,
    heaviest: Heaviest,
    idle: Idle,
    /// Of all slots.
    pace: Pace,
    effects: VecDeque<Effect>,
    counts: Counts,
    watch: Watch,
    /// With other replicas; `None`: all slots are its own.
    shared: Option<Box<Shared>>,
}

/// Totals and sequence numbers.
#[derive(Debug, Default)]
struct Counts {
    in_flight: u32,
    queued: u32,
    /// Weights of the groups that are active on any model.
    active_weight: u64,
    next_ticket: u64,
    /// Order of activations: breaks ties of equal tags.
    activations: u64,
    /// Elementary steps taken, for the complexity test: a step in an ordered set of n counts log2 n.
    operations: u64,
}

impl Counts {
    /// Notes one step in an ordered set of `len` members.
    fn step(&mut self, len: usize) {
        self.operations = self.operations.wrapping_add(u64::from(len.max(1).ilog2()).saturating_add(1));
    }
}

impl FairQueue {
    /// An empty queue.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            tenants: Arena::default(),
            groups: Arena::default(),
            models: Arena::default(),
            tickets: HashMap::default(),
            deadlines: BTreeSet::new(),
            heaviest: Heaviest::new(),
            idle: Idle::default(),
            pace: Pace::default(),
            effects: VecDeque::new(),
            counts: Counts::default(),
            watch: Watch::default(),
            shared: None,
        }
    }

    /// The next thing the shell must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether something is to be polled.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// When [`Self::expire`] has something to do next.
    pub fn next_wakeup(&self) -> Option<Moment> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Requests that hold a slot, polled or not.
    pub fn in_flight(&self) -> u32 {
        self.counts.in_flight
    }

    /// Requests that wait.
    pub fn queued(&self) -> u32 {
        self.counts.queued
    }

    /// Requests that hold a slot of this model.
    pub fn in_flight_of(&self, model: ModelId) -> u32 {
        self.models.find(&model).map_or(0, |model| model.in_flight)
    }

    /// Requests that wait for this model.
    pub fn queued_of(&self, model: ModelId) -> u32 {
        self.models.find(&model).map_or(0, |model| model.queued)
    }

    /// Elementary steps taken since the start; wraps.
    pub fn operations(&self) -> u64 {
        self.counts.operations
    }
}

#[cfg(test)]
mod tests;
