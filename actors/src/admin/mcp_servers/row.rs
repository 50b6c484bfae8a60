//! The document of an MCP server, its rules, and its row.

use crate::admin::fields::{FieldError, WriteOnly, check_range};
use crate::admin::models::{HeaderValue, check_header_value, never, yes};
use crate::admin::outbound::{MOVED, same_origin};
use crate::admin::seal::{SealError, Sealer};
use crate::admin::{AdminError, Context, check_literal, has_letters_of_a_url};
use crate::clock::unix_micros;
use obleth_core::ids::McpServerId;
use obleth_core::mcp::names::{SERVER_MAX, is_server_name};
use obleth_core::net::Outbound;
use obleth_core::registry::McpServer;
use obleth_schema::mcp_servers::McpServerRow;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The fields of an MCP server (contract §3).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServerSpec {
    /// Stands in paths and before `__` in the names of tools.
    #[schemars(length(max = SERVER_MAX), regex(pattern = "^[0-9A-Za-z](_?[0-9A-Za-z.-])*$"))]
    pub name: String,
    /// Of the server's endpoint.
    #[schemars(url, length(max = 2048), regex(pattern = "^https?://"))]
    pub upstream_url: String,
    /// The whole value of `Authorization`.
    #[serde(default, skip_serializing_if = "WriteOnly::is_keep", serialize_with = "never")]
    #[schemars(with = "Option<HeaderValue>", extend("writeOnly" = true))]
    pub auth_header: WriteOnly<SecretString>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_secs: Option<i64>,
    /// Of all callers together.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    #[schemars(length(max = 4096), regex(pattern = r"^[^\u0000]*$"))]
    pub description: Option<String>,
}

fn place(id: &str) -> String {
    format!("mcp_servers/{id}/auth_header")
}

/// The address of a server's endpoint, as it is called. Names are not resolved here: the server may come up later.
fn endpoint(text: &str) -> Result<String, &'static str> {
    if !has_letters_of_a_url(text) {
        return Err("must be a URL in ASCII such as http://host:8000/mcp");
    }
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
    /// Checks every field.
    pub(in crate::admin) fn check(&self, outbound: &Outbound) -> Result<(), FieldError> {
        if !is_server_name(&self.name) {
            let rule = "must begin with a letter or digit, have only letters, digits, - _ and ., no __, no _ at \
                        its end";
            let text = format_args!("{rule}, and at most {SERVER_MAX} characters");
            return Err(FieldError::new("name", text));
        }
        let allowed = endpoint(&self.upstream_url).and_then(|url| check_literal(outbound, &url));
        allowed.map_err(|message| FieldError::new("upstream_url", message))?;
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

/// What of `old` would be kept and sent to another origin is refused: who sends it there can read it there.
pub(super) fn check_origin(spec: &McpServerSpec, old: Option<&McpServerRow>) -> Result<(), FieldError> {
    let moved = old.filter(|old| !same_origin(Some(&old.upstream_url), Some(&spec.upstream_url)));
    if matches!(spec.auth_header, WriteOnly::Keep)
        && moved.is_some_and(|old| old.auth_header_sealed.is_some())
    {
        return Err(FieldError::new("auth_header", MOVED));
    }
    Ok(())
}

/// The row of a document. `old` is the row it replaces; a new one gets `id` if there is one.
pub(super) fn to_row(
    context: &Context,
    spec: &McpServerSpec,
    old: Option<&McpServerRow>,
    id: Option<Uuid>,
) -> Result<McpServerRow, AdminError> {
    spec.check(&context.outbound)?;
    let (sealer, now) = (&context.sealer, unix_micros());
    let id = old.map_or_else(|| id.unwrap_or_else(Uuid::now_v7).to_string(), |row| row.id.clone());
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
pub(in crate::admin) fn spec_of(row: &McpServerRow) -> McpServerSpec {
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

/// The row with its secret sealed anew; `None`: there is nothing to do.
pub(in crate::admin) fn resealed(
    (from, to): (&Sealer, &Sealer),
    row: &McpServerRow,
) -> Result<Option<McpServerRow>, SealError> {
    let Some(stored) = row.auth_header_sealed.as_deref().filter(|stored| !to.is_own(stored)) else {
        return Ok(None);
    };
    let place = place(&row.id);
    let sealed = to.seal(&place, &from.open(&place, stored)?)?;
    Ok(Some(McpServerRow { version: row.version + 1, auth_header_sealed: Some(sealed), ..row.clone() }))
}

/// Makes of an imported secret that is stored already one to keep. Whether another becomes the secret.
pub(in crate::admin) fn keep_secret(
    sealer: &Sealer,
    spec: &mut McpServerSpec,
    old: Option<&McpServerRow>,
) -> Result<bool, AdminError> {
    let (WriteOnly::Set(value), Some(old)) = (&spec.auth_header, old) else { return Ok(false) };
    let stored = old.auth_header_sealed.as_deref().map(|stored| sealer.open(&place(&old.id), stored));
    let stored = stored.transpose().map_err(|_| AdminError::Internal)?;
    let same = stored.is_some_and(|stored| stored.expose_secret() == value.expose_secret());
    if same && same_origin(Some(&old.upstream_url), Some(&spec.upstream_url)) {
        spec.auth_header = WriteOnly::Keep;
    }
    Ok(!same)
}

/// The row as the data plane uses it.
pub(in crate::admin) fn snapshot(sealer: &Sealer, row: &McpServerRow) -> Result<McpServer, AdminError> {
    let sealed =
        |error: SealError| AdminError::Sealed(format!("the secret of MCP server {:?} {error}", row.name));
    let auth_header = row.auth_header_sealed.as_deref().map(|stored| sealer.open(&place(&row.id), stored));
    Ok(McpServer {
        id: McpServerId(row.id.parse().map_err(|_| AdminError::Internal)?),
        version: row.version,
        name: row.name.as_str().into(),
        url: endpoint(&row.upstream_url).map_err(|_| AdminError::Internal)?.into(),
        auth_header: auth_header.transpose().map_err(sealed)?,
        enabled: row.enabled,
        timeout_secs: row.timeout_secs.and_then(|seconds| u32::try_from(seconds).ok()),
        requests_per_minute: row.requests_per_minute.and_then(|count| u64::try_from(count).ok()),
    })
}
