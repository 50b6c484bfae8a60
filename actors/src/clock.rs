//! The one place that reads a clock. Everything below gets `now` as an argument.

use obleth_core::moment::Moment;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Monotonic time since the start of the process. Follows tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::ZERO + self.origin.elapsed()
    }

    /// The same point of time for tokio's timers.
    pub fn instant(&self, at: Moment) -> Instant {
        self.origin + at.since(Moment::ZERO)
    }
}

/// Wall-clock time in microseconds since 1970, for what is stored and shown.
pub fn unix_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}
