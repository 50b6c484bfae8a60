//! Since when rows are kept.

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Rows that arrived before this go: `days` before the hour of `now` (Unix microseconds). `None`: all are kept.
/// A whole hour, so that what is left of rows is left of roll-ups too.
pub fn cutoff(now: i64, days: u32) -> Option<i64> {
    let kept = i64::from(days).checked_mul(DAY).filter(|kept| *kept > 0)?;
    let cutoff = now.checked_sub(now.rem_euclid(HOUR))?.checked_sub(kept)?;
    (cutoff > 0).then_some(cutoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_kept_for_whole_days_before_the_hour() {
        let now = 200 * DAY + 5 * HOUR + 17;
        assert_eq!(cutoff(now, 180), Some(20 * DAY + 5 * HOUR));
        assert_eq!(cutoff(now - 17, 180), Some(20 * DAY + 5 * HOUR));
        assert_eq!(cutoff(now - 18, 180), Some(20 * DAY + 4 * HOUR));
        assert_eq!(cutoff(now, 0), None, "all are kept");
        assert_eq!(cutoff(now, 201), None, "before there were any");
        assert_eq!(cutoff(i64::MIN, 1), None);
    }
}
