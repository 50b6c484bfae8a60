//! API keys of tenants. Only hashes of the secrets are kept.

use crate::changes::{Change, Edit, apply_one, delete_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, REPORT_PATIENCE, Store, read};
use crate::tables::keys;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};
use diesel_async::RunQueryDsl;
use std::fmt;

/// One key. Lists are JSON text; `None` is "all" or "unlimited".
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = keys, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct KeyRow {
    pub id: String,
    pub version: i64,
    pub tenant_id: String,
    pub name: String,
    /// The part of the secret that may be shown.
    pub key_prefix: String,
    pub key_hash: String,
    /// After a rotation: the hash that still works until `previous_until`.
    pub previous_hash: Option<String>,
    pub previous_until: Option<i64>,
    pub disabled: bool,
    pub expires_at: Option<i64>,
    pub allowed_models: Option<String>,
    pub allowed_tools: Option<String>,
    pub tokens_per_minute: Option<i64>,
    pub requests_per_minute: Option<i64>,
    pub max_in_flight: Option<i64>,
    pub budgets: String,
    /// Unix microseconds, as every time.
    pub created_at: i64,
    pub updated_at: i64,
}

impl fmt::Debug for KeyRow {
    /// Without the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("KeyRow");
        out.field("id", &self.id).field("version", &self.version).field("name", &self.name);
        out.finish_non_exhaustive()
    }
}

/// Adds a key; [`StoreError::Referenced`] when its tenant does not exist.
pub async fn insert(store: &Store, row: &KeyRow) -> Result<(), StoreError> {
    apply_one(store, Change::Key(Edit::Insert(row.clone()))).await
}

/// Replaces the key that has this id and the version `expected`; else [`StoreError::Stale`].
pub async fn update(store: &Store, row: &KeyRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::Key(Edit::Update(row.clone(), expected))).await
}

/// Deletes a key; `false` when there was none, its keys go with it, its bills stay.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    delete_one(store, Change::Key(Edit::Delete(id.to_owned()))).await
}

/// The key with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<KeyRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = keys::table.find(id).select(KeyRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// The key whose present or, until it lapses, previous secret has this hash.
pub async fn by_hash(store: &Store, hash: &str) -> Result<Option<KeyRow>, StoreError> {
    let hash = hash.to_owned();
    read!(store, PATIENCE, |conn| {
        let at = keys::key_hash.eq(hash.clone()).or(keys::previous_hash.eq(hash));
        Ok(keys::table.filter(at).select(KeyRow::as_select()).first(conn).await.optional()?)
    })
}

/// Which keys a listing shows; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyFilter {
    pub tenant_id: Option<String>,
    /// What the part of the secret that may be shown begins with.
    pub prefix: Option<String>,
    pub name: Option<String>,
    pub disabled: Option<bool>,
}

/// A page of keys by id, from the one behind `after`; of one tenant if it is named.
pub async fn list(
    store: &Store,
    tenant_id: Option<&str>,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<KeyRow>, StoreError> {
    let filter = KeyFilter { tenant_id: tenant_id.map(str::to_owned), ..KeyFilter::default() };
    search(store, &filter, after, limit).await
}

diesel::define_sql_function! {
    /// `LIKE` has no case on SQLite and takes `_` for any character.
    fn substr(text: Text, start: Integer, length: Integer) -> Text;
}

/// A page of the keys that `filter` shows, by id, from the one behind `after`.
pub async fn search(
    store: &Store,
    filter: &KeyFilter,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<KeyRow>, StoreError> {
    let filter = filter.clone();
    // Ids are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn: Db| {
        let mut query = keys::table.select(KeyRow::as_select()).into_boxed::<Db>();
        if let Some(tenant_id) = filter.tenant_id {
            query = query.filter(keys::tenant_id.eq(tenant_id));
        }
        if let Some(prefix) = filter.prefix {
            let length = i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX);
            query = query.filter(substr(keys::key_prefix, 1, length).eq(prefix));
        }
        if let Some(name) = filter.name {
            query = query.filter(keys::name.eq(name));
        }
        if let Some(disabled) = filter.disabled {
            query = query.filter(keys::disabled.eq(disabled));
        }
        Ok(query.filter(keys::id.gt(after)).order(keys::id).limit(limit.into()).load(conn).await?)
    })
}

/// Every key, by id.
pub async fn all(store: &Store) -> Result<Vec<KeyRow>, StoreError> {
    read!(store, REPORT_PATIENCE, |conn| {
        let query = keys::table.order(keys::id).select(KeyRow::as_select());
        Ok(query.load(conn).await?)
    })
}
