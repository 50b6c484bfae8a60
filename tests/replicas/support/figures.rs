//! Figures of a test, for `scripts/chaos.sh`, which makes a table of them.

use std::fmt::Display;

/// Prints one line: what was measured, how much it was, and what it may be (a test fails by itself when it is not).
pub fn figure(what: &str, value: impl Display, limit: impl Display) {
    println!("FIGURE\t{what}\t{value}\t{limit}");
}

/// How many times something is done again and again: once, unless `OBLETH_TEST_ROUNDS` says otherwise.
pub fn rounds() -> usize {
    std::env::var("OBLETH_TEST_ROUNDS").map_or(1, |text| text.parse().unwrap())
}
