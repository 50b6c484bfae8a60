//! What the telemetry of a request costs the worker that ends it: counters, histograms, the sample for the live
//! percentiles. Alone, with series by tenant, and with another worker doing the same.

use divan::Bencher;
use obleth::metrics::{Bounds, Metrics, Observed, WorkerMetrics};
use obleth_core::ids::{KeyId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_core::moment::Moment;
use obleth_core::units::Usd;
use std::cell::Cell;
use std::time::Duration;
use uuid::Uuid;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// 50 models, no labels of tenants.
#[divan::bench(sample_count = 200, sample_size = 1_000)]
fn observe(bencher: Bencher<'_, '_>) {
    Requests::new(false).bench(bencher);
}

/// 50 models, 200 tenants, 50 of which have series of their own.
#[divan::bench(sample_count = 200, sample_size = 1_000)]
fn observe_tenants(bencher: Bencher<'_, '_>) {
    Requests::new(true).bench(bencher);
}

/// Two workers at once.
#[divan::bench(sample_count = 200, sample_size = 1_000, threads = 2)]
fn two_workers(bencher: Bencher<'_, '_>) {
    let metrics = metrics(false);
    let rows = rows();
    std::thread_local! {
        static WORKER: Cell<Option<(WorkerMetrics, u64)>> = const { Cell::new(None) };
    }
    bencher.bench(|| {
        let (worker, number) = WORKER.take().unwrap_or_else(|| (WorkerMetrics::new(&metrics), 0));
        note(&worker, &rows, number);
        WORKER.set(Some((worker, number + 1)));
    });
}

struct Requests {
    worker: WorkerMetrics,
    rows: Vec<LedgerRow>,
}

impl Requests {
    fn new(tenant_labels: bool) -> Self {
        Self { worker: WorkerMetrics::new(&metrics(tenant_labels)), rows: rows() }
    }

    fn bench(&self, bencher: Bencher<'_, '_>) {
        let mut numbers = 0_u64..;
        bencher
            .with_inputs(|| numbers.next().unwrap_or_default())
            .bench_local_values(|number| note(&self.worker, &self.rows, number));
    }
}

fn metrics(tenant_labels: bool) -> Metrics {
    let bounds = Bounds { tenant_labels, ..Bounds::default() };
    Metrics::new(bounds).unwrap_or_else(|_| std::process::exit(1))
}

fn note(worker: &WorkerMetrics, rows: &[LedgerRow], number: u64) {
    let place = usize::try_from(number).unwrap_or_default() % rows.len();
    let Some(row) = rows.get(place) else { return };
    let ttft = Duration::from_micros(90_000 + number % 977 * 300);
    worker.observe(&Observed {
        row,
        // A thousand a second.
        at: Moment::from_micros(number * 1_000),
        queued: Duration::from_micros(number % 89 * 50),
        total: ttft * 20,
        ttft: Some(ttft),
        upstream: Some(ttft * 20 - Duration::from_micros(4_600 + number % 300)),
        own: Duration::from_micros(200 + number % 300),
    });
}

fn rows() -> Vec<LedgerRow> {
    (0..200_u128).map(row).collect()
}

fn row(number: u128) -> LedgerRow {
    LedgerRow {
        id: RowId(Uuid::from_u128(number)),
        request_id: "01938a5e-6c1f-7cc4-a4b5-3f6d1c2b7a90".into(),
        ts: 1_764_000_000_000_000,
        tenant: TenantId(Uuid::from_u128(number)),
        key: KeyId(Uuid::from_u128(2)),
        model: format!("llama-3.3-70b-instruct-{}", number % 50).into(),
        upstream_model: "meta-llama/Llama-3.3-70B-Instruct".into(),
        route: if number.is_multiple_of(4) { "/v1/embeddings" } else { "/v1/chat/completions" },
        stream: true,
        admission: if number.is_multiple_of(3) { Admission::Queued } else { Admission::Fast },
        status: if number.is_multiple_of(20) { 502 } else { 200 },
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
    }
}
