//! What the journal costs a request: its open and its row, on a real file, no sync.
//!
//! The database is away, so that only its actor's few looks disturb.

use actix::{Arbiter, System, SystemRunner};
use divan::Bencher;
use obleth_actors::accounting::{Accounting, JournalSettings, OpenJournal, StoreHealth, Sync};
use obleth_core::ids::{KeyId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_core::units::Usd;
use obleth_schema::Store;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// The row of a request that was not opened: encoded, framed, one write.
#[divan::bench(sample_count = 200, sample_size = 1_000)]
fn append_row(bencher: Bencher<'_, '_>) {
    let books = Books::new();
    let mut rows = (0_u128..).map(row);
    bencher
        .with_inputs(|| rows.next())
        .bench_local_values(|row| row.map(|row| books.accounting.record(&row)));
}

/// A whole request: its open, which is only buffered, and its row, which takes it along.
#[divan::bench(sample_count = 200, sample_size = 1_000)]
fn open_and_row(bencher: Bencher<'_, '_>) {
    let books = Books::new();
    let mut rows = (0_u128..).map(row);
    bencher.with_inputs(|| rows.next()).bench_local_values(|row| {
        row.map(|row| (books.accounting.open(&row).is_ok(), books.accounting.record(&row)))
    });
}

struct Books {
    accounting: Accounting,
    arbiter: Arbiter,
    _runtime: Runtime,
    _folder: Option<tempfile::TempDir>,
    _system: SystemRunner,
}

impl Books {
    fn new() -> Self {
        Self::open().unwrap_or_else(|| std::process::exit(1))
    }

    fn open() -> Option<Self> {
        let system = System::new();
        let folder = tempfile::tempdir().ok()?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
        let store = {
            let _inside = runtime.enter();
            Store::connect(&"postgres://nobody:x@127.0.0.1:1/none".parse().ok()?).ok()?
        };
        let journal = JournalSettings {
            max_bytes: 1 << 34,
            sync: Sync::Never,
            ..JournalSettings::new(folder.path().join("journal"))
        };
        let arbiter = Arbiter::new();
        let journal = OpenJournal::open(&journal).ok()?;
        let accounting = Accounting::start(&arbiter, store, StoreHealth::default(), journal);
        Some(Self { accounting, arbiter, _runtime: runtime, _folder: Some(folder), _system: system })
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

fn row(number: u128) -> Arc<LedgerRow> {
    Arc::new(LedgerRow {
        id: RowId(Uuid::from_u128(number)),
        request_id: Arc::from("01938a5e-6c1f-7cc4-a4b5-3f6d1c2b7a90"),
        ts: 1_764_000_000_000_000,
        tenant: TenantId(Uuid::from_u128(1)),
        key: KeyId(Uuid::from_u128(2)),
        model: Arc::from("llama-3.3-70b-instruct"),
        upstream_model: Arc::from("meta-llama/Llama-3.3-70B-Instruct"),
        route: "/v1/chat/completions",
        stream: true,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 1000,
        usage: Usage { input: 700, output: 250, source: UsageSource::Upstream, ..Usage::default() },
        cost: Cost { output: Usd::from_pico(1_234_567_890), ..Cost::default() },
        queue_ms: 0,
        ttft_ms: Some(120),
        total_ms: 4_200,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 3_000,
        bytes_out: 40_000,
    })
}
