//! Live percentiles: of overhead, queue wait, time to the first byte and total, for the last 1, 5 and 15 minutes.
//!
//! A worker writes one [`Sample`] a request into a buffer of its own. A full buffer is handed over and taken
//! into histograms by a thread; somebody who asks takes in what the buffers hold meanwhile. So no request waits
//! for another worker, and there is one set of histograms however many workers there are (one for each
//! worker and model would be hundreds of megabytes). Time is that of the samples and of who asks; no clock is
//! read here.
//!
//! Memory, for 50 models with every bucket in use: see `central::tests`. More models share an entry `other`.

use crate::metrics::{Observed, Roll};
use obleth_core::moment::Moment;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

mod central;
mod packed;
mod report;
mod series;

use central::Central;
pub use report::{Figures, ModelFigures, Report, WindowFigures};

/// Samples a worker hands over at once.
pub const BATCH: usize = 256;
/// Full buffers that may wait for the thread; further ones are lost and counted.
const WAITING: usize = 64;

/// What is kept of a request until it is in the histograms. Times in microseconds, at most 71 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Second of its end.
    pub at: u32,
    pub model: Place,
    pub overhead: u32,
    /// [`NEVER`] for a request that was not admitted.
    pub queued: u32,
    /// [`NEVER`] for one without an answer.
    pub ttft: u32,
    pub total: u32,
}

/// Where the model of a request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It named none.
    Nowhere,
    /// The model has no place of its own.
    Other,
    /// By its number on the roll.
    Model(u32),
}

/// No such time.
pub const NEVER: u32 = u32::MAX;

impl Sample {
    /// That of a settled request, its model not looked up yet.
    pub(crate) fn of(observed: &Observed<'_>) -> Self {
        Self {
            at: second(observed.at),
            model: Place::Nowhere,
            overhead: micros(observed.own),
            queued: if observed.was_admitted() { micros(observed.queued) } else { NEVER },
            ttft: observed.ttft.map_or(NEVER, micros),
            total: micros(observed.total),
        }
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(NEVER).min(NEVER - 1)
}

fn second(at: Moment) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

/// The histograms, and the way to them.
pub struct Stats {
    central: Arc<Mutex<Central>>,
    full: SyncSender<Vec<Sample>>,
    bell: SyncSender<()>,
    missed: AtomicU64,
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stats")
    }
}

impl Stats {
    /// Starts the thread, which ends with this. Models are called as `names` has them.
    pub fn start(names: Arc<Roll<Arc<str>>>) -> Self {
        let (full, inbox) = sync_channel(WAITING);
        let (bell, rings) = sync_channel(1);
        let central = Arc::new(Mutex::new(Central::new(names, inbox)));
        let owned = Arc::clone(&central);
        let thread = std::thread::Builder::new().name("stats".to_owned());
        if let Err(error) = thread.spawn(move || take_in(&owned, &rings)) {
            tracing::error!(%error, "no thread for live percentiles: under load some requests are not in them");
        }
        Self { central, full, bell, missed: AtomicU64::new(0) }
    }

    /// Takes a full buffer. Never waits.
    pub fn hand_over(&self, full: Vec<Sample>) {
        let count = full.len();
        if self.full.try_send(full).is_err() {
            self.missed.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        // Full: it rings already.
        let _ = self.bell.try_send(());
    }

    /// The percentiles at `now`, with the samples the workers still had.
    pub fn report(&self, now: Moment, pending: impl Iterator<Item = Vec<Sample>>) -> Report {
        let mut central = self.central.lock();
        central.take_inbox();
        pending.for_each(|samples| central.take(&samples));
        central.report(second(now), self.missed.load(Ordering::Relaxed))
    }
}

fn take_in(central: &Mutex<Central>, rings: &Receiver<()>) {
    while rings.recv().is_ok() {
        central.lock().take_inbox();
    }
}
