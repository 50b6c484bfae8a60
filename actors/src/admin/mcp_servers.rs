//! MCP servers: what the management API does with them.

use super::document::{Patch, read};
use super::fields::{FieldError, WriteOnly, check_range};
use super::models::{check_header_value, never, yes};
use super::seal::{SealError, Sealer};
use super::{AdminError, Context, rfc3339};
use crate::clock::unix_micros;
use obleth_core::ids::McpServerId;
use obleth_core::mcp::names::{SERVER_MAX, is_server_name};
use obleth_core::registry::McpServer;
use obleth_schema::StoreError;
use obleth_schema::mcp_servers::McpServerRow;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The fields of an MCP server (contract §3).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpServerSpec {
    pub name: String,
    pub upstream_url: String,
    #[serde(default, skip_serializing_if = "WriteOnly::is_keep", serialize_with = "never")]
    pub auth_header: WriteOnly<SecretString>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub timeout_secs: Option<i64>,
    #[serde(default)]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    pub description: Option<String>,
}

/// An MCP server as the management API answers it.
#[derive(Debug, Serialize)]
pub struct McpServerView {
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: McpServerSpec,
    auth_header_set: bool,
    created_at: String,
    updated_at: String,
}

impl McpServerView {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

fn place(id: &str) -> String {
    format!("mcp_servers/{id}/auth_header")
}

/// The address of a server's endpoint, as it is called. Names are not resolved here: the server may come up later.
fn endpoint(text: &str) -> Result<String, &'static str> {
    let url = url::Url::parse(text).map_err(|_| "must be a URL such as http://host:8000/mcp")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials; use auth_header");
    }
    if url.fragment().is_some() {
        return Err("must not carry a fragment");
    }
    if url.host_str().is_none_or(str::is_empty) || text.len() > 2048 {
        return Err("must name a host and be at most 2048 characters long");
    }
    Ok(url.into())
}

impl McpServerSpec {
    fn check(&self) -> Result<(), FieldError> {
        if !is_server_name(&self.name) {
            let rule = "must begin with a letter or digit, have only letters, digits, - _ and ., no __, no _ at \
                        its end";
            let text = format_args!("{rule}, and at most {SERVER_MAX} characters");
            return Err(FieldError::new("name", text));
        }
        endpoint(&self.upstream_url).map_err(|message| FieldError::new("upstream_url", message))?;
        if let WriteOnly::Set(value) = &self.auth_header {
            check_header_value("auth_header", value.expose_secret())?;
        }
        check_range("timeout_secs", self.timeout_secs, 1..=86_400)?;
        check_range("requests_per_minute", self.requests_per_minute, 1..=1_000_000_000_000)?;
        match &self.description {
            Some(text) if text.chars().count() > 4096 => {
                Err(FieldError::new("description", "must be at most 4096 characters long"))
            }
            Some(text) if text.contains('\0') => Err(FieldError::new("description", "must not contain NUL")),
            _ => Ok(()),
        }
    }
}

/// The row of a document. `old` is the row it replaces.
fn to_row(
    sealer: &Sealer,
    spec: &McpServerSpec,
    old: Option<&McpServerRow>,
    now: i64,
) -> Result<McpServerRow, AdminError> {
    spec.check()?;
    let id = old.map_or_else(|| Uuid::now_v7().to_string(), |row| row.id.clone());
    let stored = old.and_then(|row| row.auth_header_sealed.as_ref());
    let sealed = match &spec.auth_header {
        WriteOnly::Keep => stored.map(|stored| sealer.renew(&place(&id), stored)).transpose(),
        WriteOnly::Clear => Ok(None),
        WriteOnly::Set(value) => sealer.seal(&place(&id), value).map(Some),
    };
    Ok(McpServerRow {
        auth_header_sealed: sealed.map_err(|_| AdminError::Internal)?,
        id,
        version: old.map_or(1, |row| row.version + 1),
        name: spec.name.clone(),
        upstream_url: spec.upstream_url.clone(),
        enabled: spec.enabled,
        timeout_secs: spec.timeout_secs,
        requests_per_minute: spec.requests_per_minute,
        description: spec.description.clone(),
        created_at: old.map_or(now, |row| row.created_at),
        updated_at: now,
    })
}

/// The row as a document, without its secret.
fn spec_of(row: &McpServerRow) -> McpServerSpec {
    McpServerSpec {
        name: row.name.clone(),
        upstream_url: row.upstream_url.clone(),
        auth_header: WriteOnly::Keep,
        enabled: row.enabled,
        timeout_secs: row.timeout_secs,
        requests_per_minute: row.requests_per_minute,
        description: row.description.clone(),
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

/// The row as the data plane uses it.
pub(super) fn snapshot(sealer: &Sealer, row: &McpServerRow) -> Result<McpServer, AdminError> {
    let sealed =
        |error: SealError| AdminError::Sealed(format!("the secret of MCP server {:?} {error}", row.name));
    let auth_header = row.auth_header_sealed.as_deref().map(|stored| sealer.open(&place(&row.id), stored));
    Ok(McpServer {
        id: id_of(row)?,
        version: row.version,
        name: row.name.as_str().into(),
        url: endpoint(&row.upstream_url).map_err(|_| AdminError::Internal)?.into(),
        auth_header: auth_header.transpose().map_err(sealed)?,
        enabled: row.enabled,
        timeout_secs: row.timeout_secs.and_then(|seconds| u32::try_from(seconds).ok()),
        requests_per_minute: row.requests_per_minute.and_then(|count| u64::try_from(count).ok()),
    })
}

fn id_of(row: &McpServerRow) -> Result<McpServerId, AdminError> {
    row.id.parse().map(McpServerId).map_err(|_| AdminError::Internal)
}

pub(super) async fn stored(context: &Context, name: &str) -> Result<McpServerRow, AdminError> {
    obleth_schema::mcp_servers::by_name(&context.store, name).await?.ok_or(AdminError::NotFound("MCP server"))
}

/// `POST /mcp-servers`.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<McpServerView, AdminError> {
    let spec: McpServerSpec = read(body)?;
    let row = to_row(&context.sealer, &spec, None, unix_micros())?;
    obleth_schema::mcp_servers::insert(&context.store, &row).await.map_err(duplicate)?;
    publish(context, &row)
}

/// `PATCH /mcp-servers/{name}`.
pub(super) async fn patch(context: &Context, name: &str, body: &[u8]) -> Result<McpServerView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?;
    super::check_version(patch.version, old.version)?;
    let spec = patch.over(&spec_of(&old))?;
    let row = to_row(&context.sealer, &spec, Some(&old), unix_micros())?;
    obleth_schema::mcp_servers::update(&context.store, &row, old.version).await.map_err(duplicate)?;
    publish(context, &row)
}

/// `DELETE /mcp-servers/{name}`.
pub(super) async fn delete(context: &Context, name: &str) -> Result<(), AdminError> {
    let row = stored(context, name).await?;
    obleth_schema::mcp_servers::delete(&context.store, &row.id).await?;
    let id = id_of(&row)?;
    context.publish(|registry| registry.remove_mcp_server(id));
    Ok(())
}

fn publish(context: &Context, row: &McpServerRow) -> Result<McpServerView, AdminError> {
    let server = snapshot(&context.sealer, row)?;
    context.publish(|registry| registry.put_mcp_server(server));
    Ok(view(row))
}

fn duplicate(error: StoreError) -> AdminError {
    match error {
        StoreError::Duplicate { .. } => AdminError::Conflict("name", "an MCP server has this name already"),
        other => other.into(),
    }
}
