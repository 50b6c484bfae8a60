//! Old rows go, their sums stay.

use super::backend::on_both;
use super::rollups::by_hand;
use super::rows;
use obleth_schema::Store;
use obleth_schema::ledger::retention::{announce, drop_before, rows_since};
use obleth_schema::ledger::{Ask, LedgerFilter, Span, Steps, insert_batch, page, report};

on_both!(old_rows_go_in_chunks_and_their_sums_stay, the_note_never_goes_back, many_drop_at_once);

const HOUR: i64 = 3_600_000_000;

async fn old_rows_go_in_chunks_and_their_sums_stay(store: Store) {
    let rows: Vec<_> = (0..10).map(|hour| rows::record(hour * HOUR + 1)).collect();
    insert_batch(&store, &rows).await.unwrap();
    assert_eq!(rows_since(&store).await.unwrap(), 0);
    let cutoff = 7 * HOUR;
    announce(&store, cutoff).await.unwrap();
    let mut gone = Vec::new();
    loop {
        let count = drop_before(&store, cutoff, 3).await.unwrap();
        if count == 0 {
            break;
        }
        gone.push(count);
        let left = page(&store, &LedgerFilter::default(), None, 20).await.unwrap();
        let expected = 10 - gone.iter().sum::<usize>();
        assert_eq!(left.iter().map(|row| row.ts).min(), Some(rows[10 - expected].ts), "the oldest go first");
        assert_eq!(left.len(), expected);
    }
    assert_eq!(gone, [3, 3, 1]);
    assert_eq!(rows_since(&store).await.unwrap(), cutoff);
    let span = Span { since: 0, until: 10 * HOUR };
    let ask =
        Ask { span, steps: Steps::Hours, by: vec![], tenant_id: None, key_id: None, model: None, limit: 99 };
    assert_eq!(report(&store, &ask).await.unwrap().lines, by_hand(&rows, &ask));
}

async fn the_note_never_goes_back(store: Store) {
    for (cutoff, noted) in [(5, 5), (3, 5), (9, 9)] {
        announce(&store, cutoff).await.unwrap();
        assert_eq!(rows_since(&store).await.unwrap(), noted);
    }
}

async fn many_drop_at_once(store: Store) {
    let rows: Vec<_> = (0..300).map(rows::record).collect();
    insert_batch(&store, &rows).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut gone = 0;
            for _ in 0..30 {
                gone += drop_before(&store, 290, 10).await.unwrap();
            }
            gone
        });
    }
    assert_eq!(tasks.join_all().await.iter().sum::<usize>(), 290);
    assert_eq!(page(&store, &LedgerFilter::default(), None, 20).await.unwrap().len(), 10);
}
