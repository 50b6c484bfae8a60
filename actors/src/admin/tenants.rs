//! Tenants: the document, its rules, its row, and what the data plane sees of it.

use super::commit::Step;
use super::document::{Patch, read};
use super::fields::{FieldError, check_name, check_range};
use super::groups::{self, DEFAULT, default_share, share_of, weight_of};
use super::limits::{
    BrownoutSpec, BudgetSpec, check_brownout, check_budgets, check_limits, limits_of, name_set, tool_globs,
};
use super::origin::Origin;
use super::{AdminError, Context, from_json, from_json_opt, rfc3339, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::plans::Plans;
use obleth_core::ids::{GroupId, TenantId};
use obleth_core::registry::{Tenant, TenantStatus};
use obleth_core::units::Share;
use obleth_schema::changes::{Change, Edit};
use obleth_schema::groups::GroupRow;
use obleth_schema::tenants::TenantRow;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::Uuid;

/// As the audit names it.
const KIND: &str = "tenant";
/// Bytes of a tenant's metadata.
const METADATA_MAX: usize = 16 * 1024;

/// Whether a tenant may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    pub name: String,
    #[serde(default = "default_share")]
    pub weight: Share,
    #[serde(default = "default_group")]
    pub group: String,
    #[serde(default)]
    pub tokens_per_minute: Option<i64>,
    #[serde(default)]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    pub max_in_flight: Option<i64>,
    #[serde(default)]
    pub max_queued: Option<i64>,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    pub allowed_models: Option<Vec<String>>,
    #[serde(default)]
    pub allowed_tools: Option<Vec<String>>,
    #[serde(default)]
    pub budgets: Vec<BudgetSpec>,
    #[serde(default)]
    pub brownout: Option<BrownoutSpec>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

fn default_group() -> String {
    DEFAULT.to_owned()
}

/// A tenant as the management API answers it.
#[derive(Debug, Serialize)]
pub struct TenantView {
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: TenantSpec,
    created_at: String,
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
    pub(super) fn check(&self) -> Result<(), FieldError> {
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

async fn group_named(context: &Context, name: &str) -> Result<GroupRow, AdminError> {
    let missing = || FieldError::new("group", "no group has this name").into();
    groups::stored(context, name).await?.ok_or_else(missing)
}

fn to_row(
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
pub(super) fn spec_of(row: &TenantRow, group: &str) -> Result<TenantSpec, AdminError> {
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

/// The name of the group that a row is in.
fn group_of(context: &Context, row: &TenantRow) -> Result<Arc<str>, AdminError> {
    let group = row.group_id.parse().map(GroupId).map_err(|_| AdminError::Internal)?;
    let registry = context.registry.load();
    Ok(registry.group(group).map_or_else(|| DEFAULT.into(), |group| Arc::clone(&group.name)))
}

/// The row as the API answers it.
pub(super) fn view(context: &Context, row: &TenantRow) -> Result<TenantView, AdminError> {
    view_in(row, &group_of(context, row)?)
}

/// The same, of a row in the group of this name.
fn view_in(row: &TenantRow, group: &str) -> Result<TenantView, AdminError> {
    Ok(TenantView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(row, group)?,
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    })
}

/// The row as the data plane uses it.
pub(super) fn snapshot(plans: &Plans, row: &TenantRow) -> Result<Tenant, AdminError> {
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

pub(super) async fn stored(context: &Context, id: &str) -> Result<TenantRow, AdminError> {
    obleth_schema::tenants::by_id(&context.store, id).await?.ok_or(AdminError::NotFound("tenant"))
}

/// The step that puts the tenant of a checked document, which names `group`, in place of `old`, which comes
/// with the name of the group it was in. A new one gets `id` if there is one.
pub(super) fn step(
    spec: &TenantSpec,
    group: &GroupRow,
    old: Option<(&TenantRow, &str)>,
    id: Option<Uuid>,
) -> Result<(Step, TenantView), AdminError> {
    let row = to_row(spec, group, old.map(|(row, _)| row), id)?;
    let shown = view_in(&row, &group.name)?;
    let before = old.map(|(row, group)| view_in(row, group)).transpose()?;
    let step = Step {
        action: if old.is_some() { "update" } else { "create" },
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: to_json_opt(before.as_ref())?,
        after: Some(to_json(&shown)?),
        change: Change::Tenant(match old {
            Some((old, _)) => Edit::Update(row, old.version),
            None => Edit::Insert(row),
        }),
    };
    Ok((step, shown))
}

/// The step that deletes a tenant, and its keys with it.
pub(super) fn removal(row: &TenantRow, group: &str) -> Result<Step, AdminError> {
    Ok(Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: Some(to_json(&view_in(row, group)?)?),
        after: None,
        change: Change::Tenant(Edit::Delete(row.id.clone())),
    })
}

/// `POST /tenants`.
pub(super) async fn create(
    context: &Context,
    origin: &Origin,
    body: &[u8],
) -> Result<TenantView, AdminError> {
    let spec: TenantSpec = read(body)?;
    spec.check()?;
    let group = group_named(context, &spec.group).await?;
    let (step, view) = step(&spec, &group, None, None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `PATCH /tenants/{id}`.
pub(super) async fn patch(
    context: &Context,
    origin: &Origin,
    id: &str,
    body: &[u8],
) -> Result<TenantView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, id).await?;
    super::check_version(patch.version, old.version)?;
    let old_group = group_of(context, &old)?;
    let spec: TenantSpec = patch.over(&spec_of(&old, &old_group)?)?;
    spec.check()?;
    let group = group_named(context, &spec.group).await?;
    let (step, view) = step(&spec, &group, Some((&old, &old_group)), None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `DELETE /tenants/{id}`, with its keys. Its ledger rows stay.
pub(super) async fn delete(context: &Context, origin: &Origin, id: &str) -> Result<(), AdminError> {
    let row = stored(context, id).await?;
    let group = group_of(context, &row)?;
    context.commit(origin, removal(&row, &group)?).await
}
