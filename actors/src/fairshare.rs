//! FairshareActor: who sends next.
//!
//! Is: the shell of `obleth_core::fair_queue`, central, one per process. A handler seats its request at once
//! through the cell when a slot is free and nobody waits; otherwise it sends an [`actor::Admit`] message and
//! awaits the grant, which comes from the actor or from whoever gives a slot back. Is not: I/O, or waiting.
//! Invariant: each grant is a [`Seat`] guard; none is lost with a mailbox, a waiter or a panic.

use crate::cell::Contained;
use crate::clock::Clock;
use crate::fleet::{Exchange, Link, Parts};
use crate::guards::{Seat, WaitPlace};
use crate::plans::Plans;
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use arc_swap::ArcSwap;
use obleth_core::fair_queue::{
    Demand, Dump, Fairness, ModelRow, Picture, Position, Refusal, Settings, Standing, TenantPlan,
};
use obleth_core::fleet::{Replica, Terms};
use obleth_core::ids::{KeyId, ModelId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::registry::Registry;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

mod actor;
mod board;
mod desk;
mod fleet;
mod floor;
pub mod story;

use actor::{Admit, FairshareActor, Look, Reconfigure};
pub use board::Levels;
pub(crate) use desk::Desk;
use desk::{Approach, Try};
pub use fleet::FleetState;
pub use floor::Change;
use floor::Reply;
use story::{About, Found, Story, Telling, Trail, Untold};

/// The actor's name in logs and metrics.
pub const NAME: &str = "fairshare";

/// Pause before a request is offered again while the actor is being restarted.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How much later than the core's own deadline a caller stops waiting; only a dead actor makes it matter.
const SLACK: Duration = Duration::from_millis(250);
/// What a caller is told whose deadline passed while the actor was being restarted.
const AFTER_RESTART: Duration = Duration::from_secs(1);

/// The gauges are computed anew when they are older than this, however often they are asked for.
const FRESH: Duration = Duration::from_secs(2);

/// Why no seat was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// The queue said no.
    Refused(Refusal),
    /// The actor's mailbox is full.
    Overloaded,
    /// A contained fault; the same request would pass now.
    Restarting,
    /// The wait would be longer than the client has.
    Unreachable { retry_after: Duration },
    /// It would wait for a pool under pressure, and its tenant's policy lets it be refused for that.
    Shed { retry_after: Duration },
}

/// What a replica shares its slots by.
#[derive(Debug)]
pub struct Joining {
    pub link: Link,
    /// What the names of keys and channels begin with: replicas of one fleet have the same.
    pub prefix: String,
    pub terms: Terms,
    pub registry: Arc<ArcSwap<Registry>>,
    pub plans: Plans,
}

/// How handlers reach the scheduler.
#[derive(Clone, Debug)]
pub struct Fairshare {
    desk: Arc<Desk>,
    actor: Arc<Supervised<FairshareActor>>,
    clock: Clock,
    trail: Arc<Trail>,
    /// The gauges as last computed, and when.
    seen: Arc<Mutex<Option<(Moment, Fairness)>>>,
    /// With other replicas.
    exchange: Option<Arc<Exchange>>,
}

impl Fairshare {
    /// Starts the actor on `arbiter`; its mailbox holds `mailbox` messages.
    pub fn start(arbiter: &Arbiter, clock: Clock, settings: Settings, mailbox: usize) -> Self {
        let desk = Arc::new(Desk::new(clock, settings));
        let actor = Arc::new(Supervised::new(NAME));
        let owned = Arc::clone(&desk);
        actor.run(arbiter, mailbox, move |line| FairshareActor::new(Arc::clone(&owned), line));
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let trail = Arc::new(Trail::new(threads));
        Self { desk, actor, clock, trail, seen: Arc::default(), exchange: None }
    }

    /// Shares its slots with other replicas from here on, before the first request. It has none until the store in
    /// `fleet` has answered.
    pub fn join(&mut self, fleet: Joining, runtime: &Handle) {
        let Joining { link, prefix, terms, registry, plans } = fleet;
        let name = Uuid::new_v4();
        self.desk.join_fleet(&Replica::new(name.simple().to_string(), terms));
        let desk = Arc::clone(&self.desk);
        let parts = Parts { link, desk, clock: self.clock, registry, plans, prefix, name };
        self.exchange = Some(Arc::new(Exchange::start(parts, runtime)));
    }

    /// Gives all slots back to the other replicas. When nothing runs any more.
    pub async fn leave(&self) {
        if let Some(exchange) = &self.exchange {
            exchange.leave().await;
        }
    }

    /// How this replica stands among the others; `None`: slots are not shared.
    pub fn fleet(&self) -> Option<FleetState> {
        self.exchange.as_ref()?;
        self.desk.fleet_state()
    }

    /// A seat for `demand`: at once if a slot is free and nobody waits, else in its turn. Dropping the future
    /// leaves the queue.
    pub async fn admit(&self, demand: Demand) -> Result<Seat, NoSeat> {
        self.admit_by(demand, None, None).await
    }

    /// The same for a client that has only until `by`: refused at once when the estimated wait is longer.
    /// `telling` hears what the request meets.
    pub async fn admit_by(
        &self,
        demand: Demand,
        by: Option<Moment>,
        telling: Option<&Telling>,
    ) -> Result<Seat, NoSeat> {
        let give_up = demand.deadline.map(|at| self.clock.instant(at) + SLACK);
        loop {
            let approach = match self.desk.try_seat(&demand) {
                Ok(Try::Seated(seat)) => {
                    telling.inspect(|telling| telling.seated(&seat));
                    return Ok(seat);
                }
                Ok(Try::Approach(approach)) => approach,
                Err(Contained(_)) => return Err(NoSeat::Restarting),
            };
            if let Some(retry_after) = by.and_then(|by| self.desk.too_long(&demand, by)) {
                return Err(NoSeat::Unreachable { retry_after });
            }
            if let Some(retry_after) = self.desk.refuses(&demand) {
                return Err(NoSeat::Shed { retry_after });
            }
            let story = telling.map(Telling::share);
            if let Some(answer) = self.wait(demand.clone(), approach, give_up, story).await {
                if let (Ok(seat), Some(telling)) = (&answer, telling) {
                    telling.seated(seat);
                }
                return answer;
            }
            if give_up.is_some_and(|at| Instant::now() >= at) {
                return Err(NoSeat::Restarting);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Waits in the queue. `None`: the actor or the core was restarted, offer the request again.
    async fn wait(
        &self,
        demand: Demand,
        approach: Approach,
        give_up: Option<Instant>,
        story: Option<Arc<Story>>,
    ) -> Option<Result<Seat, NoSeat>> {
        // `answer` is dropped before `place`: a waiter that left is seen as gone before its place is looked up.
        let mut place = WaitPlace::new(Arc::clone(&self.desk), self.desk.next_waiter());
        let (reply, answer) = oneshot::channel::<Reply>();
        let message = Admit { demand, waiter: place.waiter(), reply, approach, story };
        match self.actor.try_send(message) {
            Ok(()) => {}
            Err(Undelivered::Full) => return Some(Err(NoSeat::Overloaded)),
            Err(Undelivered::Restarting) => return None,
        }
        let answer = match give_up {
            Some(at) => match timeout_at(at, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let refusal = Refusal::Timeout { retry_after: AFTER_RESTART };
                    return Some(Err(NoSeat::Refused(refusal)));
                }
            },
            None => answer.await,
        };
        place.left_by_answer();
        answer.ok().map(|reply| reply.map_err(NoSeat::Refused))
    }

    /// Applies changes of weights, caps and capacity; they hold from the next grant on.
    pub async fn reconfigure(&self, changes: Vec<Change>) -> Result<(), Undelivered> {
        loop {
            match self.actor.send(Reconfigure(changes.clone())).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Contained(_))) | Err(Undelivered::Restarting) => sleep(RETRY_PAUSE).await,
                Err(Undelivered::Full) => return Err(Undelivered::Full),
            }
        }
    }

    /// The registry from here on, for the brownout: it has the tenants' policies.
    pub fn follow(&self, registry: Arc<Registry>) {
        self.desk.board.follow(registry);
        if self.desk.board.is_watched() {
            // Undelivered, the actor is full of requests, and each of them does the same.
            let _ = self.actor.try_send(Look);
        }
    }

    /// The highest output bound that the brownout leaves a request of this tenant that gets its slot now.
    pub fn output_cap(&self, tenant: TenantId, model: ModelId) -> Option<u64> {
        self.desk.board.output_cap(tenant, model)
    }

    /// What the brownout says now.
    pub fn brownout(&self) -> Arc<Levels> {
        self.desk.board.levels()
    }

    /// Output tokens to expect of a request, all answers together.
    pub fn expected_output(
        &self,
        tenant: TenantId,
        model: ModelId,
        max_output: Option<u64>,
        answers: u32,
    ) -> u64 {
        self.desk.expected_output(tenant, model, max_output, answers)
    }

    /// Begins to tell of a request.
    pub fn tell(&self, about: About) -> Telling {
        self.trail.begin(about)
    }

    /// What is told of the last request of this id, and where it stands if it waits.
    pub fn explain(&self, request_id: &str) -> Result<(Found, Option<Position>), Untold> {
        let found = self.trail.find(request_id)?;
        let position = found.waiting().and_then(|ticket| self.desk.position_at(ticket));
        Ok((found, position))
    }

    /// The queue for the live view, copied in pieces. `None` after a contained fault.
    pub fn picture(&self) -> Option<Picture> {
        self.desk.picture()
    }

    /// The same of all replicas together. What others add is some seconds old at most; while Redis is away it is only
    /// what is here.
    pub async fn fleet_picture(&self) -> Option<Picture> {
        let others = match &self.exchange {
            Some(exchange) => exchange.others().await,
            None => Vec::new(),
        };
        let mut picture = self.desk.picture()?;
        others.iter().for_each(|portion| picture.add(portion));
        Some(picture)
    }

    /// The model pools.
    pub fn models(&self) -> Vec<ModelRow> {
        self.desk.models()
    }

    /// How fair it is, at most [`FRESH`] old.
    pub fn fairness(&self) -> Fairness {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        if let Some((at, fairness)) = *seen
            && now.since(at) < FRESH
        {
            return fairness;
        }
        let fairness = self.desk.picture().map(|picture| picture.fairness()).unwrap_or_default();
        *seen = Some((now, fairness));
        fairness
    }

    /// Slots, requests that hold one, requests that wait. `None` after a contained fault.
    pub fn load(&self) -> Option<(u32, u32, u32)> {
        self.desk.load()
    }

    /// Now, as the scheduler counts.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The whole state of the queue, for tests. `None` after a contained fault.
    pub fn dump(&self) -> Option<Dump> {
        self.desk.dump()
    }

    /// Where a tenant stands, and its key if that has a cap. `None` after a contained fault.
    pub fn standing(&self, tenant: &TenantPlan, key: Option<KeyId>) -> Option<Standing> {
        self.desk.standing(tenant, key)
    }

    /// Requests that hold a seat.
    pub fn in_flight(&self) -> u32 {
        self.desk.in_flight()
    }

    /// Contained faults and restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.desk.restarts() + self.actor.restarts()
    }

    /// Messages on their way to the actor.
    pub fn mailbox_depth(&self) -> u32 {
        self.desk.approaching()
    }

    /// Makes the next core call panic. For tests.
    #[doc(hidden)]
    pub fn plant_fault(&self) {
        self.desk.plant_fault();
    }

    /// Makes the next core call panic once its work is done. For tests.
    #[doc(hidden)]
    pub fn plant_late_fault(&self) {
        self.desk.plant_late_fault();
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}
