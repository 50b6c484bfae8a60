//! What budgets start from.

use super::backend::on_both;
use super::rows;
use obleth_schema::Store;
use obleth_schema::ledger::{Payer, Spent, Written, insert_batch, spent, written, written_by};

on_both!(
    what_was_spent_is_told_by_tenant_and_by_key,
    a_row_that_comes_twice_is_spent_once,
    what_each_replica_wrote_adds_up_to_what_was_spent
);

const DAY: i64 = 86_400_000_000;

fn line(id: &str, requests: i64, tokens: i64, cost_pico: i128) -> Spent {
    of("", id, requests, tokens, cost_pico)
}

/// Of a key under a tenant; of the tenant itself where there is none.
fn of(tenant: &str, id: &str, requests: i64, tokens: i64, cost_pico: i128) -> Spent {
    let tenant = if tenant.is_empty() { id } else { tenant };
    Spent { tenant: tenant.to_owned(), id: id.to_owned(), requests, tokens, cost_pico }
}

async fn what_was_spent_is_told_by_tenant_and_by_key(store: Store) {
    let mut rows: Vec<_> = (0..6).map(|n| rows::record(n * DAY / 2 + 1)).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row.tenant_id = format!("t{}", n % 2);
        row.key_id = format!("k{n}");
        row.model = format!("m{n}");
        (row.input_tokens, row.output_tokens) = (10, 1 << n);
        row.cost_pico = i64::MAX;
    }
    // Nothing of an answer from the cache was spent.
    (rows[5].cache, rows[5].cost_pico) = ("hit".to_owned(), 0);
    insert_batch(&store, &rows).await.unwrap();
    let max = i128::from(i64::MAX);
    let ever = spent(&store, Payer::Tenant, None).await.unwrap();
    assert_eq!(ever, [line("t0", 3, 30 + 0b1_0101, 3 * max), line("t1", 3, 20 + 0b1010, 2 * max)]);
    // In the middle of the second day: all of that day.
    let lately = spent(&store, Payer::Tenant, Some(DAY * 3 / 2)).await.unwrap();
    assert_eq!(lately, [line("t0", 2, 20 + 0b1_0100, 2 * max), line("t1", 2, 10 + 0b1000, max)]);
    let today = spent(&store, Payer::Key, Some(2 * DAY)).await.unwrap();
    assert_eq!(today, [of("t0", "k4", 1, 26, max), of("t1", "k5", 1, 0, 0)]);
    assert_eq!(spent(&store, Payer::Key, Some(3 * DAY)).await.unwrap(), []);
}

async fn a_row_that_comes_twice_is_spent_once(store: Store) {
    let (a, b) = (rows::record(1), rows::record(2));
    let mut other = a.clone();
    other.cost_pico = 1_000;
    for batch in [&[a.clone(), other, a.clone()][..], &[a.clone(), b.clone()], &[b.clone(), a.clone()]] {
        insert_batch(&store, batch).await.unwrap();
    }
    assert_eq!(spent(&store, Payer::Tenant, None).await.unwrap(), [line("t", 2, 12, 12)]);
}

async fn what_each_replica_wrote_adds_up_to_what_was_spent(store: Store) {
    let row = |n: i64, key: &str, tokens: i64| {
        let mut row = rows::record(n);
        (row.tenant_id, row.key_id) = ("t".to_owned(), key.to_owned());
        (row.input_tokens, row.output_tokens, row.cost_pico) = (tokens, 1, 3 * 1_000_000_000 + 5);
        row
    };
    let (first, second) = (store.clone().signed("r1"), store.clone().signed("r2"));
    let shared = row(5, "a", 100);
    insert_batch(&store, &[row(1, "a", 10)]).await.unwrap();
    insert_batch(&first, &[shared.clone(), row(DAY, "b", 20)]).await.unwrap();
    // A row counts for the one who was first.
    insert_batch(&second, &[shared, row(DAY + 1, "a", 40)]).await.unwrap();
    let part = |key: &str, replica: &str, tokens: i64, rows: i128| Written {
        tenant: "t".to_owned(),
        key: key.to_owned(),
        replica: replica.to_owned(),
        tokens,
        cost_pico: rows * 3_000_000_005,
    };
    let all = written(&store, "t", None, None).await.unwrap();
    assert_eq!(all, [part("", "", 11, 1), part("", "r1", 122, 2), part("", "r2", 41, 1)]);
    let of_key = written(&store, "t", Some("a"), None).await.unwrap();
    assert_eq!(of_key, [part("a", "", 11, 1), part("a", "r1", 101, 1), part("a", "r2", 41, 1)]);
    let today = written(&store, "t", None, Some(DAY + 7)).await.unwrap();
    assert_eq!(today, [part("", "", 0, 0), part("", "r1", 21, 1), part("", "r2", 41, 1)]);
    let own = written_by(&store, "r1", true, None).await.unwrap();
    assert_eq!(own, [part("a", "r1", 101, 1), part("b", "r1", 21, 1)]);
    assert_eq!(written_by(&store, "r1", false, Some(DAY)).await.unwrap(), [part("", "r1", 21, 1)]);
    assert_eq!(written(&store, "u", None, None).await.unwrap(), []);
}
