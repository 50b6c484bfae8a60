//! Leaders and followers: of requests that are the same at the same time, one asks the upstream.
//!
//! Is: who leads, who waits for whom, and who leads next when a leader ends before its request was sent. Is not:
//! the answer, a clock or a queue. A *flight* begins with a leader; requests with its key follow it until it is
//! detached. Before it is sent the lead may pass on; once sent it is one upstream call, whose failure its
//! followers share. Invariants: a key has at most one open flight; a flight that is not sent has a leader; a
//! follower hears exactly once whether it leads or the flight was sent, unless it left before.

use super::key::CacheKey;
use crate::ids::{ModelId, TenantId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// A request in a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Bounds. A request beyond them goes its own way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flights at a time.
    pub flights: usize,
    /// Followers of one flight at a time.
    pub followers: usize,
    /// Followers of all flights at a time.
    pub followers_total: usize,
}

/// What a request becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The leader of a new flight.
    Lead(FlightId, WaiterId),
    Follow(FlightId, WaiterId),
    /// There are too many: it goes upstream by itself.
    Alone,
}

/// What the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Tell this follower that it leads.
    Lead(FlightId, WaiterId),
    /// Tell this follower that the flight was sent.
    Sent(FlightId, WaiterId),
}

/// What is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Of this tenant alone.
    pub tenant: Option<TenantId>,
    /// Of this model alone.
    pub model: Option<ModelId>,
}

impl Purge {
    /// Whether an answer of `model` to `tenant` is meant.
    pub fn means(&self, tenant: TenantId, model: ModelId) -> bool {
        self.tenant.is_none_or(|only| only == tenant) && self.model.is_none_or(|only| only == model)
    }
}

#[derive(Clone, Debug)]
struct Flight {
    key: CacheKey,
    model: ModelId,
    /// Before it is sent.
    leader: Option<WaiterId>,
    /// In order of arrival; those that have heard of the dispatch are in `riding`.
    waiting: VecDeque<WaiterId>,
    riding: BTreeSet<WaiterId>,
    sent: bool,
    /// Its answer is not to be kept.
    purged: bool,
}

impl Flight {
    fn followers(&self) -> usize {
        self.waiting.len() + self.riding.len()
    }
}

/// All flights.
#[derive(Clone, Debug)]
pub struct Flights {
    limits: Limits,
    flights: BTreeMap<FlightId, Flight>,
    /// The flight that requests of a key may join.
    open: BTreeMap<CacheKey, FlightId>,
    followers: usize,
    next: u64,
    effects: VecDeque<Effect>,
}

/// A copy of the state, for tests and statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    pub flights: usize,
    pub open: usize,
    pub sent: usize,
    pub followers: usize,
    pub last_id: u64,
}

impl Flights {
    /// Nothing flies. Numbers begin after `last_id`: none of an earlier life is given again.
    pub const fn resume(limits: Limits, last_id: u64) -> Self {
        Self {
            limits,
            flights: BTreeMap::new(),
            open: BTreeMap::new(),
            followers: 0,
            next: last_id,
            effects: VecDeque::new(),
        }
    }

    const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A request of this key arrives and finds no answer kept.
    pub fn join(&mut self, key: CacheKey, model: ModelId) -> Joined {
        let Some(id) = self.open.get(&key).copied() else {
            return self.lead(key, model);
        };
        let (limits, followers) = (self.limits, self.followers);
        let waiter = WaiterId(self.number());
        let Some(flight) = self.flights.get_mut(&id) else { return Joined::Alone };
        if flight.followers() >= limits.followers || followers >= limits.followers_total {
            return Joined::Alone;
        }
        if flight.sent {
            flight.riding.insert(waiter);
            self.effects.push_back(Effect::Sent(id, waiter));
        } else {
            flight.waiting.push_back(waiter);
        }
        self.followers += 1;
        Joined::Follow(id, waiter)
    }

    fn lead(&mut self, key: CacheKey, model: ModelId) -> Joined {
        if self.flights.len() >= self.limits.flights {
            return Joined::Alone;
        }
        let (id, waiter) = (FlightId(self.number()), WaiterId(self.number()));
        let flight = Flight {
            key,
            model,
            leader: Some(waiter),
            waiting: VecDeque::new(),
            riding: BTreeSet::new(),
            sent: false,
            purged: false,
        };
        self.flights.insert(id, flight);
        self.open.insert(key, id);
        Joined::Lead(id, waiter)
    }

    /// The leader's request goes upstream. False: it does not lead (any more), and goes alone.
    pub fn send(&mut self, id: FlightId, leader: WaiterId) -> bool {
        let Some(flight) = self.flights.get_mut(&id).filter(|flight| flight.leader == Some(leader)) else {
            return false;
        };
        flight.leader = None;
        flight.sent = true;
        for waiter in std::mem::take(&mut flight.waiting) {
            flight.riding.insert(waiter);
            self.effects.push_back(Effect::Sent(id, waiter));
        }
        true
    }

    /// A follower leaves, or a leader before its request was sent: then the next follower leads.
    pub fn leave(&mut self, id: FlightId, waiter: WaiterId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if flight.leader == Some(waiter) {
            flight.leader = flight.waiting.pop_front();
            match flight.leader {
                Some(next) => {
                    self.followers -= 1;
                    self.effects.push_back(Effect::Lead(id, next));
                }
                None => self.remove(id),
            }
            return;
        }
        let before = flight.followers();
        flight.riding.remove(&waiter);
        flight.waiting.retain(|known| *known != waiter);
        self.followers -= before - flight.followers();
    }

    /// Nobody joins it any more; the next request of its key leads a flight of its own.
    pub fn detach(&mut self, id: FlightId) {
        if let Some(flight) = self.flights.get(&id)
            && self.open.get(&flight.key) == Some(&id)
        {
            self.open.remove(&flight.key);
        }
    }

    /// Whether the answer of a flight may be kept: it is known, and nothing was purged meanwhile.
    pub fn may_keep(&self, id: FlightId) -> bool {
        self.flights.get(&id).is_some_and(|flight| !flight.purged)
    }

    /// Whether a flight is not over.
    pub fn flies(&self, id: FlightId) -> bool {
        self.flights.contains_key(&id)
    }

    /// The last number given out.
    pub const fn last_id(&self) -> u64 {
        self.next
    }

    /// The upstream call is over, however it ended.
    pub fn finish(&mut self, id: FlightId) {
        self.remove(id);
    }

    /// What flies and is meant is not kept, and joined by nobody who comes later.
    pub fn purge(&mut self, purge: Purge) {
        let meant: Vec<FlightId> = self
            .flights
            .iter_mut()
            .filter(|(_, flight)| purge.means(flight.key.tenant, flight.model))
            .map(|(id, flight)| {
                flight.purged = true;
                *id
            })
            .collect();
        meant.into_iter().for_each(|id| self.detach(id));
    }

    fn remove(&mut self, id: FlightId) {
        self.detach(id);
        if let Some(flight) = self.flights.remove(&id) {
            self.followers -= flight.followers();
        }
    }

    /// What the shell must do next.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The state in numbers.
    pub fn dump(&self) -> Dump {
        Dump {
            flights: self.flights.len(),
            open: self.open.len(),
            sent: self.flights.values().filter(|flight| flight.sent).count(),
            followers: self.followers,
            last_id: self.next,
        }
    }

    /// Checks the invariants.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (key, id) in &self.open {
            assert_eq!(self.flights.get(id).map(|flight| flight.key), Some(*key));
        }
        let mut followers = 0;
        for flight in self.flights.values() {
            assert_eq!(flight.sent, flight.leader.is_none(), "a flight that is not sent has a leader");
            assert!(if flight.sent { flight.waiting.is_empty() } else { flight.riding.is_empty() });
            assert!(flight.followers() <= self.limits.followers);
            followers += flight.followers();
        }
        assert_eq!(followers, self.followers);
        assert!(self.followers <= self.limits.followers_total && self.flights.len() <= self.limits.flights);
    }
}
