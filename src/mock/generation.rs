//! A request that generates: it waits for a slot, holds it, counts its tokens and gives the slot back however it ends.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{
    ask::Ask,
    backend::{Backend, ModelCounts},
    pace::Pace,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What holds when the client leaves: nobody comes to say so, the guard is dropped.
    Cancelled,
    Completed,
    Failed,
}

/// A slot, held. Dropped before [`Generation::complete`] or [`Generation::fail`] it counts as cancelled.
#[derive(Debug)]
pub(super) struct Generation {
    backend: Arc<Backend>,
    model: Arc<ModelCounts>,
    started: Instant,
    end: End,
    /// Released after `drop` has counted this request out, so that `running` never exceeds the slots.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Generation {
    /// Waits for a slot, in order of arrival, and counts the prompt.
    pub(super) async fn begin(backend: Arc<Backend>, ask: &Ask) -> Self {
        let slot = slot(&backend).await;
        let model = backend.model(&ask.model);
        model.requests.fetch_add(1, Relaxed);
        model.prompt_tokens.fetch_add(ask.prompt_tokens, Relaxed);
        let counts = &backend.counts;
        counts.prompt_tokens.fetch_add(ask.prompt_tokens, Relaxed);
        let running = counts.running.fetch_add(1, Relaxed).saturating_add(1);
        counts.peak_running.fetch_max(running, Relaxed);
        Self { model, backend, started: Instant::now(), end: End::Cancelled, _slot: slot }
    }

    pub(super) fn complete(&mut self) {
        self.end = End::Completed;
    }

    pub(super) fn fail(&mut self) {
        self.end = End::Failed;
    }

    pub(super) fn count_output(&self, tokens: u64) {
        self.model.output_tokens.fetch_add(tokens, Relaxed);
        self.backend.counts.output_tokens.fetch_add(tokens, Relaxed);
    }

    /// Waits until so many tokens are due; when that is past, lets the connection write what it has.
    pub(super) async fn until(&self, pace: Pace, tokens: u32) {
        let due = pace.due(tokens);
        let at = self.started.checked_add(due).unwrap_or(self.started);
        if due.is_zero() || at <= Instant::now() {
            tokio::task::yield_now().await;
        } else {
            sleep_until(at).await;
        }
    }

    /// Generates a whole answer; what was generated counts even if the client leaves meanwhile.
    pub(super) async fn whole(&self, pace: Pace, tokens: u32, choices: u32) {
        let work = Work { generation: self, pace, tokens, choices };
        let due = pace.due(tokens);
        if !due.is_zero() {
            sleep_until(self.started.checked_add(due).unwrap_or(self.started)).await;
        }
        drop(work);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let counts = &self.backend.counts;
        let end = match self.end {
            End::Cancelled => &counts.cancelled,
            End::Completed => &counts.completed,
            End::Failed => &counts.failed,
        };
        end.fetch_add(1, Relaxed);
        counts.running.fetch_sub(1, Relaxed);
    }
}

/// Counts what a JSON answer had generated when it was done or left.
struct Work<'a> {
    generation: &'a Generation,
    pace: Pace,
    tokens: u32,
    choices: u32,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let done = self.pace.generated(self.generation.started.elapsed(), self.tokens);
        self.generation.count_output(u64::from(done).saturating_mul(u64::from(self.choices)));
    }
}

async fn slot(backend: &Arc<Backend>) -> Option<OwnedSemaphorePermit> {
    let slots = backend.slots.as_ref()?;
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return Some(slot);
    }
    let mut wait = Wait::begin(backend);
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    wait.left = false;
    slot
}

/// A place in the queue for a slot.
struct Wait<'a> {
    backend: &'a Backend,
    /// The client left before a slot was free.
    left: bool,
}

impl<'a> Wait<'a> {
    fn begin(backend: &'a Backend) -> Self {
        backend.counts.waiting.fetch_add(1, Relaxed);
        Self { backend, left: true }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.backend.counts.waiting.fetch_sub(1, Relaxed);
        if self.left {
            self.backend.counts.cancelled.fetch_add(1, Relaxed);
        }
    }
}
