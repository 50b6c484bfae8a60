//! Tests of the fair queue: rules one by one, floods in virtual time, and the fifteen invariants as
//! properties of random runs. `docs/FAIRNESS.md` says which test is for which invariant.
//!
//! A property is a function of a seed that panics when it does not hold. A failed test prints its seed,
//! `OBLETH_TEST_SEED` runs that one alone, `OBLETH_TEST_RUNS` sets how many. With the feature
//! `planted-faults`, `planted` shows that each fault in a list is caught by one of them.

mod arrivals;
mod backlog;
mod caps;
mod changes;
mod charges;
mod discrepancy;
mod endings;
mod explain;
mod fairness;
mod flood;
mod growth;
mod keys;
mod loads;
mod naive;
mod oracle;
#[cfg(feature = "planted-faults")]
mod planted;
mod random;
mod relations;
mod shed;
mod starvation;
mod trace;
mod waits;

use super::*;
use crate::ids::KeyId;
use crate::units::{CostFactor, Share};
use std::time::Duration;
use uuid::Uuid;

/// Runs a property for `runs` seeds from `first` on, or as the environment says.
pub fn for_seeds(first: u64, runs: u64, property: impl Fn(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, runs) = match number("OBLETH_TEST_SEED") {
        Some(seed) => (seed, 1),
        None => (first, number("OBLETH_TEST_RUNS").unwrap_or(runs)),
    };
    for seed in first..first + runs {
        let _named = Named(seed);
        property(seed);
    }
}

/// Names the seed if the test fails while it lives.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with OBLETH_TEST_SEED={}", self.0);
        }
    }
}

/// A seeded generator (splitmix64), so that a failure can be repeated from its seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A place in a list of `len`.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap())).unwrap()
    }

    pub fn small(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(self.within(low.into(), high.into())).unwrap()
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub fn share(weight: u32) -> Share {
    Share::new(weight).unwrap()
}

pub fn group(n: u128, weight: u32) -> GroupPlan {
    GroupPlan { id: GroupId(Uuid::from_u128(n)), weight: share(weight) }
}

pub fn tenant(n: u128, weight: u32) -> TenantPlan {
    TenantPlan {
        id: TenantId(Uuid::from_u128(n)),
        weight: share(weight),
        group: group(1, 100),
        max_in_flight: None,
        max_queued: None,
    }
}

pub fn model(n: u128, cap: Option<u32>) -> ModelPlan {
    ModelPlan { id: ModelId(Uuid::from_u128(n)), cost_factor: CostFactor::ONE, max_in_flight: cap }
}

pub fn key(n: u128) -> KeyId {
    KeyId(Uuid::from_u128(n))
}

/// A request of 100 prompt tokens and up to 100 output tokens.
pub fn demand(tenant: TenantPlan, model: ModelPlan) -> Demand {
    Demand {
        tenant,
        model,
        key: None,
        prompt_tokens: 100,
        max_output_tokens: Some(100),
        answers: 1,
        deadline: None,
    }
}

pub fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

pub fn with_slots(slots: u32) -> FairQueue {
    FairQueue::new(Settings { slots, ..Settings::default() })
}

/// What the forecast of [`demand`] turns out to be.
pub const AS_FORECAST: Spent = Spent::Tokens { prompt: 100, output: 100 };

/// Tickets granted since the last look, in order. Refusals fail the test.
pub fn granted(queue: &mut FairQueue) -> Vec<TicketId> {
    let mut tickets = Vec::new();
    while let Some(effect) = queue.poll_effect() {
        match effect {
            Effect::Grant(grant) => tickets.push(grant.ticket),
            Effect::Refuse { .. } => panic!("unexpected {effect:?}"),
        }
    }
    assert_eq!(queue.check(), Ok(()));
    tickets
}

/// Refusals since the last look, in order. Grants fail the test.
pub fn refused(queue: &mut FairQueue) -> Vec<(TicketId, Refusal)> {
    let mut tickets = Vec::new();
    while let Some(effect) = queue.poll_effect() {
        match effect {
            Effect::Refuse { ticket, refusal } => tickets.push((ticket, refusal)),
            Effect::Grant(_) => panic!("unexpected {effect:?}"),
        }
    }
    assert_eq!(queue.check(), Ok(()));
    tickets
}

/// Fills one slot with a request of a tenant of its own, so that what follows waits.
pub fn occupy(queue: &mut FairQueue, model: ModelPlan) -> TicketId {
    queue.try_seat(at(0), &demand(tenant(999, 100), model)).unwrap().ticket
}

pub fn view(queue: &FairQueue, n: u128) -> TenantRow {
    let id = TenantId(Uuid::from_u128(n));
    queue.dump().tenants.into_iter().find(|tenant| tenant.id == id).unwrap()
}
