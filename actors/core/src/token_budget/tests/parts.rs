//! Minutes of replicas: pools, and what happens while the store is away.

use super::*;

fn owner() -> Owner {
    Owner::Tenant(tenant(1))
}

fn shared() -> TokenBudget {
    let mut core = TokenBudget::default();
    core.share(at(0), 1);
    core
}

/// Takes what the call lacks from a store that has enough; so many tokens are left there.
fn filled(core: &mut TokenBudget, now: Moment, left: u64) {
    for ask in core.lacks() {
        let Ask::Minute { owner, minute, count, limit } = ask else { panic!("{ask:?}") };
        let dip = core.dip(now, (owner, minute), count, limit, 2).unwrap();
        let got = dip.want;
        core.dipped(now, &dip, Some(Dipped { got, left, wait: Duration::ZERO }));
    }
}

#[test]
fn a_pool_is_filled_beforehand_and_what_lies_idle_is_given_back() {
    let (mut core, limits) = (shared(), a_minute(4_000));
    assert_eq!(core.reserve(at(0), &demand(&limits, 50, 50)).err(), Some(Refusal::Short));
    filled(&mut core, at(0), 3_800);
    // A slice of 4000 / (20 × 2) was taken beforehand.
    let first = core.reserve(at(1), &demand(&limits, 50, 50)).unwrap();
    core.reserve(at(2), &demand(&limits, 50, 50)).unwrap();
    assert_eq!(core.reserve(at(3), &demand(&limits, 1, 0)).err(), Some(Refusal::Short));
    assert!(core.settle(at(4), first.id, used(30)));
    assert_eq!(core.settle_minutes(at(5), 2), [], "it may be needed yet");
    let back = core.settle_minutes(at(2_000), 2);
    assert_eq!(back, [Dip { owner: owner(), minute: Minute::Tokens, limit: 4_000, due: -70, want: 0 }]);
    assert_eq!(core.settle_minutes(at(2_001), 2), []);
}

#[test]
fn what_was_used_beyond_the_forecast_is_owed_and_stays_so_until_the_store_has_it() {
    let (mut core, limits) = (shared(), a_minute(4_000));
    core.reserve(at(0), &demand(&limits, 50, 50)).unwrap_err();
    filled(&mut core, at(0), 3_800);
    let held = core.reserve(at(1), &demand(&limits, 50, 50)).unwrap();
    core.settle(at(2), held.id, used(500));
    for _ in 0..2 {
        let owed = core.settle_minutes(at(3), 2);
        assert_eq!(owed.iter().map(|dip| dip.due).collect::<Vec<_>>(), [300]);
        core.dipped(at(3), &owed[0], None);
    }
    let owed = core.settle_minutes(at(4), 2);
    core.dipped(at(4), &owed[0], Some(Dipped { got: 0, left: 3_000, wait: Duration::ZERO }));
    assert_eq!(core.settle_minutes(at(4), 2), []);
}

#[test]
fn without_the_store_a_replica_has_its_part_and_tells_afterwards_what_it_took() {
    for (lost, owed) in [(false, 500), (true, 500 + 900)] {
        let (mut core, limits) = (shared(), a_minute(4_000));
        core.reserve(at(0), &demand(&limits, 100, 0)).unwrap_err();
        // 2000 are left, and 100 of its own: of two replicas this one has 1100.
        filled(&mut core, at(0), 2_000);
        let held = core.reserve(at(0), &demand(&limits, 100, 0)).unwrap();
        core.settle(at(0), held.id, used(100));
        core.part(at(0), Some(2), false);
        let refused = core.reserve(at(0), &demand(&limits, 1_200, 0)).unwrap_err();
        let Refusal::Minute { limit, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(limit, 2_000);
        let held = core.reserve(at(0), &demand(&limits, 500, 0)).unwrap();
        core.settle(at(0), held.id, used(500));
        core.part(at(0), None, lost);
        let due: Vec<_> = core.settle_minutes(at(0), 2).iter().map(|dip| dip.due).collect();
        assert_eq!(due, [owed], "lost: {lost}");
    }
}
