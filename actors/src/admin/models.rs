//! Models: what the management API does with them.

use super::commit::Step;
use super::document::{Patch, read};
use super::origin::Origin;
use super::seal::Sealer;
use super::{AdminError, Context, rfc3339, to_json, to_json_opt};
use crate::shapes::{Id, Time};
use obleth_schema::changes::{Change, Edit};
use obleth_schema::models::ModelRow;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

mod row;
mod spec;

use row::{check_origin, to_row};
pub(super) use row::{keep_secrets, resealed, snapshot, spec_of};
pub use spec::ModelSpec;
pub(super) use spec::{HeaderValue, check_header_value, never, yes};

/// As the audit names it.
const KIND: &str = "model";

/// A model as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub struct ModelView {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: ModelSpec,
    api_key_set: bool,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
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

/// The step that puts the model of `spec` in place of `old`; a new one gets `id` if there is one.
pub(super) fn step(
    context: &Context,
    origin: &Origin,
    spec: &ModelSpec,
    old: Option<&ModelRow>,
    id: Option<Uuid>,
) -> Result<(Step, ModelView), AdminError> {
    if !origin.reads_secrets() {
        check_origin(spec, old)?;
    }
    let row = to_row(context, spec, old, id)?;
    let shown = view(&context.sealer, &row)?;
    let before = old.map(|old| view(&context.sealer, old)).transpose()?;
    let step = Step {
        action: if old.is_some() { "update" } else { "create" },
        kind: KIND,
        id: row.id.clone(),
        name: row.model_name.clone(),
        before: to_json_opt(before.as_ref())?,
        after: Some(to_json(&shown)?),
        change: Change::Model(match old {
            Some(old) => Edit::Update(row, old.version),
            None => Edit::Insert(row),
        }),
    };
    Ok((step, shown))
}

/// The step that deletes a model.
pub(super) fn removal(context: &Context, row: &ModelRow) -> Result<Step, AdminError> {
    Ok(Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.model_name.clone(),
        before: Some(to_json(&view(&context.sealer, row)?)?),
        after: None,
        change: Change::Model(Edit::Delete(row.id.clone())),
    })
}

async fn write(
    context: &Context,
    origin: &Origin,
    spec: &ModelSpec,
    old: Option<&ModelRow>,
) -> Result<ModelView, AdminError> {
    let (step, view) = step(context, origin, spec, old, None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `POST /models`.
pub(super) async fn create(context: &Context, origin: &Origin, body: &[u8]) -> Result<ModelView, AdminError> {
    write(context, origin, &read(body)?, None).await
}

/// `PATCH /models/{model_name}`.
pub(super) async fn patch(
    context: &Context,
    origin: &Origin,
    name: &str,
    body: &[u8],
) -> Result<ModelView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?;
    super::check_version(patch.version, old.version)?;
    let spec = patch.over(&spec_of(&context.sealer, &old)?)?;
    write(context, origin, &spec, Some(&old)).await
}

/// `PUT /models/{model_name}`: the whole document; a model that does not exist yet is created (true).
pub(super) async fn put(
    context: &Context,
    origin: &Origin,
    name: &str,
    body: &[u8],
) -> Result<(ModelView, bool), AdminError> {
    let mut patch = Patch::read(body)?;
    patch.default_field("model_name", name)?;
    let old = obleth_schema::models::by_name(&context.store, name).await?;
    // One that was made for a version is not for a model that is gone.
    super::check_version(patch.version, old.as_ref().map_or(0, |old| old.version))?;
    let view = write(context, origin, &patch.whole()?, old.as_ref()).await?;
    Ok((view, old.is_none()))
}

/// `DELETE /models/{model_name}`.
pub(super) async fn delete(context: &Context, origin: &Origin, name: &str) -> Result<(), AdminError> {
    let row = stored(context, name).await?;
    context.commit(origin, removal(context, &row)?).await
}
