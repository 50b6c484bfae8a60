//! The floor behind its lock, and what is handed over outside of it.
//!
//! Grants are decided under the lock and handed over outside of it, because handing over can fail (the
//! waiter has just left), which gives the slot back, which takes the lock.

use super::board::Board;
use super::floor::{Answers, Change, Floor, Waiter};
use super::story::Story;
use crate::cell::{Cell, Contained};
use crate::clock::Clock;
use crate::guards::Seat;
use obleth_core::brownout::Pool;
use obleth_core::fair_queue::{
    Demand, Dump, Load, Loads, ModelRow, Picture, Position, Settings, Spent, Standing, TenantPlan, TicketId,
};
use obleth_core::ids::{KeyId, ModelId, TenantId};
use obleth_core::moment::Moment;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Tenants and groups copied while the lock is held once: some tens of microseconds.
const PIECE: usize = 512;
/// Requests refused, or tenants looked at for it, while the lock is held once.
const SHED: usize = 64;

/// The scheduler's shared state.
pub(crate) struct Desk {
    pub(super) cell: Cell<Floor>,
    clock: Clock,
    waiters: AtomicU64,
    /// What the brownout says.
    pub(super) board: Board,
    /// Rung when the fleet is to be asked at once.
    pub(super) bell: Arc<Notify>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// What an attempt to be seated at once gave.
pub(super) enum Try {
    Seated(Seat),
    Approach(Approach),
}

impl Desk {
    pub(super) fn new(clock: Clock, settings: Settings) -> Self {
        let bell = Arc::new(Notify::new());
        let floor = Floor::new(clock, settings, Arc::clone(&bell));
        Self {
            cell: Cell::new(super::NAME, floor),
            clock,
            waiters: AtomicU64::new(0),
            board: Board::new(),
            bell,
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(super) fn next_waiter(&self) -> u64 {
        self.waiters.fetch_add(1, Ordering::Relaxed)
    }

    /// A seat if a slot is free and nobody waits or approaches; else the right to approach.
    pub(super) fn try_seat(self: &Arc<Self>, demand: &Demand) -> Result<Try, Contained> {
        let now = self.clock.now();
        let (grant, answers) = self.cell.with(|floor| {
            floor.look(now);
            let free = floor.approaching == 0;
            let grant = if free { floor.queue.try_seat(now, demand) } else { None };
            match grant {
                Some(grant) => floor.note_seat(grant.ticket),
                None => floor.note_approach(),
            }
            // The plans that came with the demand may have set others free.
            (grant, floor.answers(now))
        })?;
        self.hand_over(answers);
        Ok(match grant {
            Some(grant) => Try::Seated(Seat::new(Arc::clone(self), grant)),
            None => Try::Approach(Approach { desk: Arc::clone(self), on_its_way: true }),
        })
    }

    /// Queues a request that arrived through the mailbox.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        demand: Demand,
        waiter: Waiter,
        mut approach: Approach,
        story: Option<&Story>,
    ) {
        let now = self.clock.now();
        approach.on_its_way = false;
        let mut waiter = Some(waiter);
        let answers = self.cell.with(|floor| {
            floor.approaching = floor.approaching.saturating_sub(1);
            let Some(waiter) = waiter.take().filter(|waiter| !waiter.reply.is_closed()) else {
                return Answers::new();
            };
            floor.look(now);
            let position = story.map(|_| floor.queue.position_of(&demand));
            let outcome = floor.queue.enqueue(now, demand);
            if let Some(story) = story {
                story.queued(position, outcome.ok());
            }
            match outcome {
                Ok(ticket) => {
                    floor.tickets.insert(waiter.number, ticket);
                    floor.waiting.insert(ticket, waiter);
                    floor.answers(now)
                }
                Err(refusal) => {
                    // The rule for a full queue may refuse others besides the newcomer.
                    let mut answers = floor.answers(now);
                    answers.push((waiter.reply, Err(refusal)));
                    answers
                }
            }
        });
        match answers {
            Ok(answers) => self.hand_over(answers),
            // A planted or real fault before the count went down; the healed floor kept the count.
            Err(Contained(_)) if waiter.is_some() => self.arrived(),
            Err(Contained(_)) => {}
        }
    }

    /// Takes a waiter that left out of the queue. Nothing happens if it was answered meanwhile.
    pub(crate) fn leave(self: &Arc<Self>, number: u64) {
        self.change(|floor, now| {
            if let Some(ticket) = floor.tickets.remove(&number) {
                floor.waiting.remove(&ticket);
                floor.queue.cancel(now, ticket);
            }
        });
    }

    /// Gives a seat back.
    pub(crate) fn release(self: &Arc<Self>, ticket: TicketId, spent: Spent) {
        self.change(|floor, now| floor.give_back(now, ticket, spent));
    }

    pub(crate) fn progress(&self, ticket: TicketId, prompt: u64, output: u64) {
        let now = self.clock.now();
        // A fault here costs nothing but this correction; the release settles to the truth.
        let _ = self.cell.with(|floor| floor.queue.progress(now, ticket, prompt, output));
    }

    /// Refuses those whose deadline passed.
    pub(super) fn expire(self: &Arc<Self>) {
        self.change(|floor, now| floor.queue.expire(now));
    }

    /// Looks at what waits for the pools, and refuses what the brownout does not keep. Whether it is to be
    /// looked at again although nothing waits.
    pub(super) fn brown_out(self: &Arc<Self>) -> bool {
        let Some(loads) = self.loads() else { return true };
        let goes_on = self.board.observe(self.clock.now(), loads);
        if self.board.sheds() {
            self.shed();
        }
        goes_on
    }

    fn loads(&self) -> Option<BTreeMap<Pool, Load>> {
        let mut sums = Loads::default();
        while !self.cell.with(|floor| floor.queue.add_loads(&mut sums, PIECE)).ok()? {}
        let now = self.clock.now();
        self.cell.with(|floor| floor.queue.loads(now, &sums)).ok()
    }

    fn shed(self: &Arc<Self>) {
        let mut next = 0;
        let mut done = false;
        while !done {
            let now = self.clock.now();
            let piece = self.cell.with(|floor| {
                let done = floor.queue.shed(now, &mut next, SHED, |claim| self.board.judge(claim));
                (done, floor.answers(now))
            });
            // After a contained fault nobody waits here any more.
            let Ok((all, answers)) = piece else { return };
            self.hand_over(answers);
            done = all;
        }
    }

    /// When `demand`, for which no slot is free, may come again, if the brownout refuses it.
    pub(super) fn refuses(&self, demand: &Demand) -> Option<Duration> {
        if !self.board.is_pressed() {
            return None;
        }
        self.cell.with(|floor| self.board.refuses(floor.queue.claims_of(demand))).ok().flatten()
    }

    pub(super) fn reconfigure(self: &Arc<Self>, changes: &[Change]) -> Result<(), Contained> {
        let now = self.clock.now();
        let answers = self.cell.with(|floor| {
            floor.look(now);
            changes.iter().for_each(|change| floor.apply(now, *change));
            floor.answers(now)
        })?;
        self.hand_over(answers);
        Ok(())
    }

    /// One change that must not be lost, and the grants it sets free. After a contained fault the healed
    /// core gets it again.
    fn change(self: &Arc<Self>, apply: impl Fn(&mut Floor, Moment)) {
        let now = self.clock.now();
        for _ in 0..3 {
            let answers = self.cell.with(|floor| {
                floor.look(now);
                apply(floor, now);
                floor.answers(now)
            });
            if let Ok(answers) = answers {
                return self.hand_over(answers);
            }
        }
    }

    /// Hands grants and refusals to their waiters, and takes back the seats of those that have just left.
    pub(super) fn hand_over(self: &Arc<Self>, mut answers: Answers) {
        while !answers.is_empty() {
            let mut orphans = Vec::new();
            for (reply, answer) in answers.drain(..) {
                let answer = answer.map(|grant| Seat::new(Arc::clone(self), grant));
                if let Err(Ok(seat)) = reply.send(answer) {
                    orphans.push(seat.defuse());
                }
            }
            if orphans.is_empty() {
                return;
            }
            let now = self.clock.now();
            for _ in 0..3 {
                let more = self.cell.with(|floor| {
                    orphans.iter().for_each(|ticket| floor.give_back(now, *ticket, Spent::Never));
                    floor.answers(now)
                });
                if let Ok(more) = more {
                    answers = more;
                    break;
                }
            }
        }
    }

    fn arrived(&self) {
        let _ = self.cell.with(|floor| floor.approaching = floor.approaching.saturating_sub(1));
    }

    pub(super) fn next_wakeup(&self) -> Option<Moment> {
        self.cell.with(|floor| floor.queue.next_wakeup()).ok().flatten()
    }

    pub(super) fn dump(&self) -> Option<Dump> {
        self.cell.with(|floor| floor.queue.dump()).ok()
    }

    /// A picture, copied piece by piece.
    pub(crate) fn picture(&self) -> Option<Picture> {
        let now = self.clock.now();
        let (mut picture, mut whole) = self
            .cell
            .with(|floor| {
                let mut picture = floor.queue.begin_picture(now);
                let whole = floor.queue.copy_into(&mut picture, PIECE);
                (picture, whole)
            })
            .ok()?;
        while !whole {
            whole = self.cell.with(|floor| floor.queue.copy_into(&mut picture, PIECE)).ok()?;
        }
        Some(picture)
    }

    /// Nothing, after a contained fault.
    pub(super) fn expected_output(
        &self,
        tenant: TenantId,
        model: ModelId,
        max_output: Option<u64>,
        answers: u32,
    ) -> u64 {
        let expected =
            self.cell.with(|floor| floor.queue.expected_output(tenant, model, max_output, answers));
        expected.unwrap_or(0)
    }

    pub(super) fn models(&self) -> Vec<ModelRow> {
        self.cell.with(|floor| floor.queue.model_rows()).unwrap_or_default()
    }

    pub(super) fn position_at(&self, ticket: TicketId) -> Option<Position> {
        self.cell.with(|floor| floor.queue.position_at(ticket)).ok().flatten()
    }

    /// Slots, requests that hold one, requests that wait.
    pub(super) fn load(&self) -> Option<(u32, u32, u32)> {
        self.cell.with(|floor| floor.load()).ok()
    }

    /// When `demand` may come again, if its wait would not be over at `by`.
    pub(super) fn too_long(&self, demand: &Demand, by: Moment) -> Option<Duration> {
        let now = self.clock.now();
        self.cell.with(|floor| floor.queue.too_long(now, demand, by)).ok().flatten()
    }

    pub(super) fn standing(&self, tenant: &TenantPlan, key: Option<KeyId>) -> Option<Standing> {
        let now = self.clock.now();
        self.cell.with(|floor| floor.queue.standing(now, tenant, key)).ok()
    }

    pub(super) fn queued(&self) -> u32 {
        self.cell.with(|floor| floor.queue.queued()).unwrap_or(0)
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.cell.with(|floor| floor.queue.in_flight()).unwrap_or(0)
    }

    pub(super) fn approaching(&self) -> u32 {
        self.cell.with(|floor| floor.approaching).unwrap_or(0)
    }

    pub(super) fn restarts(&self) -> u64 {
        self.cell.restarts() + self.board.restarts()
    }

    pub(super) fn plant_fault(&self) {
        self.cell.plant_fault();
    }

    pub(super) fn plant_late_fault(&self) {
        self.cell.plant_late_fault();
    }
}

/// An admission request on its way to the actor. Dropped with a dead mailbox it no longer counts.
pub(super) struct Approach {
    desk: Arc<Desk>,
    on_its_way: bool,
}

impl Drop for Approach {
    fn drop(&mut self) {
        if self.on_its_way {
            self.desk.arrived();
        }
    }
}
