//! MCP servers: what the management API does with them.

use super::commit::Step;
use super::document::{Patch, read};
use super::origin::Origin;
use super::{AdminError, Context, rfc3339, to_json, to_json_opt};
use crate::shapes::{Id, Time};
use obleth_schema::changes::{Change, Edit};
use obleth_schema::mcp_servers::McpServerRow;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

mod row;

pub use row::McpServerSpec;
use row::{check_origin, to_row};
pub(super) use row::{keep_secret, resealed, snapshot, spec_of};

/// As the audit names it.
const KIND: &str = "mcp_server";

/// An MCP server as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "McpServer")]
pub struct McpServerView {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: McpServerSpec,
    auth_header_set: bool,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

impl McpServerView {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

/// The row as the API answers it.
pub(super) fn view(row: &McpServerRow) -> McpServerView {
    McpServerView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(row),
        auth_header_set: row.auth_header_sealed.is_some(),
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    }
}

pub(super) async fn stored(context: &Context, name: &str) -> Result<McpServerRow, AdminError> {
    obleth_schema::mcp_servers::by_name(&context.store, name).await?.ok_or(AdminError::NotFound("MCP server"))
}

/// The step that puts the server of `spec` in place of `old`; a new one gets `id` if there is one.
pub(super) fn step(
    context: &Context,
    origin: &Origin,
    spec: &McpServerSpec,
    old: Option<&McpServerRow>,
    id: Option<Uuid>,
) -> Result<(Step, McpServerView), AdminError> {
    if !origin.reads_secrets() {
        check_origin(spec, old)?;
    }
    let row = to_row(context, spec, old, id)?;
    let shown = view(&row);
    let step = Step {
        action: if old.is_some() { "update" } else { "create" },
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: to_json_opt(old.map(view).as_ref())?,
        after: Some(to_json(&shown)?),
        change: Change::McpServer(match old {
            Some(old) => Edit::Update(row, old.version),
            None => Edit::Insert(row),
        }),
    };
    Ok((step, shown))
}

/// The step that deletes a server.
pub(super) fn removal(row: &McpServerRow) -> Result<Step, AdminError> {
    Ok(Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: Some(to_json(&view(row))?),
        after: None,
        change: Change::McpServer(Edit::Delete(row.id.clone())),
    })
}

/// `POST /mcp-servers`.
pub(super) async fn create(
    context: &Context,
    origin: &Origin,
    body: &[u8],
) -> Result<McpServerView, AdminError> {
    let (step, view) = step(context, origin, &read(body)?, None, None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `PATCH /mcp-servers/{name}`.
pub(super) async fn patch(
    context: &Context,
    origin: &Origin,
    name: &str,
    body: &[u8],
) -> Result<McpServerView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?;
    super::check_version(patch.version, old.version)?;
    let (step, view) = step(context, origin, &patch.over(&spec_of(&old))?, Some(&old), None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `DELETE /mcp-servers/{name}`.
pub(super) async fn delete(context: &Context, origin: &Origin, name: &str) -> Result<(), AdminError> {
    let row = stored(context, name).await?;
    context.commit(origin, removal(&row)?).await
}
