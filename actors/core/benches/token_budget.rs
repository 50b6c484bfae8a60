//! What a request costs the budgets: a reservation over tenant and key and its settlement, with so many tenants.

use divan::Bencher;
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::token_budget::{
    Amount, Demand, Limits, Most, Output, Period, PeriodBudget, Settlement, TokenBudget, UnitPrices,
};
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Another tenant each time, so that none was touched a moment ago.
const STRIDE: u128 = 7_919;

fn main() {
    divan::main();
}

fn limits(wide: u64) -> Limits {
    let budget =
        |period| PeriodBudget { period, max_tokens: Some(wide), max_cost: Some(wide.into()), hard: true };
    Limits {
        tokens_per_minute: Some(wide),
        requests_per_minute: Some(wide),
        budgets: vec![budget(Period::Day), budget(Period::Month), budget(Period::Total)],
    }
}

fn cycle(core: &mut TokenBudget, now: u64, tenant: u128, [tenant_limits, key_limits]: [&Limits; 2]) {
    let demand = Demand {
        tenant: TenantId(Uuid::from_u128(tenant)),
        tenant_limits,
        key: KeyId(Uuid::from_u128(tenant)),
        key_limits,
        arrival: 1_778_414_400_000_000,
        prompt: 300,
        forecast: 500,
        most: Most { prompt: 1_200, output: Output::Given(200), answers: 1 },
        prices: UnitPrices { prompt: 500_000, output: 1_500_000 },
        asked: false,
    };
    let now = Moment::from_micros(now);
    if let Ok(granted) = core.reserve(now, &demand) {
        let used = Amount { tokens: 450, pico: 300_000_000 };
        core.settle(now, granted.id, Settlement { used, counts: true });
    }
}

/// Reserve and settle. Tenant and key have the same limits.
fn run(bencher: Bencher<'_, '_>, tenants: u128, limits: &Limits) {
    let mut core = TokenBudget::default();
    (0..tenants).for_each(|tenant| cycle(&mut core, 0, tenant, [limits, limits]));
    let (mut now, mut tenant) = (0, 0);
    bencher.bench_local(|| {
        now += 1;
        tenant = (tenant + STRIDE) % tenants;
        cycle(&mut core, now, tenant, [limits, limits]);
    });
}

#[divan::bench(args = [1, 1_000, 100_000], sample_count = 200, sample_size = 2_000)]
fn reserve_and_settle_with_all_limits(bencher: Bencher<'_, '_>, tenants: u128) {
    run(bencher, tenants, &limits(1_000_000_000_000_000));
}

#[divan::bench(args = [100_000], sample_count = 200, sample_size = 2_000)]
fn reserve_and_settle_without_limits(bencher: Bencher<'_, '_>, tenants: u128) {
    run(bencher, tenants, &Limits::default());
}
