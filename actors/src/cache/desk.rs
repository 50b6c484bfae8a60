//! The flights behind their lock, and what is handed over outside of it.

use super::broadcast::{Broadcast, Reader};
use super::counts::Counts;
use super::entry::{Entry, Store};
use super::flight::{Course, Lead};
use super::follower::{Follower, Place, Told};
use super::{CacheSettings, FLIGHTS_SHARE, Joined, NAME};
use crate::cell::{Cell, Contained, Heal};
use crate::clock::Clock;
use obleth_core::ids::ModelId;
use obleth_core::response_cache as core;
use obleth_core::response_cache::{CacheKey, Dump, Effect, FlightId, Flights, Limits, Purge, WaiterId};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// Requests that are led or follow are requests that wait or run: these bounds are above what the queue allows.
const LIMITS: Limits = Limits { flights: 65_536, followers: 4096, followers_total: 65_536 };
/// Numbers that a torn core may have given out unseen.
const LEAP: u64 = 1 << 20;

/// Bytes of answers on their way, all together.
#[derive(Debug)]
pub(super) struct Pool {
    used: AtomicUsize,
    max: usize,
}

impl Pool {
    /// Counts `more`; false when that is too much.
    pub fn grow(&self, more: usize) -> bool {
        self.used.fetch_add(more, Ordering::AcqRel).saturating_add(more) <= self.max
    }

    pub fn shrink(&self, less: usize) {
        self.used.fetch_sub(less, Ordering::AcqRel);
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// The core, and the ends by which its followers are reached.
struct Board {
    flights: Flights,
    casts: HashMap<FlightId, (Arc<Broadcast>, CacheKey, ModelId)>,
    tellers: HashMap<WaiterId, oneshot::Sender<Told>>,
    last_id: u64,
}

impl Board {
    fn resumed(last_id: u64) -> Self {
        Self {
            flights: Flights::resume(LIMITS, last_id),
            casts: HashMap::new(),
            tellers: HashMap::new(),
            last_id,
        }
    }
}

impl Heal for Board {
    /// Those that wait to hear see their ends dropped and ask again; what flies goes on for those who read it.
    fn heal(&mut self) {
        *self = Self::resumed(self.last_id + LEAP);
    }

    fn commit(&mut self) {
        self.last_id = self.flights.last_id();
    }
}

/// What a follower is to be told when the lock is free.
struct Call {
    teller: oneshot::Sender<Told>,
    effect: Effect,
    cast: Arc<Broadcast>,
    key: CacheKey,
    model: ModelId,
}

/// What a request became, before there are guards.
enum Raw {
    Lead(FlightId, WaiterId, Arc<Broadcast>),
    Follow(FlightId, WaiterId, oneshot::Receiver<Told>, Reader),
    Alone,
}

/// The cache's shared state.
pub(super) struct Desk {
    cell: Cell<Board>,
    pub store: Store,
    pub counts: Counts,
    pub clock: Clock,
    pub pool: Arc<Pool>,
    pub settings: CacheSettings,
    /// Written by a purge, read by those who keep an answer: none is kept behind a purge's back.
    purging: RwLock<()>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Desk {
    pub fn new(clock: Clock, settings: CacheSettings) -> Self {
        let flights = settings.max_bytes / FLIGHTS_SHARE;
        let pool = Pool { used: AtomicUsize::new(0), max: usize::try_from(flights).unwrap_or(usize::MAX) };
        Self {
            cell: Cell::new(NAME, Board::resumed(0)),
            store: Store::new(settings.max_bytes - flights),
            counts: Counts::default(),
            clock,
            pool: Arc::new(pool),
            settings,
            purging: RwLock::new(()),
        }
    }

    /// A request for `key` arrives and finds nothing.
    pub fn join(self: &Arc<Self>, key: CacheKey, model: ModelId) -> Joined {
        let (pool, limit) = (&self.pool, self.settings.max_entry_bytes);
        // Guards are made outside of the lock: dropped under it they would wait for it for ever.
        let joined = self.change(|board| match board.flights.join(key, model) {
            core::Joined::Lead(id, waiter) => {
                let cast = Arc::new(Broadcast::new(Arc::clone(pool), limit));
                board.casts.insert(id, (Arc::clone(&cast), key, model));
                Raw::Lead(id, waiter, cast)
            }
            core::Joined::Follow(id, waiter) => {
                let (teller, told) = oneshot::channel();
                match board.casts.get(&id) {
                    Some((cast, ..)) => {
                        board.tellers.insert(waiter, teller);
                        Raw::Follow(id, waiter, told, cast.reader())
                    }
                    None => Raw::Alone,
                }
            }
            core::Joined::Alone => Raw::Alone,
        });
        match joined {
            Ok(Raw::Lead(id, waiter, cast)) => {
                let course = Course { desk: Arc::clone(self), cast, id, key, model };
                Joined::Lead(Lead::new(course, waiter))
            }
            Ok(Raw::Follow(id, waiter, told, reader)) => {
                let place = Place::new(Arc::clone(self), id, waiter);
                Joined::Follow(Follower::new(told, reader.at(place)))
            }
            Ok(Raw::Alone) | Err(_) => Joined::Alone,
        }
    }

    /// The leader's request goes upstream.
    pub fn send(self: &Arc<Self>, id: FlightId, leader: WaiterId) -> bool {
        self.change(|board| board.flights.send(id, leader)).unwrap_or(false)
    }

    /// A follower leaves, or a leader before its request was sent.
    pub fn leave(self: &Arc<Self>, id: FlightId, waiter: WaiterId) {
        // After a fault nobody has a place any more.
        let _ = self.change(|board| {
            board.tellers.remove(&waiter);
            board.flights.leave(id, waiter);
            board.sweep(id);
        });
    }

    pub fn detach(self: &Arc<Self>, id: FlightId) {
        let _ = self.change(|board| board.flights.detach(id));
    }

    /// Ends a flight that nobody waits for; false when somebody has just joined.
    pub fn abandon(self: &Arc<Self>, course: &Course) -> bool {
        let ended = self.change(|board| {
            let abandoned = course.cast.is_abandoned();
            if abandoned {
                board.flights.finish(course.id);
                board.sweep(course.id);
            }
            abandoned
        });
        ended.unwrap_or_else(|_| course.cast.is_abandoned())
    }

    pub fn finish(self: &Arc<Self>, id: FlightId) {
        let _ = self.change(|board| {
            board.flights.finish(id);
            board.sweep(id);
        });
    }

    /// Keeps the answer of a flight, unless it was purged meanwhile.
    pub fn keep(&self, id: FlightId, key: CacheKey, entry: Entry) {
        let Some(_no_purge) = self.purging.try_read() else { return };
        if self.cell.with(|board| board.flights.may_keep(id)).unwrap_or(false) {
            self.store.put(key, Arc::new(entry));
        }
    }

    /// Forgets entries, and marks what flies as not to be kept.
    pub fn purge(&self, purge: Purge) -> u64 {
        let _alone = self.purging.write();
        let _ = self.cell.with(|board| board.flights.purge(purge));
        self.store.purge(purge)
    }

    /// One change, and what is told because of it.
    fn change<R>(self: &Arc<Self>, apply: impl FnOnce(&mut Board) -> R) -> Result<R, Contained> {
        let (result, mut calls) = self.cell.with(|board| (apply(board), board.calls()))?;
        while let Some(call) = calls.pop() {
            let Some(orphan) = self.tell(call) else { continue };
            // It has just left, and the lead passes on.
            let more = self.cell.with(|board| {
                board.flights.leave(orphan.0, orphan.1);
                board.sweep(orphan.0);
                board.calls()
            });
            calls.extend(more.unwrap_or_default());
        }
        Ok(result)
    }

    /// Tells a follower; the lead that it does not take any more.
    fn tell(self: &Arc<Self>, call: Call) -> Option<(FlightId, WaiterId)> {
        let Call { teller, effect, cast, key, model } = call;
        match effect {
            Effect::Sent(..) => {
                // One that has left needs to hear nothing.
                let _ = teller.send(Told::Sent);
                None
            }
            Effect::Lead(id, waiter) => {
                let course = Course { desk: Arc::clone(self), cast, id, key, model };
                match teller.send(Told::Lead(Lead::new(course, waiter))) {
                    Err(Told::Lead(lead)) => Some(lead.defuse()),
                    _ => None,
                }
            }
        }
    }

    pub fn dump(&self) -> Option<Dump> {
        self.cell.with(|board| board.flights.dump()).ok()
    }

    pub fn restarts(&self) -> u64 {
        self.cell.restarts()
    }

    pub fn plant_fault(&self) {
        self.cell.plant_fault();
    }
}

impl Board {
    fn calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        while let Some(effect) = self.flights.poll_effect() {
            let (Effect::Lead(id, waiter) | Effect::Sent(id, waiter)) = effect;
            if let (Some(teller), Some((cast, key, model))) =
                (self.tellers.remove(&waiter), self.casts.get(&id))
            {
                calls.push(Call { teller, effect, cast: Arc::clone(cast), key: *key, model: *model });
            }
        }
        calls
    }

    /// Lets go of what belongs to a flight that is over.
    fn sweep(&mut self, id: FlightId) {
        if !self.flights.flies(id) {
            self.casts.remove(&id);
        }
    }
}
