//! Registered models, and the names by which clients ask for them.
//!
//! Invariant: `model_names` holds the name and the aliases of every model, written in the same transaction,
//! so that a name belongs to one model only.

use crate::changes::{Change, Edit, apply_one, delete_one};
use crate::error::StoreError;
use crate::store::{PATIENCE, REPORT_PATIENCE, Store, read};
use crate::tables::{model_names, models};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use std::collections::BTreeSet;
use std::fmt;

/// One model. Prices are pico-dollars a token; lists are JSON text; `None` is "unlimited" or "the default".
#[derive(Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = models, treat_none_as_null = true)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct ModelRow {
    pub id: String,
    pub version: i64,
    pub model_name: String,
    pub upstream_model: String,
    pub api_base: Option<String>,
    /// Encrypted by the caller.
    pub api_key_sealed: Option<String>,
    pub input_price: Option<i64>,
    pub cached_input_price: Option<i64>,
    pub output_price: Option<i64>,
    pub context_window: Option<i64>,
    pub max_output_tokens: Option<i64>,
    /// Hundredths.
    pub admission_weight: i32,
    pub max_in_flight: Option<i64>,
    pub enabled: bool,
    pub aliases: String,
    pub cache_enabled: bool,
    pub cache_ttl_secs: Option<i64>,
    pub request_timeout_secs: Option<i64>,
    pub fallback_models: String,
    /// Encrypted by the caller.
    pub upstream_headers_sealed: Option<String>,
    pub description: Option<String>,
    /// Unix microseconds, as every time.
    pub created_at: i64,
    pub updated_at: i64,
}

impl fmt::Debug for ModelRow {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ModelRow");
        out.field("id", &self.id).field("version", &self.version).field("model_name", &self.model_name);
        out.finish_non_exhaustive()
    }
}

/// Adds a model with its names; [`StoreError::Duplicate`] when one of them is taken.
pub async fn insert(store: &Store, row: &ModelRow) -> Result<(), StoreError> {
    apply_one(store, Change::Model(Edit::Insert(row.clone()))).await
}

/// Replaces the model that has this id and the version `expected`, and its names; else
/// [`StoreError::Stale`].
pub async fn update(store: &Store, row: &ModelRow, expected: i64) -> Result<(), StoreError> {
    apply_one(store, Change::Model(Edit::Update(row.clone(), expected))).await
}

/// A row of `model_names`.
#[derive(Insertable)]
#[diesel(table_name = model_names)]
pub(crate) struct NameRow {
    name: String,
    model_id: String,
}

/// The name and the aliases of a model, each once: an alias that repeats another of the same model is no
/// clash.
pub(crate) fn names_of(row: &ModelRow) -> Result<Vec<NameRow>, StoreError> {
    let mut names: BTreeSet<String> =
        serde_json::from_str(&row.aliases).map_err(|_| StoreError::Malformed { field: "models.aliases" })?;
    names.insert(row.model_name.clone());
    Ok(names.into_iter().map(|name| NameRow { name, model_id: row.id.clone() }).collect())
}

/// Deletes a model; `false` when there was none, its keys go with it, its bills stay.
pub async fn delete(store: &Store, id: &str) -> Result<bool, StoreError> {
    delete_one(store, Change::Model(Edit::Delete(id.to_owned()))).await
}

/// The model with this id.
pub async fn by_id(store: &Store, id: &str) -> Result<Option<ModelRow>, StoreError> {
    let id = id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = models::table.find(id).select(ModelRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// The model of this name (not alias).
pub async fn by_name(store: &Store, name: &str) -> Result<Option<ModelRow>, StoreError> {
    let name = name.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = models::table.filter(models::model_name.eq(name)).select(ModelRow::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}

/// A page of models by name, from the one behind `after`.
pub async fn list(store: &Store, after: Option<&str>, limit: u32) -> Result<Vec<ModelRow>, StoreError> {
    // Names are never empty, so the empty one stands for the beginning.
    let after = after.unwrap_or_default().to_owned();
    read!(store, PATIENCE, |conn| {
        let query = models::table
            .filter(models::model_name.gt(after))
            .order(models::model_name)
            .limit(limit.into())
            .select(ModelRow::as_select());
        Ok(query.load(conn).await?)
    })
}

/// Every model, by name.
pub async fn all(store: &Store) -> Result<Vec<ModelRow>, StoreError> {
    read!(store, REPORT_PATIENCE, |conn| {
        let query = models::table.order(models::model_name).select(ModelRow::as_select());
        Ok(query.load(conn).await?)
    })
}
