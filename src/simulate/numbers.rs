//! From JSON numbers to whole ones, and from whole ones to what is printed.

use std::time::Duration;

/// The longest time read, in seconds: some thirty years.
const LONGEST: f64 = 1e9;

/// Seconds as microseconds, to the nearest.
pub(super) fn micros(seconds: f64) -> Option<u64> {
    if !(0.0..=LONGEST).contains(&seconds) {
        return None;
    }
    let nanos = Duration::try_from_secs_f64(seconds).ok()?.as_nanos();
    u64::try_from(nanos.saturating_add(500) / 1000).ok()
}

/// Tokens a second, in millionths of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// `None` below a millionth and beyond 10⁹ tokens a second.
    pub(super) fn new(tokens_per_second: f64) -> Option<Self> {
        micros(tokens_per_second).filter(|rate| *rate > 0).map(Self)
    }

    /// Microseconds that `tokens` take, rounded up.
    pub(super) fn time(self, tokens: u64) -> u64 {
        let micros = u128::from(tokens).saturating_mul(1_000_000_000_000).div_ceil(u128::from(self.0));
        u64::try_from(micros).unwrap_or(u64::MAX)
    }

    /// Whole tokens within `micros` microseconds.
    pub(super) fn tokens(self, micros: u64) -> u64 {
        let tokens = u128::from(micros).saturating_mul(u128::from(self.0)) / 1_000_000_000_000;
        u64::try_from(tokens).unwrap_or(u64::MAX)
    }
}

/// `part / whole` to six decimals; 0 of nothing.
pub(super) fn ratio(part: u128, whole: u128) -> f64 {
    let millionths = part.saturating_mul(1_000_000).checked_div(whole).unwrap_or_default();
    from_millionths(millionths)
}

/// Microseconds as seconds.
pub(super) fn seconds(micros: u64) -> f64 {
    from_millionths(u128::from(micros))
}

fn from_millionths(value: u128) -> f64 {
    let whole = u32::try_from(value / 1_000_000).unwrap_or(u32::MAX);
    let rest = u32::try_from(value % 1_000_000).unwrap_or_default();
    f64::from(whole) + f64::from(rest) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nearest_microsecond() {
        assert_eq!(micros(0.013), Some(13_000));
        assert_eq!(micros(0.1 + 0.2), Some(300_000));
        assert_eq!(micros(1e-6), Some(1));
        assert_eq!(micros(-0.5), None);
        assert_eq!(micros(f64::NAN), None);
        assert_eq!(micros(2e9), None);
    }

    #[test]
    fn a_rate_gives_times_and_tokens_that_fit_together() {
        let rate = Rate::new(33.3).unwrap();
        for tokens in [1, 7, 64, 1000] {
            assert_eq!(rate.tokens(rate.time(tokens)), tokens);
            assert_eq!(rate.tokens(rate.time(tokens) - 1), tokens - 1);
        }
        assert_eq!(Rate::new(50.0).unwrap().time(180), 3_600_000);
        assert_eq!(Rate::new(0.0), None);
    }

    #[test]
    fn shares_have_six_decimals() {
        assert!((ratio(1, 3) - 0.333_333).abs() < 1e-12);
        assert!(ratio(1, 0).abs() < 1e-12);
        assert!((seconds(1_250_000) - 1.25).abs() < 1e-12);
    }
}
