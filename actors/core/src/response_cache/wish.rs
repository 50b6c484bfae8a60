//! What a client wishes of the cache (RFC 9111 §5.2.1), and when an answer is fresh enough for it.

use crate::moment::Moment;
use std::time::Duration;

/// The directives of a request that count here. Others, and what is no directive, say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `no-store`: neither look nor keep.
    pub no_store: bool,
    /// The oldest answer that will do; zero for `no-cache`.
    pub max_age: Option<Duration>,
}

impl Wish {
    /// The wish in the values of `cache-control`. The strictest of several holds.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let mut wish = Self::default();
        for directive in values.into_iter().flat_map(|value| value.split(',')).map(str::trim) {
            if directive.eq_ignore_ascii_case("no-store") {
                wish.no_store = true;
            } else if is_no_cache(directive) {
                wish.at_most(Duration::ZERO);
            } else if let Some(seconds) = max_age(directive) {
                wish.at_most(Duration::from_secs(seconds));
            }
        }
        wish
    }

    fn at_most(&mut self, age: Duration) {
        self.max_age = Some(self.max_age.map_or(age, |known| known.min(age)));
    }
}

/// `no-cache`, also with an argument, which it has not in requests.
fn is_no_cache(directive: &str) -> bool {
    directive.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("no-cache"))
}

/// The seconds of `max-age=N`; a number beyond all bounds is the largest there is, and what is no number is zero: who
/// limits the age wants nothing old (RFC 9111 §4.2.1).
fn max_age(directive: &str) -> Option<u64> {
    let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
    let value = value.trim().trim_matches('"');
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = || if digits { value.parse().unwrap_or(u64::MAX) } else { 0 };
    name.trim().eq_ignore_ascii_case("max-age").then(seconds)
}

/// Whether an answer of this moment may still be served. One of age zero is what `no-cache` will not have.
pub fn is_fresh(stored: Moment, now: Moment, ttl: Duration, max_age: Option<Duration>) -> bool {
    let age = now.since(stored);
    age < ttl && max_age.is_none_or(|limit| !limit.is_zero() && age <= limit)
}
