//! Models: what the management API does with them.

use super::document::{Patch, read};
use super::seal::Sealer;
use super::{AdminError, Context, rfc3339};
use crate::clock::unix_micros;
use crate::fairshare::Change;
use obleth_core::ids::ModelId;
use obleth_core::registry::Model;
use obleth_core::response_cache::Purge;
use obleth_schema::StoreError;
use obleth_schema::models::ModelRow;
use serde::Serialize;

mod row;
mod spec;

pub(super) use row::snapshot;
use row::{spec_of, to_row};
use spec::ModelSpec;
pub(super) use spec::yes;

/// A model as the management API answers it.
#[derive(Debug, Serialize)]
pub struct ModelView {
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: ModelSpec,
    api_key_set: bool,
    created_at: String,
    updated_at: String,
}

impl ModelView {
    /// The model's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The row as the API answers it.
pub(super) fn view(sealer: &Sealer, row: &ModelRow) -> Result<ModelView, AdminError> {
    Ok(ModelView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(sealer, row)?,
        api_key_set: row.api_key_sealed.is_some(),
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    })
}

pub(super) async fn stored(context: &Context, name: &str) -> Result<ModelRow, AdminError> {
    obleth_schema::models::by_name(&context.store, name).await?.ok_or(AdminError::NotFound("model"))
}

/// `POST /models`.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<ModelView, AdminError> {
    let spec: ModelSpec = read(body)?;
    let row = to_row(context, &spec, None, unix_micros())?;
    obleth_schema::models::insert(&context.store, &row).await.map_err(duplicate)?;
    publish(context, &row).await?;
    view(&context.sealer, &row)
}

/// `PATCH /models/{model_name}`.
pub(super) async fn patch(context: &Context, name: &str, body: &[u8]) -> Result<ModelView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?;
    super::check_version(patch.version, old.version)?;
    let spec = patch.over(&spec_of(&context.sealer, &old)?)?;
    replace(context, &spec, &old).await
}

/// `PUT /models/{model_name}`: the whole document; a model that does not exist yet is created (true).
pub(super) async fn put(context: &Context, name: &str, body: &[u8]) -> Result<(ModelView, bool), AdminError> {
    let mut patch = Patch::read(body)?;
    patch.default_field("model_name", name)?;
    match obleth_schema::models::by_name(&context.store, name).await? {
        Some(old) => {
            super::check_version(patch.version, old.version)?;
            let spec: ModelSpec = patch.whole()?;
            Ok((replace(context, &spec, &old).await?, false))
        }
        None => Ok((create(context, &patch.text()?).await?, true)),
    }
}

async fn replace(context: &Context, spec: &ModelSpec, old: &ModelRow) -> Result<ModelView, AdminError> {
    let row = to_row(context, spec, Some(old), unix_micros())?;
    obleth_schema::models::update(&context.store, &row, old.version).await.map_err(duplicate)?;
    publish(context, &row).await?;
    view(&context.sealer, &row)
}

/// `DELETE /models/{model_name}`.
pub(super) async fn delete(context: &Context, name: &str) -> Result<(), AdminError> {
    let row = stored(context, name).await?;
    obleth_schema::models::delete(&context.store, &row.id).await?;
    let id = ModelId(row.id.parse().map_err(|_| AdminError::Internal)?);
    context.publish(|registry| registry.remove_model(id));
    context.cache.forget_model(id);
    context.reconfigure(vec![Change::RemoveModel(id)]).await
}

async fn publish(context: &Context, row: &ModelRow) -> Result<(), AdminError> {
    let model = snapshot(&context.sealer, row)?;
    let plan = context.plans.model(&model);
    let (id, old) = (model.id, context.registry.load().model(model.id).cloned());
    let other = |old: &Model| old.upstream_mark != model.upstream_mark || model.cache_ttl.is_none();
    let stale = old.is_some_and(|old| other(&old));
    context.publish(|registry| registry.put_model(model));
    if stale {
        // None of these is found any more (the mark is part of each key): this frees their memory.
        context.cache.purge_soon(Purge { tenant: None, model: Some(id) });
    }
    context.reconfigure(vec![Change::Model(plan)]).await
}

fn duplicate(error: StoreError) -> AdminError {
    match error {
        StoreError::Duplicate { .. } => {
            AdminError::Conflict("model_name", "a model has this name or alias already")
        }
        other => other.into(),
    }
}
