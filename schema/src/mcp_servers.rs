//! Registered MCP servers.

use crate::changes::{Change, Edit, apply_one, delete_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, REPORT_PATIENCE, Store, read};
use crate::tables::mcp_servers;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use std::fmt;

/// One server. `None` is "unlimited" or "the default".
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = mcp_servers, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct McpServerRow {
    pub id: String,
    pub version: i64,
    pub name: String,
    pub upstream_url: String,
    /// Encrypted by the caller.
    pub auth_header_sealed: Option<String>,
    pub enabled: bool,
    pub timeout_secs: Option<i64>,
    pub requests_per_minute: Option<i64>,
    pub description: Option<String>,
    /// Unix microseconds, as every time.
    pub created_at: i64,
    pub updated_at: i64,
}

impl fmt::Debug for McpServerRow {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("McpServerRow");
        out.field("id", &self.id).field("version", &self.version).field("name", &self.name);
        out.finish_non_exhaustive()
    }
}

/// Adds a server; [`StoreError::Duplicate`] when its name is taken.
pub async fn insert(store: &Store, row: &McpServerRow) -> Result<(), StoreError> {
    apply_one(store, Change::McpServer(Edit::Insert(row.clone()))).await
}

/// Replaces the server that has this id and the version `expected`; else [`StoreError::Stale`].
pub async fn update(store: &Store, row: &McpServerRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::McpServer(Edit::Update(row.clone(), expected))).await
}

/// Deletes a server; `false` when there was none. Its bills stay.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    delete_one(store, Change::McpServer(Edit::Delete(id.to_owned()))).await
}

/// The server with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<McpServerRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = mcp_servers::table.find(id).select(McpServerRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// The server of this name.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<McpServerRow>, StoreError> {
    let name = name.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = mcp_servers::table.filter(mcp_servers::name.eq(name)).select(McpServerRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// A page of servers by name, from the one behind `after`.
pub async fn list(store: &Store, after: Option<&str>, limit: u32) -> Result<Vec<McpServerRow>, StoreError> {
    // Names are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn| {
        let query = mcp_servers::table
            .filter(mcp_servers::name.gt(after))
            .order(mcp_servers::name)
            .limit(limit.into())
            .select(McpServerRow::as_select());
        Ok(query.load(conn).await?)
    })
}

/// Every server, by name.
pub async fn all(store: &Store) -> Result<Vec<McpServerRow>, StoreError> {
    read!(store, REPORT_PATIENCE, |conn| {
        let query = mcp_servers::table.order(mcp_servers::name).select(McpServerRow::as_select());
        Ok(query.load(conn).await?)
    })
}
