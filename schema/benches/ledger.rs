//! Ten million rows on SQLite: fills a database through the real migrations and asks the real queries.
//!
//! `scripts/bench-ledger.sh`. Prints a line for each query with its limit; exit code 1 when one is missed.
//! `OBLETH_BENCH_ROWS` (10000000) and `OBLETH_BENCH_FOLDER` (a temporary one) change what is filled and where.

use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, RunQueryDsl};
use obleth_schema::Store;
use obleth_schema::ledger::{
    Ask, Dimension, LedgerFilter, LedgerRecord, Offset, Span, Steps, insert_batch, page, recorded, report,
};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error>>;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
/// 2026-09-01, 2026-10-01 and 2026-11-01, UTC.
const START: i64 = 1_788_220_800_000_000;
const OCTOBER: i64 = START + 30 * DAY;
const END: i64 = OCTOBER + 31 * DAY;
const TENANT: &str = "00000000-0000-4000-8000-000000000007";
const KEY: &str = "00000000-0000-4000-9000-000000000057";
/// Times each query is asked; the median counts.
const TIMES: usize = 21;

const DOWN: &str = include_str!("../../migrations/sqlite/2026-01-03-000000_usage_rollups/down.sql");
const UP: &str = include_str!("../../migrations/sqlite/2026-01-03-000000_usage_rollups/up.sql");

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    let rows = std::env::var("OBLETH_BENCH_ROWS").ok().map_or(Ok(10_000_000), |text| text.parse::<i64>())?;
    let own = tempfile::tempdir()?;
    let folder = std::env::var("OBLETH_BENCH_FOLDER").map_or_else(|_| own.path().to_owned(), Into::into);
    let file = folder.join("ledger.db");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Store::connect(&format!("sqlite://{}", file.display()).parse()?)?;
        store.migrate().await?;
        fill(&file, rows)?;
        measure(&store).await
    })
}

/// 50 tenants with 4 keys each, 6 models; in the order of time.
fn fill(file: &Path, rows: i64) -> Outcome<()> {
    let begun = Instant::now();
    let mut conn = SqliteConnection::establish(&file.display().to_string())?;
    conn.batch_execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -800000; PRAGMA temp_store = MEMORY;")?;
    conn.batch_execute(DOWN)?;
    let pause = (END - START) / rows;
    let mut first = 0;
    while first < rows {
        let last = (first + 500_000).min(rows);
        diesel::sql_query(insert(first, last, pause)).execute(&mut conn)?;
        first = last;
    }
    let filled = begun.elapsed();
    conn.batch_execute(UP)?;
    conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE);")?;
    let bytes = std::fs::metadata(file)?.len();
    println!(
        "{rows} rows in {:.0?}, then the migration (roll-ups and indexes) in {:.0?}; {} MiB",
        filled,
        begun.elapsed() - filled,
        bytes >> 20
    );
    Ok(())
}

fn insert(first: i64, last: i64, pause: i64) -> String {
    format!(
        "WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n + 1 < {last}), \
         d AS (SELECT n, (n * 2654435761) % 1000003 AS r FROM c) \
         INSERT INTO ledger SELECT printf('%08x-%04x-7000-8000-%012x', n >> 8, n & 255, r), \
         printf('%08x-aaaa-4000-8000-%012x', r, n), {START} + n * {pause}, \
         printf('00000000-0000-4000-8000-%012x', r % 50), \
         printf('00000000-0000-4000-9000-%012x', r % 50 + 50 * (r / 50 % 4) ), \
         'model-' || (r / 200 % 6), 'upstream', \
         CASE WHEN r % 997 = 0 THEN '/v1/rerank' ELSE '/v1/chat/completions' END, r % 2, \
         CASE r % 40 WHEN 0 THEN 'rejected' WHEN 1 THEN 'queued' WHEN 2 THEN 'queued' ELSE 'fast' END, \
         CASE WHEN r % 40 = 0 THEN 429 WHEN r % 5003 = 1 THEN 502 ELSE 200 END, \
         CASE WHEN r % 40 = 0 THEN 'tenant_queue_full' WHEN r % 5003 = 1 THEN 'upstream_error' END, \
         'off', 500, r % 700, r % 100, r % 900, r % 50, \
         CASE WHEN r % 3001 = 0 THEN 'estimated' ELSE 'upstream' END, r * 1001, 3, 120, 900, \
         'pod-' || (r % 8), CASE WHEN r % 10 = 0 THEN 's' || (n / 1000) END, NULL, NULL, 1500, 4000 FROM d"
    )
}

/// What was measured so far.
#[derive(Default)]
struct Figures {
    missed: bool,
}

impl Figures {
    /// Asks a query many times; the first one, which reads from the disk, is not counted.
    async fn take(
        &mut self,
        name: &str,
        limit: u64,
        mut ask: impl AsyncFnMut() -> Outcome<usize>,
    ) -> Outcome<()> {
        let mut found = ask().await?;
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            found = ask().await?;
            times.push(begun.elapsed());
        }
        times.sort();
        let median = times.get(TIMES / 2).copied().unwrap_or_default();
        let slowest = times.last().copied().unwrap_or_default();
        let missed = median >= Duration::from_millis(limit);
        self.missed |= missed;
        let verdict = if missed { "MISSED" } else { "ok" };
        println!(
            "{name:<52} {found:>6} lines  {median:>10.2?}  slowest {slowest:>10.2?}  limit {limit} ms  {verdict}"
        );
        Ok(())
    }
}

fn ask(span: Span, steps: Steps, by: &[Dimension], tenant: Option<&str>) -> Ask {
    let tenant_id = tenant.map(str::to_owned);
    Ask { span, steps, by: by.to_vec(), tenant_id, key_id: None, model: None, limit: 200_000 }
}

async fn measure(store: &Store) -> Outcome<bool> {
    let mut figures = Figures::default();
    sums(store, &mut figures).await?;
    pages(store, &mut figures).await?;
    batches(store, &mut figures).await?;
    export(store).await?;
    Ok(!figures.missed)
}

async fn sums(store: &Store, figures: &mut Figures) -> Outcome<()> {
    let october = Span { since: OCTOBER, until: END };
    let edges = Span { since: OCTOBER + HOUR / 2, until: END - HOUR / 3 };
    let berlin =
        vec![Offset { since: OCTOBER, ahead: 2 * HOUR }, Offset { since: OCTOBER + 24 * DAY, ahead: HOUR }];
    let berlin = Steps::DaysOf { offsets: berlin, cut: Vec::new() };
    let cases = [
        ("a month's summary by tenant", 100, ask(october, Steps::Whole, &[Dimension::Tenant], None)),
        ("a month's summary by key", 100, ask(october, Steps::Whole, &[Dimension::Key], None)),
        (
            "the same that begins and ends within an hour",
            100,
            ask(edges, Steps::Whole, &[Dimension::Tenant], None),
        ),
        ("a month by days of a zone, all tenants", 5000, ask(october, berlin, &[], None)),
        ("a statement", 100, ask(october, Steps::Whole, &[Dimension::Model, Dimension::Key], Some(TENANT))),
        ("a tenant's own month by days", 100, ask(october, Steps::Days, &[], Some(TENANT))),
    ];
    for (name, limit, ask) in cases {
        let once = async || {
            recorded(store).await?;
            Ok(report(store, &ask).await?.lines.len())
        };
        figures.take(name, limit, once).await?;
    }
    Ok(())
}

async fn pages(store: &Store, figures: &mut Figures) -> Outcome<()> {
    let any = LedgerFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let tenant = || LedgerFilter { tenant_id: text(TENANT), ..any() };
    let cases = [
        ("a page of logs", any()),
        ("a page of a tenant", tenant()),
        ("a page of a key", LedgerFilter { key_id: text(KEY), ..any() }),
        ("a page of a model", LedgerFilter { model: text("model-3"), ..any() }),
        ("a page of a model that was never used", LedgerFilter { model: text("none"), ..any() }),
        ("a page of status 5xx", LedgerFilter { status: Some((500, 599)), ..any() }),
        ("a page of status 5xx of a tenant", LedgerFilter { status: Some((500, 599)), ..tenant() }),
        ("a page of status 504, of which there is none", LedgerFilter { status: Some((504, 504)), ..any() }),
        (
            "a page of refusals of a tenant that had none",
            LedgerFilter { admission: text("rejected"), ..tenant() },
        ),
        ("a page of a key that is another tenant's", LedgerFilter { key_id: text("none"), ..tenant() }),
        ("a page of status 4xx", LedgerFilter { status: Some((400, 499)), ..any() }),
        ("a page of an error code", LedgerFilter { error_code: text("upstream_error"), ..any() }),
        ("a page of a session", LedgerFilter { session_id: text("s77"), ..any() }),
        ("a page of a rare route", LedgerFilter { route: text("/v1/rerank"), ..any() }),
        ("a page of a common route", LedgerFilter { route: text("/v1/chat/completions"), ..any() }),
        ("a page of refused requests", LedgerFilter { admission: text("rejected"), ..any() }),
        ("a page of cache hits, of which there is none", LedgerFilter { cache: text("hit"), ..any() }),
        ("a page of estimated usage", LedgerFilter { usage_source: text("estimated"), ..any() }),
        (
            "a page of a week of a tenant",
            LedgerFilter { until: Some(OCTOBER + 7 * DAY), since: Some(OCTOBER), ..tenant() },
        ),
    ];
    for (name, filter) in cases {
        figures.take(name, 20, async || Ok(page(store, &filter, None, 100).await?.len())).await?;
    }
    let deep = (OCTOBER - 5 * DAY, "80000000");
    figures
        .take("a page deep inside", 20, async || Ok(page(store, &any(), Some(deep), 100).await?.len()))
        .await
}

/// What the rows of half a second cost with their roll-ups.
async fn batches(store: &Store, figures: &mut Figures) -> Outcome<()> {
    let template = page(store, &LedgerFilter::default(), None, 500).await?;
    let mut number = 0_u64;
    figures
        .take("a batch of 500 rows, written", 500, async || {
            number += 1;
            let row = |old: &LedgerRecord| LedgerRecord {
                row_id: format!("{number:08x}-ffff{}", old.row_id.get(8..).unwrap_or_default()),
                ts: END,
                ..old.clone()
            };
            let rows: Vec<_> = template.iter().map(row).collect();
            Ok(insert_batch(store, &rows).await?)
        })
        .await
}

/// How fast an export reads.
async fn export(store: &Store) -> Outcome<()> {
    let (begun, mut rows, mut after) = (Instant::now(), 0_usize, None::<(i64, String)>);
    for _ in 0..200 {
        let at = after.as_ref().map(|(ts, id)| (*ts, id.as_str()));
        let read = page(store, &LedgerFilter::default(), at, 1000).await?;
        rows += read.len();
        after = read.last().map(|row| (row.ts, row.row_id.clone()));
    }
    let per_second = u128::try_from(rows)?.saturating_mul(1000) / begun.elapsed().as_millis().max(1);
    println!("an export reads {per_second} rows/s in pages of 1000");
    Ok(())
}
