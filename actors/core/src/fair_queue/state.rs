//! The things the queue knows: tenants with their lanes, groups with their cells, models, tickets.

use super::Place;
use super::account::{Account, Clock, Tag};
use super::cost::{Asked, Average};
use super::pace::Pace;
use super::plan::{GroupPlan, ModelPlan, NO_CAP, TenantPlan, TicketId};
use super::planted::{Fault, planted};
use super::recent::{Recent, Rough};
use super::work::Work;
use crate::ids::{GroupId, KeyId};
use crate::moment::Moment;
use crate::units::CostFactor;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// A tenant that was heard of and not yet forgotten.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) plan: TenantPlan,
    pub(super) group: Place,
    pub(super) account: Account,
    /// When it last became active, as a sequence number: breaks ties of equal tags.
    pub(super) activation: u64,
    /// Since when some lane of it has been listed without a break, at the same weight.
    pub(super) contends_since: Option<Moment>,
    pub(super) in_flight: u32,
    pub(super) queued: Queued,
    /// Sum of all charges, in cost units.
    pub(super) served: i128,
    /// One for each model it was heard of on. The first lies within the tenant: most use one model, and
    /// among many tenants each step elsewhere in memory is felt.
    pub(super) lanes: SmallVec<[Lane; 1]>,
    /// The weight it adds to the active sum of its group; 0 = idle.
    pub(super) counted: u32,
    /// Keys with a cap of their own that have something queued or running.
    pub(super) keys: BTreeMap<KeyId, KeyLine>,
    /// Mark of its entry in the list of idle tenants; `None` while it has work.
    pub(super) idle_mark: Option<u64>,
    /// Of a cap that the fleet has in common: what of it is here.
    pub(super) lease: Option<u32>,
    /// The tag by which it stands among those that lack slots of their cap.
    pub(super) starved: Option<Tag>,
}

/// What a tenant has waiting.
#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) count: u32,
    /// In cost units, as forecast at arrival.
    pub(super) cost: u128,
    /// The score of its entry among the heaviest: at least its true one.
    pub(super) bound: Option<u64>,
}

impl Tenant {
    /// Whether its own cap keeps it from another slot.
    pub(super) fn blocked(&self) -> bool {
        let cap = self.plan.max_in_flight.map(|cap| self.lease.map_or(cap, |lease| lease.min(cap)));
        cap.is_some_and(|cap| self.in_flight >= cap) && !planted(Fault::TenantCapIgnored)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queued.count == 0
    }

    pub(super) fn lane(&self, model: Place) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.model == model)
    }

    pub(super) fn lane_mut(&mut self, model: Place) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.model == model)
    }

    /// Queued cost per weight: the measure of who is heaviest.
    pub(super) fn score_of(&self, cost: u128) -> u64 {
        let score = cost.saturating_mul(1024) / u128::from(self.plan.weight.get());
        u64::try_from(score).unwrap_or(u64::MAX)
    }

    /// Its waiting tickets, oldest first; of one model or of all.
    pub(super) fn waiting(&self, model: Option<Place>) -> BTreeSet<TicketId> {
        let wanted = |place: Place| model.is_none_or(|only| only == place);
        let ready = self.lanes.iter().filter(|lane| wanted(lane.model)).flat_map(|lane| lane.ready.iter());
        let keyed = self.keys.values().flat_map(|key| key.queues.iter());
        let keyed = keyed.filter(|(place, _)| wanted(**place)).flat_map(|(_, queue)| queue.waiting.iter());
        ready.chain(keyed).copied().collect()
    }

    /// Forgets the line of a key without work.
    pub(super) fn forget_key(&mut self, key: KeyId) {
        if self.keys.get(&key).is_some_and(|line| line.in_flight == 0 && line.queues.is_empty()) {
            self.keys.remove(&key);
        }
    }

    /// Brings the heads of a key's queues in line with its cap.
    pub(super) fn settle_key(&mut self, key: KeyId) {
        let Some(line) = self.keys.get_mut(&key) else { return };
        let open = line.in_flight < line.cap || planted(Fault::KeyCapIgnored);
        for (model, queue) in &mut line.queues {
            let head = if open { queue.waiting.first().copied() } else { None };
            if head == queue.head {
                continue;
            }
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.model == *model) {
                if let Some(old) = queue.head {
                    lane.ready.remove(&old);
                }
                lane.ready.extend(head);
            }
            queue.head = head;
        }
        line.queues.retain(|_, queue| !queue.waiting.is_empty());
    }
}

/// A tenant on a model.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) model: Place,
    pub(super) queued: u32,
    /// What is queued.
    pub(super) work: Work,
    pub(super) in_flight: u32,
    /// Tickets that no key cap holds back: those without such a key, and the head of each open key.
    pub(super) ready: BTreeSet<TicketId>,
    /// Where the tenant stands in the line of its group for this model.
    pub(super) listed: Option<(Tag, u64)>,
    /// The weight it adds to the active sum of its cell; 0 = not active.
    pub(super) counted: u32,
    /// Output tokens of its finished requests.
    pub(super) average: Option<Average>,
    /// Charged lately.
    pub(super) recent: Recent,
}

impl Lane {
    pub(super) fn new(model: Place) -> Self {
        Self {
            model,
            queued: 0,
            work: Work::default(),
            in_flight: 0,
            ready: BTreeSet::new(),
            listed: None,
            counted: 0,
            average: None,
            recent: Recent::default(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.queued > 0 || self.in_flight > 0
    }
}

/// A key with a cap of its own.
#[derive(Debug)]
pub(super) struct KeyLine {
    pub(super) cap: u32,
    pub(super) in_flight: u32,
    /// By model.
    pub(super) queues: BTreeMap<Place, KeyQueue>,
}

impl KeyLine {
    /// Requests that wait, on all models.
    pub(super) fn queued(&self) -> u32 {
        let queued = self.queues.values().map(|queue| queue.waiting.len()).sum::<usize>();
        u32::try_from(queued).unwrap_or(u32::MAX)
    }
}

/// What a capped key has waiting for one model.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    pub(super) waiting: BTreeSet<TicketId>,
    /// The one of them that stands in the lane; `None` while the key is at its cap.
    pub(super) head: Option<TicketId>,
}

/// A group of tenants.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) plan: GroupPlan,
    pub(super) account: Account,
    /// As for a tenant.
    pub(super) activation: u64,
    /// Since when it has its weight.
    pub(super) weighed_since: Moment,
    /// Tenants known.
    pub(super) members: usize,
    pub(super) queued: u32,
    /// Weights of its tenants that are active on any model.
    pub(super) active_weight: u64,
    /// The weight it adds to the active sum of the whole; 0 = not active.
    pub(super) counted: u32,
    /// By place of the model.
    pub(super) cells: Vec<Option<Cell>>,
}

impl Group {
    pub(super) fn cell(&self, model: Place) -> Option<&Cell> {
        self.cells.get(model)?.as_ref()
    }

    pub(super) fn cell_mut(&mut self, model: Place) -> Option<&mut Cell> {
        self.cells.get_mut(model)?.as_mut()
    }

    pub(super) fn clock(&self, model: Place) -> Tag {
        self.cell(model).map_or(0, |cell| cell.clock.now())
    }
}

/// A group on a model.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// V of the group on this model.
    pub(super) clock: Clock,
    /// Weights of the tenants active here.
    pub(super) active_weight: u64,
    /// Tenants that could go if the model were open: by tag, activation, place.
    pub(super) line: BTreeSet<(Tag, u64, Place)>,
    /// Where the group stands in the list of the model.
    pub(super) listed: Option<(Tag, u64)>,
    /// The weight the group adds to the active sum of the model; 0 = not active.
    pub(super) counted: u32,
}

/// A model pool.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) plan: ModelPlan,
    pub(super) in_flight: u32,
    pub(super) queued: u32,
    /// Vr: the clock of the groups on this model.
    pub(super) clock: Clock,
    /// Weights of the groups active here.
    pub(super) active_weight: u64,
    /// Groups with a line here: by tag, activation, place.
    pub(super) groups: BTreeSet<(Tag, u64, Place)>,
    /// Output tokens of all its finished requests.
    pub(super) average: Option<Average>,
    pub(super) pace: Pace,
    /// Charged lately.
    pub(super) recent: Recent,
    /// When its cap was last reached.
    pub(super) full_at: Option<Moment>,
    /// Goes away with its last running request.
    pub(super) removed: bool,
    /// Of a cap that the fleet has in common: what of it is here.
    pub(super) lease: Option<u32>,
}

impl Model {
    /// Whether its cap leaves room for another request.
    pub(super) fn open(&self) -> bool {
        let cap = self.plan.max_in_flight.map(|cap| self.lease.map_or(cap, |lease| lease.min(cap)));
        cap.is_none_or(|cap| self.in_flight < cap) || planted(Fault::PoolCapIgnored)
    }
}

/// A request.
#[derive(Debug)]
pub(super) enum Ticket {
    Waiting(Waiting),
    Seated(Seat),
}

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyed {
    Unknown,
    /// Without a cap when the request came: nothing is counted.
    Known(KeyId),
    /// With a cap of its own: counted in its line.
    Counted(KeyId),
}

impl Keyed {
    pub(super) fn of(key: Option<(KeyId, u32)>) -> Self {
        match key {
            None => Self::Unknown,
            Some((key, NO_CAP)) => Self::Known(key),
            Some((key, _)) => Self::Counted(key),
        }
    }

    /// Whether it is this key.
    pub(super) fn is(self, wanted: KeyId) -> bool {
        match self {
            Self::Known(key) | Self::Counted(key) => key == wanted,
            Self::Unknown => false,
        }
    }

    pub(super) fn counted(self) -> Option<KeyId> {
        match self {
            Self::Counted(key) => Some(key),
            Self::Unknown | Self::Known(_) => None,
        }
    }
}

/// A request in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) tenant: Place,
    pub(super) model: Place,
    pub(super) key: Keyed,
    pub(super) asked: Asked,
    /// What it adds to the tenant's queued cost.
    pub(super) cost: u64,
    /// The part of it that is the prompt.
    pub(super) prompt_cost: u64,
    pub(super) since: Moment,
    pub(super) deadline: Option<Moment>,
}

/// A request with a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    pub(super) tenant: Place,
    pub(super) model: Place,
    pub(super) key: Keyed,
    /// The group that was charged. The tenant may have moved since, and the group may be forgotten.
    pub(super) group: (Place, GroupId),
    pub(super) asked: Asked,
    /// What was charged at the grant.
    pub(super) forecast: Rough,
    /// The model's factor at the grant; one request is charged by one factor.
    pub(super) factor: CostFactor,
    /// In cost units.
    pub(super) charged: u64,
    pub(super) started: Moment,
}
