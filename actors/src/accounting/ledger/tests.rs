use super::*;
use crate::accounting::JournalSettings;
use obleth_core::ids::{KeyId, RowId, TenantId};
use obleth_core::ledger::{Admission, CacheState, Cost, Usage};
use uuid::Uuid;

fn row(number: u128) -> LedgerRow {
    LedgerRow {
        id: RowId(Uuid::from_u128(number)),
        request_id: "r".into(),
        ts: 1,
        tenant: TenantId(Uuid::nil()),
        key: KeyId(Uuid::nil()),
        model: "m".into(),
        upstream_model: "m".into(),
        route: "/v1/chat/completions",
        stream: false,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 0,
        usage: Usage::default(),
        cost: Cost::default(),
        queue_ms: 0,
        ttft_ms: None,
        total_ms: 0,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 0,
        bytes_out: 0,
    }
}

/// Rows until the newest segment is large enough to be followed by `next`.
fn fill(ledger: &Ledger, next: u64) {
    let wanted = || ledger.with(|books| books.journal.wants_segment()).unwrap();
    for number in (1..).take_while(|_| wanted().is_none()) {
        ledger.record(&Arc::new(row(u128::from(next) << 32 | number)));
    }
    assert_eq!(wanted(), Some(next));
}

fn has(ledger: &Ledger, number: u64) -> bool {
    ledger.with(|books| books.journal.has_segment(number)).unwrap()
}

#[test]
fn a_segment_that_is_begun_at_a_bad_moment_does_not_stand_in_the_way_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let settings = JournalSettings { max_bytes: 1 << 18, ..JournalSettings::new(path.clone()) };
    let ledger = Ledger::new(OpenJournal::open(&settings).unwrap());
    // Not wanted, as when two look at the same time: no file is left behind.
    ledger.roll(2).unwrap();
    assert!(!has(&ledger, 2) && !path.join("0000000002.seg").exists());
    fill(&ledger, 2);
    ledger.keep().unwrap();
    assert!(has(&ledger, 2));
    // A request has got its seat between the look and the new file.
    fill(&ledger, 3);
    ledger.open(&row(1)).unwrap().unwrap();
    assert!(ledger.with(|books| books.journal.unwritten().is_some()).unwrap());
    ledger.roll(3).unwrap();
    assert!(has(&ledger, 3), "what was appended went to the old one first");
    // And a fault in the middle of it does not take away what is in use.
    fill(&ledger, 4);
    ledger.cell.plant_late_fault();
    ledger.roll(4).unwrap();
    assert!(has(&ledger, 4) && path.join("0000000004.seg").exists());
    ledger.record(&Arc::new(row(1)));
    drop(ledger);
    let journal = OpenJournal::open(&settings).unwrap().journal;
    assert_eq!((journal.counts().corrupt, journal.counts().torn, journal.counts().interrupted), (0, 0, 0));
}
