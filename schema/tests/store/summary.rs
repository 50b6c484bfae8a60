//! Sums over the ledger.

use super::backend::on_both;
use super::rows;
use obleth_schema::Store;
use obleth_schema::ledger::{GroupBy, Summary, SummaryFilter, insert_batch, summary};

on_both!(
    sums_are_exact_beyond_64_bits,
    rows_are_summed_by_what_was_asked,
    days_are_those_of_utc,
    a_sum_over_nothing_is_no_row,
);

async fn sums_are_exact_beyond_64_bits(store: Store) {
    let cost = i64::MAX / 4 * 3 - 1;
    let mut rows = [rows::record(1), rows::record(2), rows::record(3)];
    rows[0].cost_pico = cost;
    rows[1].cost_pico = cost;
    rows[2].cost_pico = 7;
    insert_batch(&store, &rows).await.unwrap();
    let sums = summary(&store, GroupBy::Tenant, &SummaryFilter::default()).await.unwrap();
    let expected = Summary {
        group: "t".to_owned(),
        requests: 3,
        input_tokens: 6,
        cached_input_tokens: 9,
        output_tokens: 12,
        reasoning_tokens: 15,
        cost_pico: 2 * i128::from(cost) + 7,
    };
    assert_eq!(sums, [expected]);
}

async fn rows_are_summed_by_what_was_asked(store: Store) {
    let mut rows: Vec<_> = (0..8).map(rows::record).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row.tenant_id = format!("t{}", n & 1);
        row.key_id = format!("k{}", n & 3);
        row.model = format!("m{n}");
        row.cost_pico = 1 << n;
    }
    insert_batch(&store, &rows).await.unwrap();
    let of = async |by, filter: SummaryFilter| -> Vec<(String, i64, i128)> {
        let sums = summary(&store, by, &filter).await.unwrap();
        sums.into_iter().map(|sum| (sum.group, sum.requests, sum.cost_pico)).collect()
    };
    let any = SummaryFilter::default;
    let row = |group: &str, requests, cost| (group.to_owned(), requests, cost);
    assert_eq!(of(GroupBy::Tenant, any()).await, [row("t0", 4, 0b0101_0101), row("t1", 4, 0b1010_1010)]);
    let keys_of_t1 = SummaryFilter { tenant_id: Some("t1".to_owned()), ..any() };
    assert_eq!(of(GroupBy::Key, keys_of_t1).await, [row("k1", 2, 0b10_0010), row("k3", 2, 0b1000_1000)]);
    let span = SummaryFilter { since: Some(2), until: Some(4), ..any() };
    assert_eq!(of(GroupBy::Model, span).await, [row("m2", 1, 4), row("m3", 1, 8)]);
    let one_key = SummaryFilter { key_id: Some("k3".to_owned()), until: Some(7), ..any() };
    assert_eq!(of(GroupBy::Model, one_key).await, [row("m3", 1, 8)]);
}

async fn days_are_those_of_utc(store: Store) {
    // 2024-02-29T00:00:00Z
    let midnight = 1_709_164_800_000_000;
    let rows = [rows::record(midnight - 1), rows::record(midnight), rows::record(midnight + 86_399_999_999)];
    insert_batch(&store, &rows).await.unwrap();
    let sums = summary(&store, GroupBy::Day, &SummaryFilter::default()).await.unwrap();
    let days: Vec<_> = sums.iter().map(|sum| (sum.group.as_str(), sum.requests)).collect();
    assert_eq!(days, [("2024-02-28", 1), ("2024-02-29", 2)]);
}

async fn a_sum_over_nothing_is_no_row(store: Store) {
    assert_eq!(summary(&store, GroupBy::Day, &SummaryFilter::default()).await.unwrap(), []);
}
