//! Minute buckets: exact waits, debts, and what a minute truly gives.

use super::*;

fn wait(core: &mut TokenBudget, now: Moment, demand: &Demand<'_>) -> Option<Duration> {
    match core.clone_for_a_try().reserve(now, demand) {
        Ok(_) => None,
        Err(Refusal::Minute { retry_after, .. }) => Some(retry_after),
        Err(other) => panic!("{other:?}"),
    }
}

impl TokenBudget {
    fn clone_for_a_try(&self) -> Self {
        Self { accounts: self.accounts.clone(), holds: self.holds.clone(), next: self.next, slices: None }
    }
}

#[test]
fn the_same_request_passes_after_exactly_retry_after_and_not_a_microsecond_before() {
    let mut dice = Dice(1);
    for round in 0..2_000 {
        let limits = Limits {
            tokens_per_minute: Some(1 + dice.below(200_000)),
            requests_per_minute: dice.one_in(2).then(|| 1 + dice.below(600)),
            budgets: Vec::new(),
        };
        let mut core = TokenBudget::default();
        let mut now = at(dice.below(10_000));
        let mut refused = 0;
        for _ in 0..40 {
            now = now + Duration::from_micros(dice.below(3_000_000));
            let prompt = dice.below(limits.tokens_per_minute.unwrap() + 1);
            let output = dice.below(5_000);
            let asked = demand(&limits, prompt, output);
            if let Some(wait) = wait(&mut core, now, &asked) {
                refused += 1;
                let almost = now + (wait - Duration::from_micros(1));
                assert!(core.clone_for_a_try().reserve(almost, &asked).is_err(), "round {round}");
                assert!(core.clone_for_a_try().reserve(now + wait, &asked).is_ok(), "round {round}");
            } else {
                let granted = core.reserve(now, &asked).unwrap();
                if dice.one_in(2) {
                    core.settle(now, granted.id, used(dice.below(6_000)));
                }
            }
        }
        assert!(refused > 0 || round > 0);
    }
}

#[test]
fn a_minute_gives_its_limit_and_no_more() {
    let limits = a_minute(60_000);
    let mut core = TokenBudget::default();
    let (mut now, mut served, mut until_60) = (at(0), 0_u64, 0);
    // Truth is twice the forecast, and settled at once.
    while now < at(180_000) {
        match core.reserve(now, &demand(&limits, 100, 100)) {
            Ok(granted) => {
                core.settle(now, granted.id, used(400));
                served += 400;
            }
            Err(Refusal::Minute { retry_after, .. }) => now = now + retry_after,
            Err(other) => panic!("{other:?}"),
        }
        if now < at(60_000) {
            until_60 = served;
        }
    }
    // The first minute has the full bucket besides.
    assert!((119_000..=121_000).contains(&until_60), "{until_60}");
    assert!((119_400..=120_600).contains(&(served - until_60)), "{}", served - until_60);
}

#[test]
fn a_forecast_larger_than_the_bucket_takes_the_whole_bucket_and_passes() {
    let limits = a_minute(1_000);
    let mut core = TokenBudget::default();
    let large = demand(&limits, 900, 5_000);
    let granted = core.reserve(at(0), &large).unwrap();
    assert_eq!(core.rates(at(0), Owner::Tenant(tenant(1)), &limits).tokens.unwrap().remaining, 0);
    let refused = core.reserve(at(0), &large);
    let a_minute = Duration::from_secs(60);
    assert_eq!(
        refused,
        Err(Refusal::Minute {
            scope: Scope::Tenant,
            minute: Minute::Tokens,
            limit: 1_000,
            retry_after: a_minute
        })
    );
    // It used more than the bucket holds: a debt.
    core.settle(at(0), granted.id, used(3_000));
    let rate = core.rates(at(0), Owner::Tenant(tenant(1)), &limits).tokens.unwrap();
    assert_eq!((rate.remaining, rate.reset), (0, 3 * a_minute));
    assert!(core.reserve(at(179_999), &large).is_err());
    assert!(core.reserve(at(180_000), &large).is_ok());
}

#[test]
fn a_prompt_larger_than_the_bucket_of_tenant_or_key_is_refused_for_good() {
    let (small, large) = (a_minute(100), a_minute(1_000));
    let mut core = TokenBudget::default();
    let asked = Demand { key_limits: &small, ..demand(&large, 101, 0) };
    assert_eq!(core.reserve(at(0), &asked), Err(Refusal::TooLarge { scope: Scope::Key, limit: 100 }));
    let asked = Demand { key_limits: &large, ..demand(&small, 101, 0) };
    assert_eq!(core.reserve(at(0), &asked), Err(Refusal::TooLarge { scope: Scope::Tenant, limit: 100 }));
    assert!(core.reserve(at(0), &demand(&small, 100, 0)).is_ok());
}

#[test]
fn what_is_given_back_is_there_again_and_a_refusal_takes_nothing() {
    let limits = Limits { requests_per_minute: Some(1), ..a_minute(1_000) };
    let mut core = TokenBudget::default();
    let granted = core.reserve(at(0), &demand(&limits, 500, 500)).unwrap();
    assert!(core.release(at(0), granted.id));
    assert!(!core.release(at(0), granted.id), "a second time");
    let granted = core.reserve(at(0), &demand(&limits, 400, 0)).unwrap();
    // Of the key there is enough, of the tenant's requests there is not: no tokens are taken.
    let refused = core.reserve(at(0), &demand(&limits, 100, 0)).unwrap_err();
    assert!(matches!(refused, Refusal::Minute { minute: Minute::Requests, .. }), "{refused:?}");
    assert_eq!(core.rates(at(0), Owner::Tenant(tenant(1)), &limits).tokens.unwrap().remaining, 600);
    // One that failed does not count as a request; one that was answered does.
    core.settle(at(0), granted.id, Settlement::NOTHING);
    let granted = core.reserve(at(0), &demand(&limits, 400, 0)).unwrap();
    core.settle(at(0), granted.id, used(400));
    assert!(core.reserve(at(0), &demand(&limits, 400, 0)).is_err());
}

#[test]
fn a_changed_limit_leaves_what_was_taken() {
    let mut core = TokenBudget::default();
    core.reserve(at(0), &demand(&a_minute(1_000), 600, 0)).unwrap();
    let left = |core: &TokenBudget, limit| {
        core.rates(at(0), Owner::Tenant(tenant(1)), &a_minute(limit)).tokens.unwrap().remaining
    };
    assert_eq!(
        (left(&core, 2_000), left(&core, 1_000), left(&core, 700), left(&core, 500)),
        (1_400, 400, 100, 0)
    );
    core.reserve(at(0), &demand(&a_minute(2_000), 1_400, 0)).unwrap();
    assert_eq!(left(&core, 2_000), 0);
}
