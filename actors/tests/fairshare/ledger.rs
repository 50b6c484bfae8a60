//! The ledger under faults: each row in the database exactly once.

use actix::{Arbiter, System};
use obleth_actors::accounting::{Accounting, JournalError, JournalSettings, OpenJournal, StoreHealth};
use obleth_core::ids::{KeyId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_schema::Store;
use obleth_schema::ledger::{LedgerFilter, Payer, page, spent};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

/// A ledger on a database of its own.
struct Books {
    accounting: Accounting,
    store: Store,
    runtime: Runtime,
    arbiter: Arbiter,
    folder: Arc<tempfile::TempDir>,
    _system: actix::SystemRunner,
}

impl Books {
    fn sqlite() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let url = format!("sqlite://{}/obleth.db", folder.path().display());
        Self::open(&url, 1 << 30, folder)
    }

    /// With a journal of this size in `folder`.
    fn open(url: &str, max_bytes: u64, folder: Arc<tempfile::TempDir>) -> Self {
        let system = System::new();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = {
            let _inside = runtime.enter();
            Store::connect(&url.parse().unwrap()).unwrap()
        };
        if url.starts_with("sqlite") {
            runtime.block_on(store.migrate()).unwrap();
        }
        let arbiter = Arbiter::new();
        let settings = JournalSettings { max_bytes, ..JournalSettings::new(folder.path().join("journal")) };
        let journal = opened(&settings);
        let accounting = Accounting::start(&arbiter, store.clone(), StoreHealth::default(), journal);
        Self { accounting, store, runtime, arbiter, folder, _system: system }
    }

    /// The row ids in the database, and how many rows it counts.
    fn rows(&self) -> (HashSet<String>, i64) {
        self.runtime.block_on(async {
            let mut ids = HashSet::new();
            let mut after: Option<(i64, String)> = None;
            loop {
                let place = after.as_ref().map(|(ts, id)| (*ts, id.as_str()));
                let rows = page(&self.store, &LedgerFilter::default(), place, 1000).await.unwrap();
                let Some(last) = rows.last() else { break };
                after = Some((last.ts, last.row_id.clone()));
                for row in rows {
                    assert!(ids.insert(row.row_id), "a row is there once");
                }
            }
            let sums = spent(&self.store, Payer::Tenant, None).await.unwrap();
            (ids, sums.iter().map(|sum| sum.requests).sum())
        })
    }

    fn flush(&self, patience: Duration) -> bool {
        self.runtime.block_on(self.accounting.flush(patience))
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

/// A journal that another one of this process may still be giving back.
fn opened(settings: &JournalSettings) -> OpenJournal {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match OpenJournal::open(settings) {
            Err(JournalError::Taken(_)) if Instant::now() < deadline => std::thread::yield_now(),
            journal => return journal.unwrap(),
        }
    }
}

fn row() -> Arc<LedgerRow> {
    Arc::new(LedgerRow {
        id: RowId(Uuid::now_v7()),
        request_id: Arc::from("r"),
        ts: 1,
        tenant: TenantId(Uuid::from_u128(1)),
        key: KeyId(Uuid::from_u128(2)),
        model: Arc::from("m"),
        upstream_model: Arc::from("m"),
        route: "/v1/chat/completions",
        stream: false,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 3,
        usage: Usage { input: 1, output: 2, source: UsageSource::Upstream, ..Usage::default() },
        cost: Cost::default(),
        queue_ms: 0,
        ttft_ms: None,
        total_ms: 1,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 1,
        bytes_out: 1,
    })
}

#[test]
fn ten_thousand_rows_outlive_panics_and_crashes_each_exactly_once() {
    let books = Books::sqlite();
    let recording = Arc::new(AtomicBool::new(true));
    let (own, going) = (books.accounting.clone(), Arc::clone(&recording));
    let chaos = std::thread::spawn(move || {
        let mut faults = 0;
        while going.load(Ordering::Relaxed) {
            own.plant_fault();
            faults += 1;
            if faults % 64 == 0 {
                // Refused while the actor is being restarted.
                let _ = own.crash();
            }
            std::thread::yield_now();
        }
    });
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let own = books.accounting.clone();
            std::thread::spawn(move || {
                let mut ids = Vec::new();
                for _ in 0..2500 {
                    let row = row();
                    ids.push(row.id.to_string());
                    own.record(&row);
                }
                ids
            })
        })
        .collect();
    let sent: HashSet<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    recording.store(false, Ordering::Relaxed);
    chaos.join().unwrap();
    assert!(books.accounting.restarts() > 2, "{} restarts", books.accounting.restarts());
    assert!(books.flush(Duration::from_secs(30)), "{:?}", books.accounting.counts());
    let (ids, count) = books.rows();
    assert_eq!(sent.difference(&ids).count(), 0, "rows are lost");
    assert_eq!((ids.len(), count), (10_000, 10_000));
    let counts = books.accounting.counts();
    assert_eq!((counts.received, counts.recorded, counts.waiting), (10_000, 10_000, 0));
}

#[test]
fn a_row_survives_one_fault_after_the_other() {
    let books = Books::sqlite();
    // The actor's own tick may meet a fault before the call does, so what a call says of it is not certain;
    // that each fault is met, and that no row is lost, is.
    books.accounting.plant_fault();
    let _ = books.accounting.record(&row());
    books.accounting.plant_fault();
    let _ = books.accounting.has_room();
    assert!(books.accounting.has_room().unwrap());
    books.accounting.plant_fault();
    let _ = books.accounting.record(&row());
    assert_eq!(books.accounting.counts().received, 2);
    assert_eq!(books.accounting.restarts(), 3);
    assert!(books.flush(Duration::from_secs(10)));
    assert_eq!(books.rows().1, 2);
}

#[test]
fn a_flush_is_not_done_because_its_count_met_a_fault() {
    let books = Books::sqlite();
    for _ in 0..2000 {
        books.accounting.record(&row());
    }
    books.accounting.plant_fault();
    assert!(books.flush(Duration::from_secs(10)));
    assert_eq!(books.rows().1, 2000);
}

#[test]
fn rows_wait_while_the_database_is_away_and_the_gateway_hears_when_there_is_no_room() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let books = Books::open("postgres://nobody:x@127.0.0.1:1/none", 1 << 20, folder);
    let mut opened = Vec::new();
    while books.accounting.has_room().unwrap() {
        let row = row();
        if books.accounting.open(&row).unwrap().is_ok() {
            opened.push(row);
        }
    }
    assert!(opened.len() > 500, "{}", opened.len());
    // Never refused: the requests they speak of were admitted.
    for row in &opened {
        books.accounting.record(row);
    }
    assert!(!books.flush(Duration::from_millis(500)));
    let rows = u64::try_from(opened.len()).unwrap();
    let counts = books.accounting.counts();
    assert_eq!((counts.received, counts.recorded, counts.waiting, counts.lost), (rows, 0, rows, 0));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !books.accounting.health().is_away() {
        assert!(Instant::now() < deadline, "nobody noticed that the database is away");
        std::thread::yield_now();
    }
    // A contained fault does not lose any.
    books.accounting.plant_fault();
    let _ = books.accounting.has_room();
    assert_eq!(books.accounting.counts().waiting, rows);
}

#[test]
fn what_one_process_could_not_hand_over_the_next_one_does() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let away = Books::open("postgres://nobody:x@127.0.0.1:1/none", 1 << 30, Arc::clone(&folder));
    let (rows, running): (Vec<_>, Vec<_>) =
        (0..3010).map(|_| row()).partition(|row| row.id.0.as_u128() % 7 > 0);
    running.iter().for_each(|row| away.accounting.open(row).unwrap().unwrap());
    for row in &rows {
        away.accounting.record(row);
    }
    drop(away);
    let url = format!("sqlite://{}/obleth.db", folder.path().display());
    let books = Books::open(&url, 1 << 30, folder);
    assert!(books.flush(Duration::from_secs(30)), "{:?}", books.accounting.counts());
    let (ids, count) = books.rows();
    assert_eq!(count, 3010);
    assert!(rows.iter().chain(&running).all(|row| ids.contains(&row.id.to_string())));
    let counts = books.accounting.counts();
    assert_eq!((counts.received, counts.recorded, counts.replayed), (3010, 3010, 3010));
    assert_eq!(counts.interrupted, u64::try_from(running.len()).unwrap());
}

#[test]
fn segments_come_and_go_and_a_small_journal_is_enough() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let url = format!("sqlite://{}/obleth.db", folder.path().display());
    let books = Books::open(&url, 1 << 20, folder);
    let long = row();
    assert!(books.accounting.open(&long).unwrap().is_ok());
    let deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..20_000 {
        let row = row();
        while books.accounting.open(&row).unwrap().is_err() {
            assert!(Instant::now() < deadline, "no room comes back: {:?}", books.accounting.counts());
            std::thread::yield_now();
        }
        books.accounting.record(&row);
    }
    assert!(books.flush(Duration::from_secs(30)), "{:?}", books.accounting.counts());
    let segments = || {
        let files = std::fs::read_dir(books.folder.path().join("journal")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "seg")).count()
    };
    while segments() > 1 {
        assert!(Instant::now() < deadline, "{} segments: {:?}", segments(), books.accounting.counts());
        std::thread::yield_now();
    }
    let counts = books.accounting.counts();
    assert_eq!((counts.recorded, counts.lost, counts.open), (20_000, 0, 1), "{counts:?}");
    books.accounting.record(&long);
    assert!(books.flush(Duration::from_secs(10)));
    assert_eq!(books.rows().1, 20_001);
}
