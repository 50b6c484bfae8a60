//! Old rows go, a few at a time; their sums stay.

use crate::error::StoreError;
use crate::store::{PATIENCE, Pools, Store, read, transaction};
use crate::tables::usage_retention;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;

const ID: &str = "global";

/// Rows that arrived before this are gone, or about to be; 0: none are.
pub async fn rows_since(store: &Store) -> Result<i64, StoreError> {
    read!(store, PATIENCE, |conn| {
        let query = usage_retention::table.find(ID).select(usage_retention::raw_since);
        Ok(query.first(conn).await?)
    })
}

/// Notes that rows which arrived before `cutoff` go. Before the first of them does: who has summed rows and then finds
/// the note unchanged has missed none.
pub async fn announce(store: &Store, cutoff: i64) -> Result<(), StoreError> {
    transaction!(store, |conn| {
        let older = usage_retention::table.find(ID).filter(usage_retention::raw_since.lt(cutoff));
        diesel::update(older).set(usage_retention::raw_since.eq(cutoff)).execute(conn).await?;
        Ok(())
    })
}

/// Drops the oldest of the rows that arrived before `cutoff`, at most `limit`; says how many.
pub async fn drop_before(store: &Store, cutoff: i64, limit: u32) -> Result<usize, StoreError> {
    // Replicas may be at it at once: each takes others.
    let lock = match store.pools() {
        Pools::Sqlite(_) => "",
        Pools::Postgres(_) => "FOR UPDATE SKIP LOCKED",
    };
    let query = format!(
        "DELETE FROM ledger WHERE row_id IN \
         (SELECT row_id FROM ledger WHERE ts < $1 ORDER BY ts, row_id LIMIT {limit} {lock})"
    );
    transaction!(store, |conn| {
        Ok(diesel::sql_query(query).bind::<BigInt, _>(cutoff).execute(conn).await?)
    })
}
