//! What an admission costs: a seat taken and given back, at the desk and through the actor.
//!
//! The actor runs on a thread of its own, as in the server; the callers are on this one.

use actix::{Arbiter, System, SystemRunner};
use divan::Bencher;
use futures_util::FutureExt;
use futures_util::future::join_all;
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::Fairshare;
use obleth_core::fair_queue::{Demand, GroupPlan, ModelPlan, Settings, Spent, TenantPlan};
use obleth_core::ids::{GroupId, ModelId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::units::{CostFactor, Share};
use tokio::task::yield_now;
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPENT: Spent = Spent::Tokens { prompt: 100, output: 50 };

fn main() {
    divan::main();
}

/// A slot is free and nobody waits: no message, no await.
#[divan::bench(sample_count = 200, sample_size = 2_000)]
fn uncontended(bencher: Bencher<'_, '_>) {
    let (_system, fairshare) = start(8);
    let mut number = 0;
    bencher.bench_local(|| {
        number = (number + 1) % 16;
        if let Some(Ok(seat)) = fairshare.admit(demand(number)).now_or_never() {
            seat.settle(SPENT);
        }
    });
}

/// The only slot is out when the request comes, and is given back while its message is on the way.
#[divan::bench(sample_count = 200, sample_size = 50)]
fn through_the_actor(bencher: Bencher<'_, '_>) {
    let (system, fairshare) = start(1);
    let mut held = system.block_on(fairshare.admit(demand(0))).ok();
    bencher.bench_local(|| {
        system.block_on(async {
            let mut admission = Box::pin(fairshare.admit(demand(1)));
            let early = admission.as_mut().now_or_never();
            debug_assert!(early.is_none(), "the slot is out");
            held.take().into_iter().for_each(|seat| seat.settle(SPENT));
            held = admission.await.ok();
        });
    });
}

/// 256 callers on 8 slots, each admitted once and away for one turn of the loop.
#[divan::bench(sample_count = 100, sample_size = 5)]
fn callers_256(bencher: Bencher<'_, '_>) {
    let (system, fairshare) = start(8);
    bencher.counter(divan::counter::ItemsCount::new(256_u32)).bench_local(|| {
        let callers = (0..256).map(|number| {
            let admission = fairshare.admit(demand(number % 16));
            async move {
                if let Ok(seat) = admission.await {
                    yield_now().await;
                    seat.settle(SPENT);
                }
            }
        });
        system.block_on(join_all(callers))
    });
}

/// A scheduler whose actor runs.
fn start(slots: u32) -> (SystemRunner, Fairshare) {
    let system = System::new();
    let settings = Settings { slots, ..Settings::default() };
    let fairshare = Fairshare::start(&Arbiter::new(), Clock::start(), settings, 4096);
    // An admission that has to go through the actor waits until it runs.
    system.block_on(async {
        let mut seats = Vec::new();
        for _ in 0..slots {
            seats.push(fairshare.admit(demand(0)).await);
        }
        let mut last = Box::pin(fairshare.admit(demand(0)));
        let early = last.as_mut().now_or_never();
        debug_assert!(early.is_none(), "all slots are out");
        drop(seats);
        drop(last.await);
    });
    (system, fairshare)
}

fn demand(tenant: u128) -> Demand {
    Demand {
        tenant: TenantPlan {
            id: TenantId(Uuid::from_u128(tenant)),
            weight: Share::DEFAULT,
            group: GroupPlan { id: GroupId(Uuid::from_u128(1)), weight: Share::DEFAULT },
            max_in_flight: None,
            max_queued: None,
        },
        model: ModelPlan {
            id: ModelId(Uuid::from_u128(1)),
            cost_factor: CostFactor::ONE,
            max_in_flight: None,
        },
        key: None,
        prompt_tokens: 100,
        max_output_tokens: Some(100),
        answers: 1,
        deadline: Some(Moment::from_micros(1 << 40)),
    }
}
