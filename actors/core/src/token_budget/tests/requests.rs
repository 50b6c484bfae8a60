//! Requests that use no tokens.

use super::*;

fn requests(limit: u64) -> Limits {
    Limits { requests_per_minute: Some(limit), ..Limits::default() }
}

fn take(core: &mut TokenBudget, now: Moment, own: &Limits, key_limits: &Limits) -> Result<Granted, Refusal> {
    core.reserve_request(now, NOON, (tenant(1), own), (key(1), key_limits), false)
}

#[test]
fn one_is_taken_from_tenant_and_key_or_from_neither() {
    let mut core = TokenBudget::default();
    let (two, three) = (requests(2), requests(3));
    for _ in 0..2 {
        take(&mut core, at(0), &two, &three).unwrap();
    }
    let refused = take(&mut core, at(0), &two, &three).unwrap_err();
    let retry_after = Duration::from_secs(30);
    let minute = Minute::Requests;
    assert_eq!(refused, Refusal::Minute { scope: Scope::Tenant, minute, limit: 2, retry_after });
    // The key has one left: the refusal took nothing of it.
    take(&mut core, at(0), &NONE, &three).unwrap();
    let refused = take(&mut core, at(0), &NONE, &three).unwrap_err();
    let retry_after = Duration::from_secs(20);
    assert_eq!(refused, Refusal::Minute { scope: Scope::Key, minute, limit: 3, retry_after });
    assert!(take(&mut core, at(20_000), &NONE, &three).is_ok());
    assert_eq!(core.holds(), 4);
}

#[test]
fn one_that_does_not_count_is_given_back() {
    let mut core = TokenBudget::default();
    let one = requests(1);
    let granted = take(&mut core, at(0), &one, &NONE).unwrap();
    assert!(take(&mut core, at(0), &one, &NONE).is_err());
    core.release(at(0), granted.id);
    let granted = take(&mut core, at(0), &one, &NONE).unwrap();
    core.settle(at(0), granted.id, Settlement { used: Amount::ZERO, counts: true });
    assert!(take(&mut core, at(0), &one, &NONE).is_err());
    assert_eq!(core.holds(), 0);
}

#[test]
fn tokens_and_budgets_are_not_asked() {
    let mut core = TokenBudget::default();
    let limits = Limits { tokens_per_minute: Some(10), requests_per_minute: Some(9), ..hard(10) };
    let granted = core.reserve(at(0), &demand(&limits, 4, 6)).unwrap();
    core.settle(at(0), granted.id, used(50));
    assert!(core.reserve(at(0), &demand(&limits, 1, 1)).is_err());
    take(&mut core, at(0), &limits, &NONE).unwrap();
    // What the model's requests owe is owed still.
    assert!(core.reserve(at(0), &demand(&limits, 1, 1)).is_err());
}
