//! Traces of requests, exported over OTLP/HTTP (`OBLETH_OTEL_ENDPOINT`).
//!
//! Is: the context of a request's trace, and one hand-over when it is settled. Spans are made from its stage
//! stamps and sent in batches on a thread of their own. Is not: anything on the request's way but random ids and
//! one `try_send`; what finds no room in the bounded channel is dropped and counted. Never holds a key, a prompt
//! or a body.

use crate::config::TracesConfig;
use crate::pipeline::{Timing, Verb};
use crate::wire::Route;
use actix_web::http::header::HeaderMap;
use obleth_core::ledger::LedgerRow;
use obleth_core::moment::Moment;
use obleth_core::registry::Model;
use opentelemetry_sdk::trace::Sampler;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

mod client;
mod context;
mod export;
mod spans;

pub use context::Context;

/// Requests whose spans may wait to be sent.
const WAITING: usize = 4096;

/// Why traces cannot be exported as configured.
#[derive(Debug, thiserror::Error)]
#[error("OBLETH_OTEL_ENDPOINT: {0}")]
pub struct TracesError(String);

/// A settled request.
#[derive(Clone, Debug)]
pub struct Ended {
    pub context: Context,
    pub timing: Timing,
    pub end: Moment,
    /// Its arrival as Unix time.
    pub unix_micros: i64,
    pub request_id: Arc<str>,
    pub verb: Verb,
    pub route: Route,
    /// As in the ledger.
    pub status: u16,
    pub error_code: Option<&'static str>,
    /// The status the client saw; `None` when it left before there was one.
    pub told: Option<u16>,
    /// `None` when the request was not authenticated.
    pub row: Option<Arc<LedgerRow>>,
    pub model: Option<Arc<Model>>,
}

impl Ended {
    /// Spans it will have.
    fn spans(&self) -> u64 {
        let stages = self.timing.stages(self.end).count();
        u64::try_from(stages).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// What goes to the exporter's thread.
enum Note {
    Ended(Box<Ended>),
    /// Answered once all that came before has been sent, or given up.
    Flush(oneshot::Sender<()>),
}

/// Spans since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// The collector took them.
    pub exported: AtomicU64,
    /// They found no room.
    pub dropped: AtomicU64,
    /// The collector did not take them.
    pub failed: AtomicU64,
}

/// Where traces go; nowhere by default.
#[derive(Clone, Default)]
pub struct Traces {
    live: Option<Live>,
    counts: Arc<Counts>,
}

#[derive(Clone)]
struct Live {
    notes: mpsc::Sender<Note>,
    sampler: Sampler,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("on", &self.live.is_some()).finish_non_exhaustive()
    }
}

impl Traces {
    /// Starts the exporter if there is an endpoint. `upstream` is the base of models that name none.
    pub fn start(config: &TracesConfig, upstream: &str) -> Result<Self, TracesError> {
        let counts = Arc::new(Counts::default());
        let Some(endpoint) = &config.endpoint else {
            return Ok(Self { live: None, counts });
        };
        let (notes, waiting) = mpsc::channel(WAITING);
        export::start(endpoint, upstream, waiting, Arc::clone(&counts))?;
        let sampler = Sampler::TraceIdRatioBased(config.sample_ratio);
        Ok(Self { live: Some(Live { notes, sampler }), counts })
    }

    /// The context of a request with these headers; `None` when nothing is traced.
    pub fn context(&self, headers: &HeaderMap) -> Option<Context> {
        self.live.as_ref().map(|live| Context::of(headers, &live.sampler))
    }

    /// Takes a settled request. Never waits.
    pub fn note(&self, ended: Ended) {
        let Some(live) = &self.live else { return };
        if !ended.context.is_sampled() {
            return;
        }
        if let Err(error) = live.notes.try_send(Note::Ended(Box::new(ended)))
            && let Note::Ended(ended) = error.into_inner()
        {
            self.counts.dropped.fetch_add(ended.spans(), Ordering::Relaxed);
        }
    }

    /// Waits until what was noted so far has been sent, at most `longest`.
    pub async fn flush(&self, longest: Duration) {
        let Some(live) = &self.live else { return };
        let flushed = async {
            let (done, flushed) = oneshot::channel();
            live.notes.send(Note::Flush(done)).await.ok()?;
            flushed.await.ok()
        };
        if !matches!(timeout(longest, flushed).await, Ok(Some(()))) {
            tracing::warn!("spans of traces did not reach the collector before the end");
        }
    }

    /// Spans since the start: exported, dropped, failed.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

#[cfg(test)]
mod tests;
