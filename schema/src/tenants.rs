//! Tenants: the unit of weight, budget and bill.

use crate::changes::{Change, Edit, apply_one, delete_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, REPORT_PATIENCE, Store, read};
use crate::tables::tenants;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

/// One tenant. Lists and objects are JSON text; `None` is "all", "unlimited" or "the default".
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = tenants, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct TenantRow {
    pub id: String,
    pub version: i64,
    pub name: String,
    /// 1 ..= 1 000 000.
    pub weight: i32,
    pub group_id: String,
    pub tokens_per_minute: Option<i64>,
    pub requests_per_minute: Option<i64>,
    pub max_in_flight: Option<i64>,
    pub max_queued: Option<i64>,
    /// `active` or `suspended`.
    pub status: String,
    pub allowed_models: Option<String>,
    pub allowed_tools: Option<String>,
    pub budgets: String,
    pub brownout: Option<String>,
    pub metadata: String,
    /// Unix microseconds, as every time.
    pub created_at: i64,
    pub updated_at: i64,
}

/// Adds a tenant; [`StoreError::Referenced`] when its group does not exist.
pub async fn insert(store: &Store, row: &TenantRow) -> Result<(), StoreError> {
    apply_one(store, Change::Tenant(Edit::Insert(row.clone()))).await
}

/// Replaces the tenant that has this id and the version `expected`; else [`StoreError::Stale`].
pub async fn update(store: &Store, row: &TenantRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::Tenant(Edit::Update(row.clone(), expected))).await
}

/// Deletes a tenant; `false` when there was none, its keys go with it, its bills stay.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    delete_one(store, Change::Tenant(Edit::Delete(id.to_owned()))).await
}

/// The tenant with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<TenantRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenants::table.find(id).select(TenantRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// The tenant of this name.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<TenantRow>, StoreError> {
    let name = name.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenants::table.filter(tenants::name.eq(name)).select(TenantRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// A page of tenants by name, from the one behind `after`.
pub async fn list(store: &Store, after: Option<&str>, limit: u32) -> Result<Vec<TenantRow>, StoreError> {
    // Names are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn| {
        let query = tenants::table
            .filter(tenants::name.gt(after))
            .order(tenants::name)
            .limit(limit.into())
            .select(TenantRow::as_select());
        Ok(query.load(conn).await?)
    })
}

/// Every tenant, by name.
pub async fn all(store: &Store) -> Result<Vec<TenantRow>, StoreError> {
    read!(store, REPORT_PATIENCE, |conn| {
        let query = tenants::table.order(tenants::name).select(TenantRow::as_select());
        Ok(query.load(conn).await?)
    })
}
