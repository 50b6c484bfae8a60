//! Groups: the upper level of the fair queue.

use super::commit::Step;
use super::document::{Patch, read};
use super::fields::{FieldError, check_name};
use super::origin::Origin;
use super::{AdminError, Context, rfc3339, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::shapes::{Id, Name, Time, Weight};
use obleth_core::ids::GroupId;
use obleth_core::registry::Group;
use obleth_core::units::Share;
use obleth_schema::changes::{Change, Edit};
use obleth_schema::groups::GroupRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The group every tenant is in that names none. It always exists.
pub const DEFAULT: &str = "default";

/// As the audit names it.
const KIND: &str = "group";

/// The fields of a group.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    #[schemars(with = "Name")]
    pub name: String,
    #[serde(default = "default_share")]
    #[schemars(with = "Weight")]
    pub weight: Share,
}

/// The weight of what names none.
pub(super) const fn default_share() -> Share {
    Share::DEFAULT
}

/// A group as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Group")]
pub struct GroupView {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: GroupSpec,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

pub(super) fn share_of(weight: i32) -> Share {
    u32::try_from(weight).ok().and_then(Share::new).unwrap_or(Share::DEFAULT)
}

pub(super) fn weight_of(share: Share) -> i32 {
    i32::try_from(share.get()).unwrap_or(i32::MAX)
}

/// The row as a document.
pub(super) fn spec_of(row: &GroupRow) -> GroupSpec {
    GroupSpec { name: row.name.clone(), weight: share_of(row.weight) }
}

/// The row as the API answers it.
pub(super) fn view(row: &GroupRow) -> GroupView {
    GroupView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(row),
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    }
}

/// The row as the data plane uses it.
pub(super) fn snapshot(row: &GroupRow) -> Result<Group, AdminError> {
    Ok(Group { id: id_of(row)?, name: row.name.as_str().into(), weight: share_of(row.weight) })
}

fn id_of(row: &GroupRow) -> Result<GroupId, AdminError> {
    row.id.parse().map(GroupId).map_err(|_| AdminError::Internal)
}

pub(super) async fn stored(context: &Context, name: &str) -> Result<Option<GroupRow>, AdminError> {
    Ok(obleth_schema::groups::by_name(&context.store, name).await?)
}

/// The step that puts the group of `spec` in place of `old`; a new one gets `id` if there is one.
pub(super) fn step(
    spec: GroupSpec,
    old: Option<&GroupRow>,
    id: Option<Uuid>,
) -> Result<(Step, GroupView), AdminError> {
    check_name("name", &spec.name)?;
    if old.is_some_and(|old| old.name == DEFAULT) && spec.name != DEFAULT {
        return Err(FieldError::new("name", "the group `default` always exists").into());
    }
    let now = unix_micros();
    let row = GroupRow {
        id: old.map_or_else(|| id.unwrap_or_else(Uuid::now_v7).to_string(), |old| old.id.clone()),
        version: old.map_or(1, |old| old.version + 1),
        name: spec.name,
        weight: weight_of(spec.weight),
        created_at: old.map_or(now, |old| old.created_at),
        updated_at: now,
    };
    let shown = view(&row);
    let step = Step {
        action: if old.is_some() { "update" } else { "create" },
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: to_json_opt(old.map(view).as_ref())?,
        after: Some(to_json(&shown)?),
        change: Change::Group(match old {
            Some(old) => Edit::Update(row, old.version),
            None => Edit::Insert(row),
        }),
    };
    Ok((step, shown))
}

/// The step that deletes a group.
pub(super) fn removal(row: &GroupRow) -> Result<Step, AdminError> {
    Ok(Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: Some(to_json(&view(row))?),
        after: None,
        change: Change::Group(Edit::Delete(row.id.clone())),
    })
}

/// `POST /groups`.
pub(super) async fn create(context: &Context, origin: &Origin, body: &[u8]) -> Result<GroupView, AdminError> {
    let (step, view) = step(read(body)?, None, None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `PATCH /groups/{name}`.
pub(super) async fn patch(
    context: &Context,
    origin: &Origin,
    name: &str,
    body: &[u8],
) -> Result<GroupView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?.ok_or(AdminError::NotFound("group"))?;
    super::check_version(patch.version, old.version)?;
    let (step, view) = step(patch.over(&spec_of(&old))?, Some(&old), None)?;
    context.commit(origin, step).await?;
    Ok(view)
}

/// `DELETE /groups/{name}`.
pub(super) async fn delete(context: &Context, origin: &Origin, name: &str) -> Result<(), AdminError> {
    if name == DEFAULT {
        return Err(AdminError::Conflict("name", "the group `default` always exists"));
    }
    let row = stored(context, name).await?.ok_or(AdminError::NotFound("group"))?;
    context.commit(origin, removal(&row)?).await
}
