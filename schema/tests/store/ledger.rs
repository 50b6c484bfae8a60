//! Appending and listing.

use super::backend::{Database, on_both};
use super::rows;
use obleth_core::ids::{KeyId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_core::units::Usd;
use obleth_schema::Store;
use obleth_schema::ledger::{LedgerFilter, LedgerRecord, by_request_id, insert_batch, page};
use std::time::Instant;
use uuid::Uuid;

on_both!(
    every_column_comes_back_as_it_was_written,
    a_row_is_written_once_however_often_it_is_offered,
    a_batch_is_written_whole_or_not,
    pages_have_no_gaps_and_no_repeats_over_equal_times,
    a_listing_shows_what_the_filter_asks_for,
    a_repeated_request_id_hides_no_row,
    twenty_writers_lose_nothing,
    a_row_of_the_core_is_written_as_it_is,
    long_batches_are_accepted,
);

async fn every_column_comes_back_as_it_was_written(store: Store) {
    let full = rows::record(1);
    let mut bare = rows::record(2);
    bare.stream = false;
    for column in [&mut bare.error_code, &mut bare.target_pod, &mut bare.session_id] {
        *column = None;
    }
    (bare.mcp_server, bare.mcp_tool, bare.ttft_ms) = (None, None, None);
    (bare.cost_pico, bare.estimated_tokens, bare.model) = (i64::MAX, i64::MAX, String::new());
    let rows = [bare, full];
    assert_eq!(insert_batch(&store, &rows).await.unwrap(), 2);
    assert_eq!(page(&store, &LedgerFilter::default(), None, 9).await.unwrap(), rows);
}

async fn a_row_is_written_once_however_often_it_is_offered(store: Store) {
    let (a, b, c) = (rows::record(1), rows::record(2), rows::record(3));
    assert_eq!(insert_batch(&store, &[a.clone(), b.clone()]).await.unwrap(), 2);
    let mut other = b.clone();
    other.cost_pico = 1_000;
    assert_eq!(insert_batch(&store, &[a.clone(), other, c.clone(), c.clone()]).await.unwrap(), 1);
    assert_eq!(insert_batch(&store, &[]).await.unwrap(), 0);
    assert_eq!(page(&store, &LedgerFilter::default(), None, 9).await.unwrap(), [c, b, a]);
}

async fn a_batch_is_written_whole_or_not(store: Store) {
    let mut batch = vec![rows::record(1), rows::record(2)];
    // PostgreSQL takes no NUL in text; SQLite takes one, so there is nothing to be seen there.
    batch[1].model = "\0".to_owned();
    if insert_batch(&store, &batch).await.is_err() {
        assert_eq!(page(&store, &LedgerFilter::default(), None, 9).await.unwrap(), []);
    }
}

async fn pages_have_no_gaps_and_no_repeats_over_equal_times(store: Store) {
    let mut rows: Vec<_> = (0..50).map(|n| rows::record(n / 10)).collect();
    insert_batch(&store, &rows).await.unwrap();
    rows.sort_by(|a, b| (b.ts, &b.row_id).cmp(&(a.ts, &a.row_id)));
    for limit in [1, 3, 7, 50] {
        let mut seen: Vec<LedgerRecord> = Vec::new();
        loop {
            let after = seen.last().map(|row| (row.ts, row.row_id.clone()));
            let after = after.as_ref().map(|(ts, row_id)| (*ts, row_id.as_str()));
            let next = page(&store, &LedgerFilter::default(), after, limit).await.unwrap();
            if next.is_empty() {
                break;
            }
            seen.extend(next);
            assert!(seen.len() <= rows.len(), "a row came twice");
        }
        assert_eq!(seen, rows, "pages of {limit}");
    }
}

async fn a_listing_shows_what_the_filter_asks_for(store: Store) {
    let plain = rows::record(5);
    let mut odd = rows::record(10);
    odd.tenant_id = "t2".to_owned();
    odd.key_id = "k2".to_owned();
    odd.model = "m2".to_owned();
    odd.status = 200;
    odd.route = "/v1/embeddings".to_owned();
    odd.session_id = None;
    odd.error_code = None;
    odd.admission = "fast".to_owned();
    odd.cache = "hit".to_owned();
    odd.usage_source = "none".to_owned();
    insert_batch(&store, &[plain.clone(), odd.clone()]).await.unwrap();
    let shown = async |filter: &LedgerFilter| -> Vec<String> {
        let rows = page(&store, filter, None, 9).await.unwrap();
        rows.into_iter().map(|row| row.row_id).collect()
    };
    let any = LedgerFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let odd_only = [
        LedgerFilter { tenant_id: text("t2"), ..any() },
        LedgerFilter { key_id: text("k2"), ..any() },
        LedgerFilter { model: text("m2"), ..any() },
        LedgerFilter { status: Some((200, 200)), ..any() },
        LedgerFilter { status: Some((200, 299)), ..any() },
        LedgerFilter { admission: text("fast"), ..any() },
        LedgerFilter { cache: text("hit"), ..any() },
        LedgerFilter { usage_source: text("none"), ..any() },
        LedgerFilter { route: text("/v1/embeddings"), ..any() },
        LedgerFilter { tenant_id: text("t2"), key_id: text("k2"), ..any() },
        LedgerFilter { tenant_id: text("t2"), usage_source: text("none"), ..any() },
        LedgerFilter { since: Some(10), ..any() },
        LedgerFilter { since: Some(6), until: Some(11), tenant_id: text("t2"), ..any() },
    ];
    for filter in odd_only {
        assert_eq!(shown(&filter).await, [odd.row_id.as_str()], "{filter:?}");
    }
    let plain_only = [
        LedgerFilter { session_id: text("s"), ..any() },
        LedgerFilter { until: Some(10), ..any() },
        LedgerFilter { status: Some((400, 499)), ..any() },
        LedgerFilter { error_code: text("client_left"), ..any() },
        LedgerFilter { error_code: text("client_left"), tenant_id: text("t"), ..any() },
        LedgerFilter { admission: text("queued"), ..any() },
        LedgerFilter { cache: text("off"), ..any() },
        LedgerFilter { usage_source: text("upstream"), ..any() },
        LedgerFilter { route: text("/v1/chat/completions"), ..any() },
    ];
    for filter in plain_only {
        assert_eq!(shown(&filter).await, [plain.row_id.as_str()], "{filter:?}");
    }
    let none = LedgerFilter { status: Some((200, 200)), model: text("m"), ..any() };
    assert_eq!(page(&store, &none, None, 9).await.unwrap(), []);
}

async fn a_repeated_request_id_hides_no_row(store: Store) {
    let mut rows = [rows::record(1), rows::record(3), rows::record(2)];
    for row in &mut rows {
        // Longer than a key of a b-tree may be.
        row.request_id = "r".repeat(9_000);
    }
    assert_eq!(insert_batch(&store, &rows).await.unwrap(), 3);
    let found = by_request_id(&store, &rows[0].request_id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&rows[1]));
    assert_eq!(by_request_id(&store, "unknown").await.unwrap(), None);
}

async fn twenty_writers_lose_nothing(store: Store) {
    let mut writers = tokio::task::JoinSet::new();
    let shared: Vec<_> = (0..10).map(rows::record).collect();
    for _ in 0..20 {
        let (store, shared) = (store.clone(), shared.clone());
        writers.spawn(async move {
            let mut new = insert_batch(&store, &shared).await.unwrap();
            for ts in 0..5 {
                let own = [rows::record(ts), rows::record(ts)];
                new += insert_batch(&store, &own).await.unwrap();
                page(&store, &LedgerFilter::default(), None, 5).await.unwrap();
            }
            new
        });
    }
    assert_eq!(writers.join_all().await.iter().sum::<usize>(), 20 * 10 + 10);
    assert_eq!(page(&store, &LedgerFilter::default(), None, 1_000).await.unwrap().len(), 210);
}

async fn a_row_of_the_core_is_written_as_it_is(store: Store) {
    let row = LedgerRow {
        id: RowId(Uuid::from_u128(1)),
        request_id: "r\0".into(),
        ts: 1_700_000_000_000_000,
        tenant: TenantId(Uuid::from_u128(2)),
        key: KeyId(Uuid::from_u128(3)),
        model: "m".into(),
        upstream_model: "up".into(),
        route: "/v1/completions",
        stream: true,
        admission: Admission::Queued,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: u64::MAX,
        usage: Usage { input: 5, cached_input: 4, output: 3, reasoning: 2, source: UsageSource::Counted },
        cost: Cost { cached_input: Usd::from_pico(i128::MAX), unpriced: true, ..Cost::default() },
        queue_ms: 1,
        ttft_ms: Some(2),
        total_ms: 3,
        target_pod: Some("pod".into()),
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 4,
        bytes_out: 5,
    };
    let record = LedgerRecord::from(&row);
    insert_batch(&store, std::slice::from_ref(&record)).await.unwrap();
    let read = by_request_id(&store, "r\u{fffd}").await.unwrap().unwrap();
    assert_eq!(read, record);
    assert_eq!(read.row_id, "00000000-0000-0000-0000-000000000001");
    assert_eq!((read.input_tokens, read.cached_input_tokens), (5, 4));
    assert_eq!((read.output_tokens, read.reasoning_tokens), (3, 2));
    assert_eq!((read.cost_pico, read.estimated_tokens), (i64::MAX, i64::MAX));
    assert_eq!(
        (read.input_cost_pico, read.cached_input_cost_pico, read.unpriced),
        (Some(0), Some(i64::MAX), true)
    );
    assert_eq!((read.usage_source.as_str(), read.admission.as_str()), ("counted", "queued"));
}

async fn long_batches_are_accepted(store: Store) {
    let rows: Vec<_> = (0..2_500).map(rows::record).collect();
    assert_eq!(insert_batch(&store, &rows).await.unwrap(), 2_500);
    assert_eq!(insert_batch(&store, &rows).await.unwrap(), 0);
}

/// Prints what a batch costs: `cargo test -p obleth-schema --release -- --ignored --nocapture measure`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_batches() {
    let sqlite = Database::sqlite();
    measure("sqlite", sqlite.migrated().await).await;
    if let Some(postgres) = Database::postgres().await {
        measure("postgres", postgres.migrated().await).await;
        postgres.remove().await;
    }
}

async fn measure(name: &str, store: Store) {
    let mut times = Vec::new();
    for _ in 0..40 {
        let rows: Vec<_> = (0..500).map(rows::record).collect();
        let start = Instant::now();
        insert_batch(&store, &rows).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    println!("{name}: 500 rows, median {:?}, slowest {:?}", times[20], times[39]);
}
