//! Tokens of the management API. Only digests of the secrets are kept.

use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read};
use crate::tables::admin_tokens;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use std::fmt;

/// One token.
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = admin_tokens)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct AdminTokenRow {
    pub id: String,
    pub name: String,
    /// `admin`, `operator` or `viewer`.
    pub role: String,
    pub token_hash: String,
    /// Unix microseconds, as every time.
    pub created_at: i64,
}

impl fmt::Debug for AdminTokenRow {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("AdminTokenRow");
        out.field("id", &self.id).field("name", &self.name).field("role", &self.role);
        out.finish_non_exhaustive()
    }
}

/// The token with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<AdminTokenRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = admin_tokens::table.find(id).select(AdminTokenRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// A page of tokens by id, which is the order they were made in, from the one behind `after`.
pub async fn list(store: &Store, after: Option<&str>, limit: u32) -> Result<Vec<AdminTokenRow>, StoreError> {
    // Ids are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn| {
        let query = admin_tokens::table
            .filter(admin_tokens::id.gt(after))
            .order(admin_tokens::id)
            .limit(limit.into())
            .select(AdminTokenRow::as_select());
        Ok(query.load(conn).await?)
    })
}

/// Every token.
pub async fn all(store: &Store) -> Result<Vec<AdminTokenRow>, StoreError> {
    read!(store, PATIENCE, |conn| {
        let query = admin_tokens::table.order(admin_tokens::id).select(AdminTokenRow::as_select());
        Ok(query.load(conn).await?)
    })
}
