//! A scheduler to test, on one thread with a clock that jumps to the next timer, and demands for it.

use actix::{Arbiter, System};
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::{Fairshare, NoSeat};
use obleth_actors::guards::Seat;
use obleth_core::fair_queue::{Demand, GroupPlan, ModelPlan, Settings, TenantPlan};
use obleth_core::ids::{GroupId, ModelId, TenantId};
use obleth_core::units::{CostFactor, Share};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, spawn_local, yield_now};
use uuid::Uuid;

/// A test that takes longer than this of real time hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Runs `test` on an arbiter whose clock is paused: the actors it starts there share that clock.
pub fn paused<F>(test: impl FnOnce(Arc<Arbiter>) -> F + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let _system = System::new();
    let arbiter = Arc::new(Arbiter::with_tokio_rt(|| {
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
    }));
    let (done, outcome) = channel();
    let own = Arc::clone(&arbiter);
    arbiter.spawn_fn(move || {
        spawn_local(async move {
            test(own).await;
            done.send(()).unwrap();
        });
    });
    outcome.recv_timeout(HANGS).expect("the test ends and does not panic");
    arbiter.stop();
}

/// Lets every task that can run do so, the actor's among them.
pub async fn settle() {
    for _ in 0..32 {
        yield_now().await;
    }
}

/// A scheduler with so many slots whose actor runs.
pub async fn fairshare(arbiter: &Arbiter, slots: u32) -> Fairshare {
    with_mailbox(arbiter, slots, 1024).await
}

/// The same with a mailbox of this capacity.
pub async fn with_mailbox(arbiter: &Arbiter, slots: u32, mailbox: usize) -> Fairshare {
    let settings = Settings { slots, ..Settings::default() };
    let fairshare = Fairshare::start(arbiter, Clock::start(), settings, mailbox);
    settle().await;
    fairshare
}

/// The plan of tenant `number`.
pub fn tenant(number: u128) -> TenantPlan {
    TenantPlan {
        id: TenantId(Uuid::from_u128(number)),
        weight: Share::DEFAULT,
        group: GroupPlan { id: GroupId(Uuid::from_u128(1)), weight: Share::DEFAULT },
        max_in_flight: None,
        max_queued: None,
    }
}

/// A request of tenant `number`, without a deadline.
pub fn demand(number: u128) -> Demand {
    Demand {
        tenant: tenant(number),
        model: ModelPlan {
            id: ModelId(Uuid::from_u128(1)),
            cost_factor: CostFactor::ONE,
            max_in_flight: None,
        },
        key: None,
        prompt_tokens: 10,
        max_output_tokens: Some(10),
        answers: 1,
        deadline: None,
    }
}

/// A request that waits in a task of its own; it has been polled, and the actor has heard of it.
pub async fn waiter(fairshare: &Fairshare, demand: Demand) -> JoinHandle<Result<Seat, NoSeat>> {
    let own = fairshare.clone();
    let task = spawn_local(async move { own.admit(demand).await });
    settle().await;
    task
}

/// So many seats of tenant 1, given at once.
pub async fn seats(fairshare: &Fairshare, count: usize) -> Vec<Seat> {
    let mut seats = Vec::new();
    for _ in 0..count {
        seats.push(fairshare.admit(demand(1)).await.unwrap());
    }
    seats
}

/// Requests in the queue.
pub fn queued(fairshare: &Fairshare) -> u32 {
    fairshare.dump().unwrap().queued
}

/// Nobody holds, waits or approaches.
pub fn assert_empty(fairshare: &Fairshare) {
    let dump = fairshare.dump().unwrap();
    assert_eq!((dump.in_flight, dump.queued, fairshare.mailbox_depth()), (0, 0, 0));
}

/// Numbers that look random and repeat with their seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}
