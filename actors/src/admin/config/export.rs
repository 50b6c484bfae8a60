//! The registry as a document. Secrets are left out: on import an absent one keeps what is stored.

use super::super::groups::{self, DEFAULT, GroupSpec};
use super::super::keys::{self, KeySpec};
use super::super::mcp_servers::{self, McpServerSpec};
use super::super::models::{self, ModelSpec};
use super::super::seal::Sealer;
use super::super::tenants::{self, TenantSpec};
use super::super::{AdminError, rfc3339};
use super::Stored;
use crate::clock::unix_micros;
use crate::shapes::{Id, Name, Time};
use obleth_schema::keys::KeyRow;
use schemars::JsonSchema;
use serde::Serialize;

/// The whole registry.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Export {
    groups: Vec<Exported<GroupSpec>>,
    models: Vec<Exported<ModelSpec>>,
    tenants: Vec<Exported<TenantSpec>>,
    keys: Vec<Exported<KeyDocument>>,
    mcp_servers: Vec<Exported<McpServerSpec>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Exported{S}")]
struct Exported<S> {
    #[schemars(with = "Id")]
    id: String,
    #[serde(flatten)]
    spec: S,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DocumentKey")]
struct KeyDocument {
    #[schemars(with = "Name")]
    tenant: String,
    key_hash: String,
    key_prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_key_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    previous_until: Option<String>,
    #[serde(flatten)]
    spec: KeySpec,
}

impl Export {
    pub(super) fn of(sealer: &Sealer, stored: &Stored) -> Result<Self, AdminError> {
        let (group_names, tenant_names) = (stored.group_names(), stored.tenant_names());
        let groups = stored.groups.iter();
        let models = stored
            .models
            .iter()
            .map(|row| Ok(Exported { id: row.id.clone(), spec: models::spec_of(sealer, row)? }));
        let tenants = stored.tenants.iter().map(|row| {
            let group = group_names.get(row.group_id.as_str()).copied().unwrap_or(DEFAULT);
            Ok(Exported { id: row.id.clone(), spec: tenants::spec_of(row, group)? })
        });
        let now = unix_micros();
        let keys = stored.keys.iter().map(|row| {
            let tenant = tenant_names.get(row.tenant_id.as_str()).ok_or(AdminError::Internal)?;
            Ok(Exported { id: row.id.clone(), spec: key(row, tenant, now)? })
        });
        let mcp_servers = stored.mcp_servers.iter();
        Ok(Self {
            mcp_servers: mcp_servers
                .map(|row| Exported { id: row.id.clone(), spec: mcp_servers::spec_of(row) })
                .collect(),
            groups: groups.map(|row| Exported { id: row.id.clone(), spec: groups::spec_of(row) }).collect(),
            models: models.collect::<Result<_, AdminError>>()?,
            tenants: tenants.collect::<Result<_, AdminError>>()?,
            keys: keys.collect::<Result<_, AdminError>>()?,
        })
    }
}

fn key(row: &KeyRow, tenant: &str, now: i64) -> Result<KeyDocument, AdminError> {
    // An overlap that is over is history.
    let overlap = row.previous_hash.clone().zip(row.previous_until).filter(|(_, until)| *until > now);
    let (hash, until) = overlap.unzip();
    Ok(KeyDocument {
        tenant: tenant.to_owned(),
        key_hash: row.key_hash.clone(),
        key_prefix: row.key_prefix.clone(),
        previous_key_hash: hash,
        previous_until: until.map(rfc3339),
        spec: keys::spec_of(row)?,
    })
}
