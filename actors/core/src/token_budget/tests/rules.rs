//! Who is refused and why; what a hold becomes.

use super::*;

const DAY: i64 = 86_400_000_000;

#[test]
fn nothing_is_refused_that_fits_beside_used_and_held() {
    let limits = hard(1_000);
    let mut core = TokenBudget::default();
    let first = core.reserve(at(0), &demand(&limits, 300, 300)).unwrap();
    assert_eq!(first.held, Amount { tokens: 600, pico: 300 * 2 + 300 * 6 });
    assert!(core.reserve(at(0), &demand(&limits, 400, 0)).is_ok());
    // Used 0, held 1000.
    assert_eq!(
        core.reserve(at(0), &demand(&limits, 1, 0)),
        Err(Refusal::Reserved { scope: Scope::Tenant, period: Period::Total })
    );
    core.settle(at(0), first.id, used(250));
    assert!(core.reserve(at(0), &demand(&limits, 350, 0)).is_ok());
    assert!(core.reserve(at(0), &demand(&limits, 1, 0)).is_err());
    // 250 are used: 751 will never fit.
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &demand(&limits, 700, 51)) else { panic!() };
    assert_eq!((told.limit, told.used, told.needed, told.resets_at), (1_000, 250, 751, None));
}

#[test]
fn the_more_lasting_reason_is_told() {
    let all = Limits {
        tokens_per_minute: Some(100),
        requests_per_minute: Some(1),
        budgets: vec![budget(Period::Day, 50), budget(Period::Month, 60), budget(Period::Day, 10)],
    };
    let mut core = TokenBudget::default();
    assert!(matches!(core.reserve(at(0), &demand(&all, 101, 0)), Err(Refusal::TooLarge { .. })));
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &demand(&all, 90, 0)) else { panic!() };
    assert_eq!((told.period, told.limit), (Period::Month, 60));
    let june = Period::Month.start(2026 * 12 + 5);
    assert_eq!(told.resets_at, june);
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &demand(&all, 55, 0)) else { panic!() };
    assert_eq!((told.period, told.limit), (Period::Day, 50));
    core.reserve(at(0), &demand(&all, 8, 0)).unwrap();
    // The bucket of requests is empty too.
    assert!(matches!(core.reserve(at(0), &demand(&all, 5, 0)), Err(Refusal::Reserved { .. })));
    assert!(matches!(core.reserve(at(0), &demand(&all, 2, 0)), Err(Refusal::Minute { .. })));
}

#[test]
fn an_open_answer_gets_what_the_budget_leaves_and_at_least_sixteen() {
    let limits = hard(1_000);
    let open = |prompt, at_most, answers| Demand {
        most: Most { prompt, output: Output::Open { at_most }, answers },
        ..demand(&limits, prompt, 0)
    };
    let bound = |demand: &Demand<'_>, used_before: u64| {
        let mut core = TokenBudget::default();
        core.restore(NOON, Owner::Tenant(tenant(1)), [Amount { tokens: used_before, pico: 0 }; 3]);
        core.reserve(at(0), demand).map(|granted| (granted.set_output, granted.held.tokens))
    };
    assert_eq!(bound(&open(100, 256, 1), 0), Ok((Some(256), 356)));
    assert_eq!(bound(&open(100, 4096, 1), 0), Ok((Some(900), 1_000)));
    assert_eq!(bound(&open(100, 4096, 3), 0), Ok((Some(300), 1_000)));
    assert_eq!(bound(&open(100, 4096, 1), 884), Ok((Some(16), 116)));
    assert!(matches!(bound(&open(100, 4096, 1), 885), Err(Refusal::Exhausted(_))));
    // Money: 2 a prompt token, 6 an output token.
    let money = PeriodBudget { max_tokens: None, max_cost: Some(800), ..budget(Period::Day, 0) };
    let limits = Limits { budgets: vec![money], ..Limits::default() };
    let granted =
        TokenBudget::default().reserve(at(0), &Demand { tenant_limits: &limits, ..open(100, 4096, 1) });
    assert_eq!(granted.unwrap().set_output, Some(100));
    // Holds do not shorten an answer: the request comes again.
    let limits = hard(1_000);
    let mut core = TokenBudget::default();
    core.reserve(at(0), &demand(&limits, 500, 0)).unwrap();
    assert!(matches!(core.reserve(at(0), &open(100, 4096, 1)), Err(Refusal::Reserved { .. })));
}

#[test]
fn a_model_without_a_price_never_skips_a_token_budget() {
    let money = PeriodBudget { period: Period::Day, max_tokens: Some(100), max_cost: Some(1), hard: true };
    let limits = Limits { budgets: vec![money], ..Limits::default() };
    let mut core = TokenBudget::default();
    let free = |prompt| Demand { prices: UnitPrices::default(), ..demand(&limits, prompt, 0) };
    assert!(core.reserve(at(0), &free(100)).is_ok());
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &free(101)) else { panic!() };
    assert_eq!(told.what, What::Tokens);
}

#[test]
fn key_and_tenant_hold_together_or_not_at_all() {
    let (wide, narrow) = (hard(1_000), hard(100));
    let mut core = TokenBudget::default();
    let asked = Demand { key_limits: &narrow, ..demand(&wide, 101, 0) };
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &asked) else { panic!() };
    assert_eq!(told.scope, Scope::Key);
    assert_eq!(sums(&core, NOON, Period::Total), (0, 0));
    core.reserve(at(0), &Demand { key_limits: &narrow, ..demand(&wide, 100, 0) }).unwrap();
    assert_eq!(sums(&core, NOON, Period::Total), (0, 100));
    // Another key of the tenant meets the tenant's budget alone.
    assert!(
        core.reserve(at(0), &Demand { key: key(2), key_limits: &narrow, ..demand(&wide, 100, 0) }).is_ok()
    );
}

#[test]
fn a_hold_belongs_to_the_period_of_its_arrival() {
    let limits = Limits { budgets: vec![budget(Period::Day, 100)], ..Limits::default() };
    let mut core = TokenBudget::default();
    let midnight = Period::Day.end(Period::Day.index(NOON)).unwrap();
    let arrives = |arrival| Demand { arrival, ..demand(&limits, 100, 0) };
    let late = core.reserve(at(0), &arrives(midnight - 1)).unwrap();
    assert!(core.reserve(at(0), &arrives(midnight - 1)).is_err());
    let early = core.reserve(at(0), &arrives(midnight)).unwrap();
    // One that arrived before midnight and took its time comes after one of the new day.
    assert!(core.reserve(at(0), &arrives(midnight - 1)).is_err());
    core.settle(at(0), late.id, used(70));
    assert_eq!(
        (sums(&core, midnight - 1, Period::Day), sums(&core, midnight, Period::Day)),
        ((70, 0), (0, 100))
    );
    core.settle(at(0), early.id, used(90));
    assert_eq!(
        (sums(&core, midnight, Period::Month), sums(&core, midnight, Period::Total)),
        ((160, 0), (160, 0))
    );
    assert_eq!(sums(&core, midnight + DAY, Period::Day), (0, 0));
}

#[test]
fn a_soft_budget_warns_once_first_and_lets_pass() {
    let soft = PeriodBudget { hard: false, max_cost: Some(100), ..budget(Period::Day, 100) };
    let limits = Limits { budgets: vec![soft], ..Limits::default() };
    let mut core = TokenBudget::default();
    let warned = |core: &mut TokenBudget, tokens| {
        let granted = core.reserve(at(0), &demand(&limits, tokens, 0)).unwrap();
        core.settle(at(0), granted.id, used(tokens));
        granted.warnings.iter().map(|warning| (warning.what, warning.first)).collect::<Vec<_>>()
    };
    assert_eq!(warned(&mut core, 50), []);
    assert_eq!(warned(&mut core, 51), [(What::Tokens, true), (What::Money, true)]);
    assert_eq!(warned(&mut core, 10), [(What::Tokens, false)]);
}

#[test]
fn limits_that_change_hold_from_the_next_request_on() {
    let mut core = TokenBudget::default();
    let wide = hard(1_000);
    let granted = core.reserve(at(0), &demand(&wide, 900, 0)).unwrap();
    assert!(matches!(core.reserve(at(0), &demand(&hard(500), 1, 0)), Err(Refusal::Reserved { .. })));
    assert!(core.reserve(at(0), &demand(&NONE, 5_000, 0)).is_ok());
    core.settle(at(0), granted.id, used(800));
    assert!(matches!(core.reserve(at(0), &demand(&hard(500), 1, 0)), Err(Refusal::Exhausted(_))));
    // One that is set later counts from the beginning of its period.
    let Err(Refusal::Exhausted(told)) = core.reserve(at(0), &demand(&hard(600), 1, 0)) else { panic!() };
    assert_eq!(told.used, 800);
}

#[test]
fn what_nobody_needs_is_forgotten_and_usage_is_not() {
    let limits = a_minute(600);
    let mut core = TokenBudget::default();
    let granted = core.reserve(at(0), &demand(&limits, 600, 0)).unwrap();
    core.settle(at(0), granted.id, used(0));
    assert_eq!(core.expire(at(1), NOON, |_| false), 0, "nothing was used, and the buckets are full");
    let granted = core.reserve(at(0), &demand(&limits, 600, 0)).unwrap();
    let later = NOON + 400 * DAY;
    assert_eq!(core.expire(at(100_000), later, |_| true), 2, "a hold is out");
    assert_eq!(sums(&core, NOON, Period::Day), (0, 600), "in the period of its arrival, long ended");
    core.settle(at(100_000), granted.id, used(600));
    assert_eq!(core.expire(at(100_000), later, |_| false), 2);
    assert_eq!((sums(&core, later, Period::Total), sums(&core, NOON, Period::Day)), ((600, 0), (0, 0)));
    assert_eq!(core.expire(at(100_000), later, |owner| owner != Owner::Tenant(tenant(1))), 1);
    assert_eq!(core.expire(at(100_000), later, |_| true), 0);
}

#[test]
fn absurd_numbers_do_not_wrap() {
    let limits =
        Limits { requests_per_minute: Some(u64::MAX), tokens_per_minute: Some(u64::MAX), ..hard(u64::MAX) };
    let mut core = TokenBudget::default();
    let most = Most { prompt: u64::MAX, output: Output::Given(u64::MAX), answers: u64::MAX };
    let prices = UnitPrices { prompt: u64::MAX, output: u64::MAX };
    let absurd = Demand {
        prompt: u64::MAX,
        forecast: u64::MAX,
        most,
        prices,
        asked: false,
        arrival: i64::MAX,
        ..demand(&limits, 0, 0)
    };
    let granted = core.reserve(Moment::from_micros(u64::MAX), &absurd).unwrap();
    assert!(core.reserve(Moment::ZERO, &absurd).is_err());
    let most = Amount { tokens: u64::MAX, pico: u128::MAX };
    core.settle(Moment::ZERO, granted.id, Settlement { used: most, counts: true });
    assert!(matches!(
        core.reserve(at(0), &demand(&limits, 1, 0)),
        Err(Refusal::Minute { .. } | Refusal::Exhausted(_))
    ));
}
