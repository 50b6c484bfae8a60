//! Tests of the budgets.

use super::*;
use crate::moment::Moment;
use std::time::Duration;
use uuid::Uuid;

mod buckets;
mod calendar;
mod fleet;
mod naive;
mod parts;
mod random;
mod ratio;
mod requests;
mod rules;

/// 2026-05-10 12:00 UTC.
const NOON: i64 = 1_778_414_400_000_000;

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n))
}

fn key(n: u128) -> KeyId {
    KeyId(Uuid::from_u128(1000 + n))
}

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn budget(period: Period, max_tokens: u64) -> PeriodBudget {
    PeriodBudget { period, max_tokens: Some(max_tokens), max_cost: None, hard: true }
}

fn hard(max_tokens: u64) -> Limits {
    Limits { budgets: vec![budget(Period::Total, max_tokens)], ..Limits::default() }
}

fn a_minute(tokens: u64) -> Limits {
    Limits { tokens_per_minute: Some(tokens), ..Limits::default() }
}

static NONE: Limits = Limits { tokens_per_minute: None, requests_per_minute: None, budgets: Vec::new() };

/// A demand of tenant 1 with key 1: so many tokens of prompt, so many of answer.
fn demand(limits: &Limits, prompt: u64, output: u64) -> Demand<'_> {
    Demand {
        tenant: tenant(1),
        tenant_limits: limits,
        key: key(1),
        key_limits: &NONE,
        arrival: NOON,
        prompt,
        forecast: prompt + output,
        most: Most { prompt, output: Output::Given(output), answers: 1 },
        prices: UnitPrices { prompt: 2, output: 6 },
        asked: false,
    }
}

fn used(tokens: u64) -> Settlement {
    Settlement { used: Amount { tokens, pico: 0 }, counts: true }
}

/// Used and reserved tokens of tenant 1 at this time.
fn sums(core: &TokenBudget, unix_micros: i64, period: Period) -> (u64, u64) {
    let standing = core.standing(at(0), unix_micros, Owner::Tenant(tenant(1)), &NONE);
    let (_, used, held) = standing.usage.into_iter().find(|(of, ..)| *of == period).unwrap();
    (used.tokens, held.tokens)
}

/// A generator that always makes the same numbers from the same seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
