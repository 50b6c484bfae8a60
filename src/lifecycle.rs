//! The life of the process: loading, serving, closing, draining, cut.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How often a wait looks at the phase. A cut reaches every wait within this time.
pub const TICK: Duration = Duration::from_millis(500);

/// Phases, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The registry is not loaded yet: not ready, requests get 503.
    Loading,
    Serving,
    /// Not ready; requests are still served, their connections closed.
    Closing,
    /// New requests get 503 `draining`, running ones go on.
    Draining,
    /// The grace is over: what still runs ends with an error.
    Cut,
}

/// The phase the process is in. It only goes forward.
#[derive(Debug)]
pub struct Lifecycle(AtomicU8);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(AtomicU8::new(0))
    }
}

impl Lifecycle {
    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Serving,
            2 => Phase::Closing,
            3 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Goes on to `phase`; never back.
    pub fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Loading => 0,
            Phase::Serving => 1,
            Phase::Closing => 2,
            Phase::Draining => 3,
            Phase::Cut => 4,
        };
        self.0.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether `GET /ready` says yes.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Whether the grace is over.
    pub fn is_cut(&self) -> bool {
        self.phase() == Phase::Cut
    }

    /// Waits for `work`, until the time is up or the process is cut.
    pub async fn watch<T>(
        &self,
        until: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, Interrupted> {
        let mut work = std::pin::pin!(work);
        loop {
            let tick = Instant::now() + TICK;
            let wake = until.map_or(tick, |until| until.min(tick));
            if let Ok(done) = timeout_at(wake, &mut work).await {
                return Ok(done);
            }
            if self.is_cut() {
                return Err(Interrupted::Cut);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Interrupted::TimedOut);
            }
        }
    }
}

/// Why a wait ended without its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    TimedOut,
    Cut,
}
