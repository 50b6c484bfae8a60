//! A key: its document, its row, and what the data plane sees of it.

use crate::admin::config::KeyItem;
use crate::admin::document::objects;
use crate::admin::fields::{FieldError, check_name};
use crate::admin::limits::{BudgetSpec, check_budgets, check_limits, limits_of, name_set, tool_globs};
use crate::admin::{AdminError, from_json, from_json_opt, rfc3339, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::shapes::{Id, Name, Time};
use chrono::{DateTime, Utc};
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::registry::{Key, KeyDigest, LastUse};
use obleth_schema::keys::KeyRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The year 10000, which RFC 3339 cannot say, in Unix microseconds; a leap second of the last day lies in it.
const END: i64 = 253_402_300_800_000_000;

/// The fields of a key (contract §3).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    #[schemars(with = "Name")]
    pub name: String,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    #[schemars(with = "Option<BTreeSet<Name>>", length(max = 1024))]
    pub allowed_models: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Option<BTreeSet<Name>>", length(max = 1024))]
    pub allowed_tools: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub tokens_per_minute: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<i64>,
    #[serde(default, deserialize_with = "objects")]
    #[schemars(length(max = 16))]
    pub budgets: Vec<BudgetSpec>,
}

/// A key as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
pub struct KeyView {
    #[serde(flatten)]
    key: KeyDocument,
    #[schemars(with = "Option<Time>")]
    last_used_at: Option<String>,
}

/// A key as the audit tells of it: its use is no change.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct KeyDocument {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[schemars(with = "Id")]
    tenant_id: String,
    key_prefix: String,
    #[serde(flatten)]
    spec: KeySpec,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

impl KeyDocument {
    /// As the API answers it, with the last use, if there was one.
    pub(in crate::admin) fn used(self, last_used_at: Option<String>) -> KeyView {
        KeyView { key: self, last_used_at }
    }
}

impl KeySpec {
    /// Checks every field.
    pub(in crate::admin) fn check(&self) -> Result<(), FieldError> {
        check_name("name", &self.name)?;
        if self.expires_at.is_some_and(|at| at.timestamp_micros() >= END) {
            return Err(FieldError::new("expires_at", "must be before the year 10000"));
        }
        check_limits(
            self.tokens_per_minute,
            self.requests_per_minute,
            self.max_in_flight,
            self.allowed_models.as_deref(),
            self.allowed_tools.as_deref(),
        )?;
        check_budgets(&self.budgets)
    }
}

/// The row of a checked document, in place of `old`.
pub(super) fn changed(spec: &KeySpec, old: KeyRow, now: i64) -> Result<KeyRow, AdminError> {
    Ok(KeyRow {
        version: old.version + 1,
        name: spec.name.clone(),
        disabled: spec.disabled,
        expires_at: spec.expires_at.map(|at| at.timestamp_micros()),
        allowed_models: to_json_opt(spec.allowed_models.as_ref())?,
        allowed_tools: to_json_opt(spec.allowed_tools.as_ref())?,
        tokens_per_minute: spec.tokens_per_minute,
        requests_per_minute: spec.requests_per_minute,
        max_in_flight: spec.max_in_flight,
        budgets: to_json(&spec.budgets)?,
        updated_at: now,
        ..old
    })
}

/// A row of a new key, but for what its document says.
pub(super) fn fresh(tenant: &str, prefix: String, hash: KeyDigest, now: i64) -> KeyRow {
    KeyRow {
        id: Uuid::now_v7().to_string(),
        version: 0,
        tenant_id: tenant.to_owned(),
        name: String::new(),
        key_prefix: prefix,
        key_hash: hash.to_hex(),
        previous_hash: None,
        previous_until: None,
        disabled: false,
        expires_at: None,
        allowed_models: None,
        allowed_tools: None,
        tokens_per_minute: None,
        requests_per_minute: None,
        max_in_flight: None,
        budgets: String::new(),
        created_at: now,
        updated_at: now,
    }
}

/// The row as a document.
pub(in crate::admin) fn spec_of(row: &KeyRow) -> Result<KeySpec, AdminError> {
    Ok(KeySpec {
        name: row.name.clone(),
        disabled: row.disabled,
        expires_at: row.expires_at.and_then(DateTime::from_timestamp_micros),
        allowed_models: from_json_opt(row.allowed_models.as_deref())?,
        allowed_tools: from_json_opt(row.allowed_tools.as_deref())?,
        tokens_per_minute: row.tokens_per_minute,
        requests_per_minute: row.requests_per_minute,
        max_in_flight: row.max_in_flight,
        budgets: from_json(&row.budgets)?,
    })
}

/// The row as the audit tells of it.
pub(in crate::admin) fn view(row: &KeyRow) -> Result<KeyDocument, AdminError> {
    Ok(KeyDocument {
        id: row.id.clone(),
        version: row.version,
        tenant_id: row.tenant_id.clone(),
        key_prefix: row.key_prefix.clone(),
        spec: spec_of(row)?,
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    })
}

/// The row as the data plane uses it.
pub(in crate::admin) fn snapshot(row: &KeyRow) -> Result<Key, AdminError> {
    let digest = |text: &str| KeyDigest::from_hex(text).ok_or(AdminError::Internal);
    let previous = match (&row.previous_hash, row.previous_until) {
        (Some(hash), Some(until)) => Some(Box::new((digest(hash)?, until))),
        _ => None,
    };
    Ok(Key {
        id: id_of(row)?,
        tenant: TenantId(row.tenant_id.parse().map_err(|_| AdminError::Internal)?),
        digest: digest(&row.key_hash)?,
        previous,
        disabled: row.disabled,
        expires_at: row.expires_at,
        allowed_models: name_set(from_json_opt(row.allowed_models.as_deref())?),
        allowed_tools: tool_globs(from_json_opt(row.allowed_tools.as_deref())?),
        max_in_flight: row.max_in_flight.and_then(|count| u32::try_from(count).ok()),
        limits: limits_of(
            row.tokens_per_minute,
            row.requests_per_minute,
            &from_json::<Vec<BudgetSpec>>(&row.budgets)?,
        ),
        used: LastUse::default(),
    })
}

fn id_of(row: &KeyRow) -> Result<KeyId, AdminError> {
    row.id.parse().map(KeyId).map_err(|_| AdminError::Internal)
}

/// The row of an imported key in place of `old`, and what changes of it that the API does not show.
pub(in crate::admin) fn imported(
    item: &KeyItem,
    tenant: &str,
    old: Option<&KeyRow>,
    id: Option<Uuid>,
) -> Result<(KeyRow, Vec<String>), AdminError> {
    let now = unix_micros();
    let base = old.cloned().unwrap_or_else(|| KeyRow {
        id: id.unwrap_or_else(Uuid::now_v7).to_string(),
        ..fresh(tenant, item.prefix.clone(), item.hash, now)
    });
    let previous = item.previous.map(|(hash, until)| (hash.to_hex(), until.timestamp_micros()));
    let (previous_hash, previous_until) = previous.unzip();
    let row = KeyRow {
        tenant_id: tenant.to_owned(),
        key_prefix: item.prefix.clone(),
        key_hash: item.hash.to_hex(),
        previous_hash,
        previous_until,
        ..changed(&item.spec, base, now)?
    };
    let mut hidden = Vec::new();
    if let Some(old) = old {
        // An overlap that is over is as good as none.
        let overlap = |row: &KeyRow| row.previous_hash.clone().zip(row.previous_until.filter(|at| *at > now));
        if old.key_hash != row.key_hash {
            hidden.push("key_hash".to_owned());
        }
        if overlap(old) != overlap(&row) {
            hidden.push("previous_key_hash".to_owned());
        }
    }
    Ok((row, hidden))
}
