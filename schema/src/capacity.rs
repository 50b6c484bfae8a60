//! What an operator set instead of the configured slots: one row, made by its migration.

use crate::changes::{Change, apply_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read};
use crate::tables::capacity;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

/// The id of the row.
pub(crate) const ID: &str = "global";

/// The row.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, AsChangeset)]
#[diesel(table_name = capacity, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct CapacityRow {
    pub version: i64,
    /// 1 ..= 1 000 000; `None`: the configuration says it.
    pub max_in_flight: Option<i64>,
    /// Unix microseconds.
    pub updated_at: i64,
}

/// The row as it is.
pub async fn load(store: &Store) -> Result<CapacityRow, StoreError> {
    read!(store, PATIENCE, |conn| {
        let query = capacity::table.find(ID).select(CapacityRow::as_select());
        Ok(query.first(conn).await?)
    })
}

/// Replaces the row that has the version `expected`; else [`StoreError::Stale`].
pub async fn update(store: &Store, row: &CapacityRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::Capacity(row.clone(), expected)).await
}
