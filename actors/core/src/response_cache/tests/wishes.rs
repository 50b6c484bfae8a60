//! `cache-control`, and how old an answer may be.

use crate::moment::Moment;
use crate::response_cache::{Wish, is_fresh};
use std::time::Duration;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_strictest_directive_holds_and_an_age_that_is_no_number_is_zero() {
    let age = |seconds| Wish { no_store: false, max_age: Some(secs(seconds)) };
    for (values, wish) in [
        (&[][..], Wish::default()),
        (&["public", "max-stale=5", "no-storex", "max-agex=1"], Wish::default()),
        (&["max-age"], age(0)),
        (&["max-age="], age(0)),
        (&["max-age=60, max-age=-1"], age(0)),
        (&["max-age=1.5"], age(0)),
        (&["no-cache=\"x\""], age(0)),
        (&["no-store"], Wish { no_store: true, max_age: None }),
        (&["private, No-Store , max-age=3"], Wish { no_store: true, max_age: Some(secs(3)) }),
        (&["no-cache"], age(0)),
        (&["max-age=60"], age(60)),
        (&["MAX-AGE = \"60\""], age(60)),
        (&["max-age=60", "max-age=5, max-age=9"], age(5)),
        (&["max-age=60,no-cache"], age(0)),
        (&["max-age=99999999999999999999999"], age(u64::MAX)),
    ] {
        assert_eq!(Wish::of(values.iter().copied()), wish, "{values:?}");
    }
}

#[test]
fn an_answer_is_fresh_until_its_time_is_over_or_the_client_wants_a_younger_one() {
    let stored = Moment::from_micros(1_000_000);
    let fresh = |after: u64, ttl: u64, max_age: Option<u64>| {
        is_fresh(stored, stored + Duration::from_millis(after), secs(ttl), max_age.map(secs))
    };
    assert!(fresh(0, 1, None) && fresh(999, 1, None) && !fresh(1000, 1, None));
    assert!(!fresh(0, 0, None));
    assert!(fresh(2000, 10, Some(2)) && !fresh(2001, 10, Some(2)));
    assert!(!fresh(0, 10, Some(0)), "no-cache takes not even the newest");
    assert!(fresh(0, 10, Some(1)));
    assert!(is_fresh(stored, Moment::ZERO, secs(1), None), "a clock that steps back makes nothing old");
}
