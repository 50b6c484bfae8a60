//! What the entries of a document look like: the fields of an object of the API, and what only a document has.
//! Schemas only; entries are read field by field (`document`).

use super::super::keys::KeySpec;
use super::super::mcp_servers::McpServerSpec;
use super::super::models::ModelSpec;
use crate::shapes::{Id, Name, Time};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::Value;

/// An object of a section, with the id it has if it is made.
#[derive(JsonSchema)]
#[schemars(rename = "{S}Entry", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct Entry<S> {
    id: Option<Id>,
    #[schemars(flatten)]
    spec: S,
}

/// A model; secrets may be references.
#[derive(JsonSchema)]
#[schemars(transform = refer, deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct ModelEntry {
    id: Option<Id>,
    #[schemars(flatten)]
    spec: ModelSpec,
}

/// An MCP server; its secret may be a reference.
#[derive(JsonSchema)]
#[schemars(transform = refer, deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct McpServerEntry {
    id: Option<Id>,
    #[schemars(flatten)]
    spec: McpServerSpec,
}

/// A key: its tenant by name, its secret by digest.
#[derive(JsonSchema)]
#[schemars(rename = "DocumentKey")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct KeyEntry {
    tenant: Name,
    /// SHA-256 of the secret (with `OBLETH_API_KEY_PEPPER`: HMAC-SHA-256).
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    key_hash: String,
    #[schemars(length(max = 16), regex(pattern = "^[!-~]*$"))]
    key_prefix: Option<String>,
    /// After a rotation: works until `previous_until`.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    previous_key_hash: Option<String>,
    previous_until: Option<Time>,
    #[schemars(flatten)]
    spec: KeySpec,
}

/// Lets secrets be `{"env": "NAME"}`.
fn refer(schema: &mut Schema) {
    let reference = json_schema!({
        "description": "The value of a variable of the gateway's environment.",
        "type": "object",
        "properties": {"env": {"type": "string", "pattern": "^OBLETH_SECRET_[0-9A-Z_]*$"}},
        "required": ["env"],
        "additionalProperties": false,
    });
    let also = |value: &mut Value| {
        let plain = value.take();
        *value = serde_json::json!({"anyOf": [plain, reference]});
    };
    for at in [
        "/properties/api_key",
        "/properties/auth_header",
        "/properties/upstream_headers/additionalProperties",
    ] {
        schema.pointer_mut(at).into_iter().for_each(also);
    }
}
