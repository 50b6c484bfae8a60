//! The exporter's thread: gathers what ended, makes spans of it, sends them in batches.
//!
//! A collector that is away, hangs or refuses costs its spans and nothing else: the channel fills meanwhile, and
//! what finds no room in it is dropped and counted. It is told at most once a minute.

use super::client::{Bridge, TIMEOUT, serve};
use super::spans::Maker;
use super::{Counts, Ended, Note, TracesError};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// How long ended requests gather before they are sent.
const GATHER: Duration = Duration::from_millis(500);
/// Most requests in one batch.
const MOST: usize = 256;
/// Pause between two complaints.
const QUIET: Duration = Duration::from_secs(60);

/// Starts the thread.
pub(super) fn start(
    endpoint: &str,
    upstream: &str,
    notes: mpsc::Receiver<Note>,
    counts: Arc<Counts>,
) -> Result<(), TracesError> {
    let failed = |why: String| TracesError(why);
    let (jobs, waiting) = mpsc::channel(1);
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Bridge(jobs))
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    exporter.set_resource(&resource());
    let maker = Maker::new(upstream);
    let work = Work { exporter, maker, counts, complained: None, dropped: 0 };
    let thread = std::thread::Builder::new().name("traces".to_owned());
    let started = thread.spawn(move || match actix_rt::Runtime::new() {
        Ok(runtime) => runtime.block_on(async move {
            let serving = actix_rt::spawn(serve(waiting));
            work.run(notes).await;
            serving.abort();
        }),
        Err(error) => tracing::error!(%error, "traces are not exported"),
    });
    started.map(drop).map_err(|error| failed(error.to_string()))
}

/// Who speaks. `OTEL_RESOURCE_ATTRIBUTES` may add to it.
fn resource() -> Resource {
    Resource::builder()
        .with_service_name("obleth")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", Uuid::new_v4().to_string()))
        .build()
}

/// What is sent at once.
#[derive(Default)]
struct Batch {
    ended: Vec<Ended>,
    flushed: Option<oneshot::Sender<()>>,
}

/// The next batch; `None` at the end.
async fn gather(notes: &mut mpsc::Receiver<Note>) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut until = None;
    while batch.ended.len() < MOST && batch.flushed.is_none() {
        let next = match until {
            None => notes.recv().await,
            Some(until) => match timeout_at(until, notes.recv()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(Note::Ended(ended)) => {
                batch.ended.push(*ended);
                until.get_or_insert_with(|| Instant::now() + GATHER);
            }
            Some(Note::Flush(done)) => batch.flushed = Some(done),
            None if batch.ended.is_empty() => return None,
            None => break,
        }
    }
    Some(batch)
}

struct Work {
    exporter: opentelemetry_otlp::SpanExporter,
    maker: Maker,
    counts: Arc<Counts>,
    /// When it last complained.
    complained: Option<Instant>,
    /// Dropped spans it has complained of.
    dropped: u64,
}

impl Work {
    /// Exports until the last sender is gone.
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        while let Some(batch) = gather(&mut notes).await {
            self.export(&batch.ended).await;
            if let Some(flushed) = batch.flushed {
                // Whoever waits may have gone.
                let _ = flushed.send(());
            }
        }
    }

    async fn export(&mut self, ended: &[Ended]) {
        if ended.is_empty() {
            return;
        }
        let spans: Vec<_> = ended.iter().flat_map(|ended| self.maker.spans(ended)).collect();
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        let add = |counter: &AtomicU64| counter.fetch_add(count, Ordering::Relaxed);
        match self.exporter.export(spans).await {
            Ok(()) => {
                add(&self.counts.exported);
                self.complain(None);
            }
            Err(error) => {
                add(&self.counts.failed);
                self.complain(Some(error.to_string()));
            }
        }
    }

    /// Says once in a while that spans are lost.
    fn complain(&mut self, error: Option<String>) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if error.is_none() && dropped == self.dropped {
            return;
        }
        if self.complained.is_some_and(|at| at.elapsed() < QUIET) {
            return;
        }
        self.complained = Some(Instant::now());
        self.dropped = dropped;
        let failed = self.counts.failed.load(Ordering::Relaxed);
        tracing::warn!(error, dropped, failed, "spans of traces are lost (all since the start)");
    }
}
