//! Logs: tracing for events, and one access record a request through a bounded channel to a batching writer.
//!
//! A formatted log line costs a request more than the rest of the gateway, so the access record is handed
//! over as it is and written elsewhere, and the per-request span of `tracing-actix-web` is off unless
//! `RUST_LOG` asks for it (`obleth::request=info`). Neither holds keys, prompts or bodies.

use obleth_core::ledger::LedgerRow;
use serde::Serialize;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Target of the access records.
pub const ACCESS: &str = "obleth::access";
/// Target of the per-request span.
pub const REQUEST: &str = "obleth::request";

/// Access records that may wait to be written; more are dropped and counted.
const WAITING: usize = 8192;
/// How long records gather before they are written.
const GATHER: Duration = Duration::from_millis(50);

/// Starts logging to stderr: text on a terminal, JSON lines otherwise.
pub fn start_logging(default: &str) {
    // An answer that breaks off is told of where it breaks, with whose it is; the server below would tell of it as an error.
    let own = format!("{default},{REQUEST}=warn,actix_http::h1::dispatcher=off");
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            // Logging is not up yet; this is the one line that goes out by hand.
            let _ = writeln!(std::io::stderr(), "RUST_LOG is ignored: {error}");
            EnvFilter::new(&own)
        }),
        _ => EnvFilter::new(&own),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::CLOSE);
    // A second start in one process (tests) keeps the first.
    let _ = if std::io::stderr().is_terminal() {
        tracing::subscriber::set_global_default(subscriber.finish())
    } else {
        tracing::subscriber::set_global_default(subscriber.json().finish())
    };
}

/// Where access records go.
#[derive(Clone)]
pub struct AccessLog {
    records: Option<SyncSender<Entry>>,
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLog")
    }
}

/// What is written down of a request.
enum Entry {
    /// Settled, with a row in the ledger.
    Settled(Arc<LedgerRow>),
    /// Refused before it was known whose it is.
    Refused(Refused),
}

/// A request that was not authenticated.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Unix microseconds.
    pub ts: i64,
    pub request_id: Arc<str>,
    pub route: &'static str,
    pub status: u16,
    pub error_code: &'static str,
}

/// The record of a request that was not authenticated, as it is written.
#[derive(Serialize)]
struct RefusedLine<'a> {
    timestamp: String,
    target: &'static str,
    request_id: &'a str,
    route: &'static str,
    status: u16,
    error_code: &'static str,
}

/// An access record as it is written.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    target: &'static str,
    request_id: &'a str,
    tenant_id: String,
    model: &'a str,
    route: &'static str,
    stream: bool,
    status: u16,
    error_code: Option<&'static str>,
    admission: &'static str,
    input_tokens: u64,
    output_tokens: u64,
    queue_ms: u64,
    ttft_ms: Option<u64>,
    total_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp_tool: Option<&'a str>,
}

impl AccessLog {
    /// Starts the writer, if access records are wanted at all.
    pub fn start() -> Self {
        let dropped = Arc::new(AtomicU64::new(0));
        if !tracing::enabled!(target: ACCESS, tracing::Level::INFO) {
            return Self { records: None, dropped };
        }
        let (sender, receiver) = sync_channel(WAITING);
        let count = Arc::clone(&dropped);
        let writer = std::thread::Builder::new().name("access-log".to_owned());
        let started = writer.spawn(move || write_all(&receiver, &count));
        Self { records: started.is_ok().then_some(sender), dropped }
    }

    /// Notes a settled request. Never waits.
    pub fn note(&self, row: &Arc<LedgerRow>) {
        if self.records.is_some() {
            self.hand_over(Entry::Settled(Arc::clone(row)));
        }
    }

    /// Notes a request that was not authenticated. Never waits.
    pub fn note_refused(&self, refused: Refused) {
        self.hand_over(Entry::Refused(refused));
    }

    fn hand_over(&self, entry: Entry) {
        if let Some(records) = &self.records
            && records.try_send(entry).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes records in batches until the last sender is gone.
fn write_all(records: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut text = Vec::with_capacity(64 * 1024);
    while let Ok(first) = records.recv() {
        std::thread::sleep(GATHER);
        text.clear();
        for entry in std::iter::once(first).chain(records.try_iter()) {
            match entry {
                Entry::Settled(row) => append(&mut text, &row),
                Entry::Refused(refused) => append_refused(&mut text, &refused),
            }
        }
        let _ = std::io::stderr().lock().write_all(&text);
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            dropped => tracing::warn!(dropped, "access records were dropped: the log cannot keep up"),
        }
    }
}

fn timestamp(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn append_refused(text: &mut Vec<u8>, refused: &Refused) {
    let line = RefusedLine {
        timestamp: timestamp(refused.ts),
        target: ACCESS,
        request_id: &refused.request_id,
        route: refused.route,
        status: refused.status,
        error_code: refused.error_code,
    };
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}

fn append(text: &mut Vec<u8>, row: &LedgerRow) {
    let line = Line {
        timestamp: timestamp(row.ts),
        target: ACCESS,
        request_id: &row.request_id,
        tenant_id: row.tenant.to_string(),
        model: &row.model,
        route: row.route,
        stream: row.stream,
        status: row.status,
        error_code: row.error_code,
        admission: row.admission.as_str(),
        input_tokens: row.usage.input,
        output_tokens: row.usage.output,
        queue_ms: row.queue_ms,
        ttft_ms: row.ttft_ms,
        total_ms: row.total_ms,
        mcp_server: row.mcp_server.as_deref(),
        mcp_tool: row.mcp_tool.as_deref(),
    };
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *text, &line);
    text.push(b'\n');
}
