//! Tenants: what the management API does with them.

use super::commit::Step;
use super::document::{Patch, read};
use super::fields::FieldError;
use super::groups::{self, DEFAULT};
use super::origin::Origin;
use super::{AdminError, Context, to_json, to_json_opt};
use obleth_core::ids::GroupId;
use obleth_schema::changes::{Change, Edit};
use obleth_schema::groups::GroupRow;
use obleth_schema::tenants::TenantRow;
use std::sync::Arc;
use uuid::Uuid;

mod row;

pub use row::{TenantSpec, TenantView};
pub(super) use row::{snapshot, spec_of};
use row::{to_row, view_in};

/// As the audit names it.
const KIND: &str = "tenant";
async fn group_named(context: &Context, name: &str) -> Result<GroupRow, AdminError> {
    let missing = || FieldError::new("group", "no group has this name").into();
    groups::stored(context, name).await?.ok_or_else(missing)
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
