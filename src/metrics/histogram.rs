//! A histogram of one owner: plain counters over fixed bounds. Whole microseconds, so that sums are exact.

use std::time::Duration;

/// An upper bound in microseconds, and the same in seconds as `le` has it.
pub(super) type Bound = (u64, &'static str);

/// From 1 ms to 10 min.
const LONG: [Bound; 18] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
    (120_000_000, "120"),
    (300_000_000, "300"),
    (600_000_000, "600"),
];

/// The gateway's own time: from 50 µs.
const FINE: [Bound; 14] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (200, "0.0002"),
    (300, "0.0003"),
    (500, "0.0005"),
    (750, "0.00075"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (10_000_000, "10"),
];

/// Counts by bound.
#[derive(Clone, Debug)]
pub(super) struct Buckets<const N: usize> {
    bounds: &'static [Bound; N],
    /// Observations up to each bound and over the one before.
    counts: [u64; N],
    /// Observations over the last bound.
    over: u64,
    /// Microseconds.
    sum: u64,
}

/// 1 ms to 10 min.
pub(super) type Seconds = Buckets<18>;
/// 50 µs to 10 s.
pub(super) type Fine = Buckets<14>;

impl Default for Seconds {
    fn default() -> Self {
        Self { bounds: &LONG, counts: [0; 18], over: 0, sum: 0 }
    }
}

impl Default for Fine {
    fn default() -> Self {
        Self { bounds: &FINE, counts: [0; 14], over: 0, sum: 0 }
    }
}

impl<const N: usize> Buckets<N> {
    /// Counts one observation.
    pub(super) fn observe(&mut self, micros: u64) {
        let place = self.bounds.partition_point(|(bound, _)| *bound < micros);
        *self.counts.get_mut(place).unwrap_or(&mut self.over) += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// Adds what another one counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.over += other.over;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Observations up to each bound, as Prometheus counts them.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.bounds.iter().zip(&self.counts).scan(0, |below, ((_, text), count)| {
            *below += count;
            Some((*text, *below))
        })
    }

    /// All observations.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.over
    }

    /// Their sum.
    pub(super) const fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_over_the_last_one_is_counted() {
        let mut seconds = Seconds::default();
        for micros in [0, 1_000, 1_001, 600_000_000, 600_000_001] {
            seconds.observe(micros);
        }
        let counts: Vec<_> = seconds.cumulative().collect();
        assert_eq!(counts.first(), Some(&("0.001", 2)));
        assert_eq!(counts.get(1), Some(&("0.0025", 3)));
        assert_eq!(counts.last(), Some(&("600", 4)));
        assert_eq!((seconds.count(), seconds.sum()), (5, Duration::from_micros(1_200_002_002)));
    }

    #[test]
    fn bounds_rise_and_their_texts_are_their_values() {
        for bounds in [&LONG[..], &FINE[..]] {
            assert!(bounds.is_sorted_by(|one, next| one.0 < next.0));
            for (micros, text) in bounds {
                let seconds: f64 = text.parse().unwrap_or_default();
                assert_eq!(Duration::from_secs_f64(seconds), Duration::from_micros(*micros), "{text}");
            }
        }
    }
}
