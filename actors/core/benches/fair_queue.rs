//! What a request costs the fair queue: enqueue, grant and release, with so many tenants backlogged.
//!
//! Every tenant waits all the time. A tenant that was granted sends its next request half a round later, so
//! that neither the one that arrives nor the one that is granted was touched a moment ago.

use divan::Bencher;
use obleth_core::fair_queue::{
    Demand, Effect, FairQueue, GroupPlan, ModelPlan, Settings, Spent, TenantPlan, TicketId,
};
use obleth_core::ids::{GroupId, ModelId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::units::{CostFactor, Share};
use std::collections::VecDeque;
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SLOTS: u32 = 32;

fn main() {
    divan::main();
}

/// One enqueue, one release and the grant that it sets free.
#[divan::bench(args = [1, 1_000, 10_000, 100_000], sample_count = 200, sample_size = 2_000)]
fn cycle(bencher: Bencher<'_, '_>, tenants: u32) {
    let mut flood = Flood::of(tenants);
    bencher.bench_local(|| flood.cycle());
}

/// A seat taken and given back while slots are free, by one of so many tenants that were heard of.
#[divan::bench(args = [1, 1_000], sample_count = 200, sample_size = 2_000)]
fn fast_path(bencher: Bencher<'_, '_>, tenants: u32) {
    let mut queue = queue();
    let (mut next, mut now) = (0, 0);
    bencher.bench_local(|| {
        next = (next + 1) % tenants;
        now += 1;
        let at = Moment::from_micros(now);
        if let Some(grant) = queue.try_seat(at, &demand(next)) {
            queue.release(at, grant.ticket, spent(now));
        }
    });
}

/// Tenants that all wait.
struct Flood {
    queue: FairQueue,
    now: u64,
    running: VecDeque<TicketId>,
    /// Tenants that were granted, by number: they send their next request in this order.
    thinking: VecDeque<u32>,
}

impl Flood {
    fn of(tenants: u32) -> Self {
        let mut flood = Self {
            queue: queue(),
            now: 0,
            running: VecDeque::new(),
            thinking: (0..tenants.div_ceil(2)).collect(),
        };
        // Enough that no queue runs dry, also for a single tenant with all slots.
        let depth = if tenants > SLOTS { 2 } else { 2 * SLOTS };
        (0..depth).for_each(|_| (0..tenants).for_each(|number| flood.arrive(number)));
        flood.collect();
        // The order of tenants among the tags is not that of their numbers any more after some rounds.
        (0..tenants.saturating_mul(3)).for_each(|_| flood.cycle());
        flood
    }

    fn cycle(&mut self) {
        self.now += 1;
        if let Some(number) = self.thinking.pop_front() {
            self.arrive(number);
        }
        if let Some(ticket) = self.running.pop_front() {
            self.queue.release(Moment::from_micros(self.now), ticket, spent(self.now));
        }
        self.collect();
    }

    fn arrive(&mut self, number: u32) {
        let now = Moment::from_micros(self.now);
        let deadline = Some(Moment::from_micros(self.now + (1 << 40)));
        let queued = self.queue.enqueue(now, Demand { deadline, ..demand(number) });
        debug_assert!(queued.is_ok());
    }

    fn collect(&mut self) {
        while let Some(effect) = self.queue.poll_effect() {
            if let Effect::Grant(grant) = effect {
                self.running.push_back(grant.ticket);
                self.thinking.push_back(number_of(grant.tenant));
            }
        }
    }
}

fn queue() -> FairQueue {
    FairQueue::new(Settings { slots: SLOTS, max_queued: u32::MAX, ..Settings::default() })
}

/// Output between 1 and 200 tokens, twice the forecast at most.
fn spent(now: u64) -> Spent {
    let output = now.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 200 + 1;
    Spent::Tokens { prompt: 100, output }
}

/// Ids are spread over the whole range, as random ones are; the number stands in the last bits.
fn id_of(number: u32) -> TenantId {
    let spread = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    TenantId(Uuid::from_u64_pair(spread, spread << 32 | u64::from(number)))
}

fn number_of(tenant: TenantId) -> u32 {
    let (_, low) = tenant.0.as_u64_pair();
    u32::try_from(low & u64::from(u32::MAX)).unwrap_or_default()
}

fn plan(number: u32) -> TenantPlan {
    TenantPlan {
        id: id_of(number),
        weight: Share::DEFAULT,
        group: GroupPlan { id: GroupId(Uuid::from_u128(1)), weight: Share::DEFAULT },
        max_in_flight: None,
        max_queued: None,
    }
}

fn demand(number: u32) -> Demand {
    Demand {
        tenant: plan(number),
        model: ModelPlan {
            id: ModelId(Uuid::from_u128(1)),
            cost_factor: CostFactor::ONE,
            max_in_flight: None,
        },
        key: None,
        prompt_tokens: 100,
        max_output_tokens: Some(100),
        answers: 1,
        deadline: None,
    }
}
