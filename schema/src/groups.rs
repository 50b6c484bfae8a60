//! Groups of tenants: the upper level of the fair queue. Table `tenant_groups` (`GROUPS` is an SQL word).

use crate::changes::{Change, Edit, apply_one, delete_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, REPORT_PATIENCE, Store, read};
use crate::tables::tenant_groups;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

/// The group that the migration makes and that always exists.
pub const DEFAULT_GROUP_ID: &str = "00000000-0000-0000-0000-000000000001";

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = tenant_groups, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct GroupRow {
    pub id: String,
    pub version: i64,
    pub name: String,
    /// 1 ..= 1 000 000.
    pub weight: i32,
    /// Unix microseconds, as every time.
    pub created_at: i64,
    pub updated_at: i64,
}

/// Adds a group.
pub async fn insert(store: &Store, row: &GroupRow) -> Result<(), StoreError> {
    apply_one(store, Change::Group(Edit::Insert(row.clone()))).await
}

/// Replaces the group that has this id and the version `expected`; else [`StoreError::Stale`].
pub async fn update(store: &Store, row: &GroupRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::Group(Edit::Update(row.clone(), expected))).await
}

/// Deletes a group; `false` when there was none, [`StoreError::Referenced`] while it has tenants.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    delete_one(store, Change::Group(Edit::Delete(id.to_owned()))).await
}

/// The group with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<GroupRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenant_groups::table.find(id).select(GroupRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// The group of this name.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<GroupRow>, StoreError> {
    let name = name.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenant_groups::table.filter(tenant_groups::name.eq(name)).select(GroupRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// A page of groups by name, from the one behind `after`.
pub async fn list(store: &Store, after: Option<&str>, limit: u32) -> Result<Vec<GroupRow>, StoreError> {
    // Names are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenant_groups::table
            .filter(tenant_groups::name.gt(after))
            .order(tenant_groups::name)
            .limit(limit.into())
            .select(GroupRow::as_select());
        Ok(query.load(conn).await?)
    })
}

/// Every group, by name.
pub async fn all(store: &Store) -> Result<Vec<GroupRow>, StoreError> {
    read!(store, REPORT_PATIENCE, |conn| {
        let query = tenant_groups::table.order(tenant_groups::name).select(GroupRow::as_select());
        Ok(query.load(conn).await?)
    })
}
