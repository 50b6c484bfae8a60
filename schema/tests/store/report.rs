//! Sums over the ledger.

use super::backend::on_both;
use super::rows;
use obleth_schema::Store;
use obleth_schema::ledger::{Ask, Dimension, Span, Steps, insert_batch, recorded, report};

on_both!(
    sums_are_exact_beyond_64_bits,
    days_are_those_of_utc,
    a_sum_over_nothing_is_no_line,
    a_report_that_is_too_long_says_so,
    only_the_edges_are_read_from_the_rows,
    what_was_ever_recorded_is_known_by_the_day,
);

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn ask(since: i64, until: i64, steps: Steps, by: &[Dimension]) -> Ask {
    let span = Span { since, until };
    Ask { span, steps, by: by.to_vec(), tenant_id: None, key_id: None, model: None, limit: 10 }
}

async fn sums_are_exact_beyond_64_bits(store: Store) {
    let cost = i64::MAX / 4 * 3 - 1;
    let mut rows = [rows::record(1), rows::record(2), rows::record(3)];
    (rows[0].cost_pico, rows[1].cost_pico, rows[2].cost_pico) = (cost, cost, 7);
    insert_batch(&store, &rows).await.unwrap();
    for until in [DAY, HOUR, 4] {
        let found = report(&store, &ask(0, until, Steps::Whole, &[Dimension::Tenant])).await.unwrap();
        let line = &found.lines[0];
        assert_eq!((found.lines.len(), line.group[0].as_str(), line.totals.requests), (1, "t", 3));
        let totals = line.totals;
        assert_eq!(totals.cost_pico, 2 * i128::from(cost) + 7);
        assert_eq!((totals.input_cost_pico, totals.cached_input_cost_pico), (6, 3));
        assert_eq!(totals.output_cost_pico, totals.cost_pico - 9);
    }
}

async fn days_are_those_of_utc(store: Store) {
    // 2024-02-29T00:00:00Z
    let midnight = 1_709_164_800_000_000;
    let rows = [rows::record(midnight - 1), rows::record(midnight), rows::record(midnight + DAY - 1)];
    insert_batch(&store, &rows).await.unwrap();
    let found = report(&store, &ask(0, i64::MAX, Steps::Days, &[])).await.unwrap();
    let days: Vec<_> = found.lines.iter().map(|line| (line.at, line.totals.requests)).collect();
    assert_eq!(days, [(midnight / DAY - 1, 1), (midnight / DAY, 2)]);
}

async fn a_sum_over_nothing_is_no_line(store: Store) {
    for (since, until) in [(0, DAY), (5, 9), (9, 9), (9, 5)] {
        let found = report(&store, &ask(since, until, Steps::Whole, &[])).await.unwrap();
        assert_eq!((found.lines, found.complete), (vec![], true));
    }
    assert_eq!(recorded(&store).await.unwrap(), None);
}

async fn a_report_that_is_too_long_says_so(store: Store) {
    let rows: Vec<_> = (0..11).map(|hour| rows::record(hour * HOUR)).collect();
    insert_batch(&store, &rows).await.unwrap();
    let ten = report(&store, &ask(0, 10 * HOUR, Steps::Hours, &[])).await.unwrap();
    assert_eq!((ten.lines.len(), ten.complete), (10, true));
    assert!(!report(&store, &ask(0, DAY, Steps::Hours, &[])).await.unwrap().complete);
}

async fn only_the_edges_are_read_from_the_rows(store: Store) {
    let since =
        async |since, until| report(&store, &ask(since, until, Steps::Whole, &[])).await.unwrap().rows_since;
    assert_eq!(since(0, DAY).await, None);
    assert_eq!(since(HOUR, DAY + 3 * HOUR).await, None);
    assert_eq!(since(HOUR + 1, DAY).await, Some(HOUR + 1));
    assert_eq!(since(HOUR, DAY + 1).await, Some(DAY));
}

async fn what_was_ever_recorded_is_known_by_the_day(store: Store) {
    insert_batch(&store, &[rows::record(3 * DAY + 5), rows::record(DAY + 7)]).await.unwrap();
    assert_eq!(recorded(&store).await.unwrap(), Some(Span { since: DAY, until: 4 * DAY }));
}
