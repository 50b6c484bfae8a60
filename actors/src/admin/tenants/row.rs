//! A tenant: its document, its row, and what the data plane sees of it.

use crate::admin::document::{object, objects};
use crate::admin::fields::{FieldError, check_name, check_range};
use crate::admin::groups::{DEFAULT, default_share, share_of, weight_of};
use crate::admin::limits::{
    BrownoutSpec, BudgetSpec, check_brownout, check_budgets, check_limits, limits_of, name_set, tool_globs,
};
use crate::admin::{AdminError, from_json, from_json_opt, rfc3339, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::plans::Plans;
use crate::shapes::{Id, Name, Time, Weight};
use obleth_core::ids::{GroupId, TenantId};
use obleth_core::registry::{Tenant, TenantStatus};
use obleth_core::units::Share;
use obleth_schema::groups::GroupRow;
use obleth_schema::tenants::TenantRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use uuid::Uuid;

/// Bytes of a tenant's metadata.
const METADATA_MAX: usize = 16 * 1024;

/// Whether a tenant may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "TenantStatus")]
pub enum Status {
    #[default]
    Active,
    Suspended,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// The fields of a tenant (contract §3).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    #[schemars(with = "Name")]
    pub name: String,
    #[serde(default = "default_share")]
    #[schemars(with = "Weight")]
    pub weight: Share,
    #[serde(default = "default_group")]
    #[schemars(with = "Name")]
    pub group: String,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub tokens_per_minute: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_queued: Option<i64>,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    #[schemars(with = "Option<BTreeSet<Name>>", length(max = 1024))]
    pub allowed_models: Option<Vec<String>>,
    #[serde(default)]
    #[schemars(with = "Option<BTreeSet<Name>>", length(max = 1024))]
    pub allowed_tools: Option<Vec<String>>,
    #[serde(default, deserialize_with = "objects")]
    #[schemars(length(max = 16))]
    pub budgets: Vec<BudgetSpec>,
    #[serde(default, deserialize_with = "object")]
    pub brownout: Option<BrownoutSpec>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

fn default_group() -> String {
    DEFAULT.to_owned()
}

/// A tenant as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub struct TenantView {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: TenantSpec,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

impl TenantView {
    /// The tenant's id.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl TenantSpec {
    /// Checks every field.
    pub(in crate::admin) fn check(&self) -> Result<(), FieldError> {
        check_name("name", &self.name)?;
        check_name("group", &self.group)?;
        check_limits(
            self.tokens_per_minute,
            self.requests_per_minute,
            self.max_in_flight,
            self.allowed_models.as_deref(),
            self.allowed_tools.as_deref(),
        )?;
        check_range("max_queued", self.max_queued, 0..=1_000_000)?;
        check_budgets(&self.budgets)?;
        check_brownout(self.brownout.as_ref())?;
        let metadata =
            serde_json::to_string(&self.metadata).map_err(|error| FieldError::new("metadata", error))?;
        if metadata.len() > METADATA_MAX {
            return Err(FieldError::new(
                "metadata",
                format_args!("must be at most {METADATA_MAX} bytes of JSON"),
            ));
        }
        Ok(())
    }
}

/// The row of a checked document, in place of `old`.
pub(super) fn to_row(
    spec: &TenantSpec,
    group: &GroupRow,
    old: Option<&TenantRow>,
    id: Option<Uuid>,
) -> Result<TenantRow, AdminError> {
    let now = unix_micros();
    Ok(TenantRow {
        id: old.map_or_else(|| id.unwrap_or_else(Uuid::now_v7).to_string(), |row| row.id.clone()),
        version: old.map_or(1, |row| row.version + 1),
        name: spec.name.clone(),
        weight: weight_of(spec.weight),
        group_id: group.id.clone(),
        tokens_per_minute: spec.tokens_per_minute,
        requests_per_minute: spec.requests_per_minute,
        max_in_flight: spec.max_in_flight,
        max_queued: spec.max_queued,
        status: spec.status.as_str().to_owned(),
        allowed_models: to_json_opt(spec.allowed_models.as_ref())?,
        allowed_tools: to_json_opt(spec.allowed_tools.as_ref())?,
        budgets: to_json(&spec.budgets)?,
        brownout: to_json_opt(spec.brownout.as_ref())?,
        metadata: to_json(&spec.metadata)?,
        created_at: old.map_or(now, |row| row.created_at),
        updated_at: now,
    })
}

fn status_of(row: &TenantRow) -> Status {
    if row.status == Status::Active.as_str() { Status::Active } else { Status::Suspended }
}

/// The row as a document, in the group of this name.
pub(in crate::admin) fn spec_of(row: &TenantRow, group: &str) -> Result<TenantSpec, AdminError> {
    Ok(TenantSpec {
        name: row.name.clone(),
        weight: share_of(row.weight),
        group: group.to_owned(),
        tokens_per_minute: row.tokens_per_minute,
        requests_per_minute: row.requests_per_minute,
        max_in_flight: row.max_in_flight,
        max_queued: row.max_queued,
        status: status_of(row),
        allowed_models: from_json_opt(row.allowed_models.as_deref())?,
        allowed_tools: from_json_opt(row.allowed_tools.as_deref())?,
        budgets: from_json(&row.budgets)?,
        brownout: from_json_opt(row.brownout.as_deref())?,
        metadata: from_json(&row.metadata)?,
    })
}

/// The same, of a row in the group of this name.
pub(super) fn view_in(row: &TenantRow, group: &str) -> Result<TenantView, AdminError> {
    Ok(TenantView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(row, group)?,
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    })
}

/// The row as the data plane uses it.
pub(in crate::admin) fn snapshot(plans: &Plans, row: &TenantRow) -> Result<Tenant, AdminError> {
    let number = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    Ok(Tenant {
        id: id_of(row)?,
        name: row.name.as_str().into(),
        weight: share_of(row.weight),
        group: GroupId(row.group_id.parse().map_err(|_| AdminError::Internal)?),
        status: match status_of(row) {
            Status::Active => TenantStatus::Active,
            Status::Suspended => TenantStatus::Suspended,
        },
        max_in_flight: number(row.max_in_flight),
        max_queued: number(row.max_queued),
        allowed_models: name_set(from_json_opt(row.allowed_models.as_deref())?),
        allowed_tools: tool_globs(from_json_opt(row.allowed_tools.as_deref())?),
        brownout: plans.brownout.policy(from_json_opt(row.brownout.as_deref())?.as_ref()),
        limits: limits_of(
            row.tokens_per_minute,
            row.requests_per_minute,
            &from_json::<Vec<BudgetSpec>>(&row.budgets)?,
        ),
    })
}

fn id_of(row: &TenantRow) -> Result<TenantId, AdminError> {
    row.id.parse().map(TenantId).map_err(|_| AdminError::Internal)
}
