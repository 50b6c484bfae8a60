//! Groups: the upper level of the fair queue.

use super::document::{Patch, read};
use super::fields::{FieldError, check_name};
use super::{AdminError, Context, rfc3339};
use crate::clock::unix_micros;
use crate::fairshare::Change;
use obleth_core::fair_queue::GroupPlan;
use obleth_core::ids::GroupId;
use obleth_core::registry::Group;
use obleth_core::units::Share;
use obleth_schema::StoreError;
use obleth_schema::groups::GroupRow;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The group every tenant is in that names none. It always exists.
pub const DEFAULT: &str = "default";

/// The fields of a group.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    pub name: String,
    #[serde(default = "default_share")]
    pub weight: Share,
}

/// The weight of what names none.
pub(super) const fn default_share() -> Share {
    Share::DEFAULT
}

/// A group as the management API answers it.
#[derive(Debug, Serialize)]
pub struct GroupView {
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: GroupSpec,
    created_at: String,
    updated_at: String,
}

pub(super) fn share_of(weight: i32) -> Share {
    u32::try_from(weight).ok().and_then(Share::new).unwrap_or(Share::DEFAULT)
}

pub(super) fn weight_of(share: Share) -> i32 {
    i32::try_from(share.get()).unwrap_or(i32::MAX)
}

/// The row as the API answers it.
pub(super) fn view(row: &GroupRow) -> GroupView {
    GroupView {
        id: row.id.clone(),
        version: row.version,
        spec: GroupSpec { name: row.name.clone(), weight: share_of(row.weight) },
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

/// `POST /groups`.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<GroupView, AdminError> {
    let spec: GroupSpec = read(body)?;
    check_name("name", &spec.name)?;
    let now = unix_micros();
    let row = GroupRow {
        id: Uuid::now_v7().to_string(),
        version: 1,
        name: spec.name,
        weight: weight_of(spec.weight),
        created_at: now,
        updated_at: now,
    };
    obleth_schema::groups::insert(&context.store, &row).await.map_err(duplicate)?;
    publish(context, &row).await?;
    Ok(view(&row))
}

/// `PATCH /groups/{name}`.
pub(super) async fn patch(context: &Context, name: &str, body: &[u8]) -> Result<GroupView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?.ok_or(AdminError::NotFound("group"))?;
    super::check_version(patch.version, old.version)?;
    let spec = patch.over(&view(&old).spec)?;
    check_name("name", &spec.name)?;
    if old.name == DEFAULT && spec.name != DEFAULT {
        return Err(FieldError::new("name", "the group `default` always exists").into());
    }
    let row = GroupRow {
        version: old.version + 1,
        name: spec.name,
        weight: weight_of(spec.weight),
        updated_at: unix_micros(),
        ..old.clone()
    };
    obleth_schema::groups::update(&context.store, &row, old.version).await.map_err(duplicate)?;
    publish(context, &row).await?;
    Ok(view(&row))
}

/// `DELETE /groups/{name}`.
pub(super) async fn delete(context: &Context, name: &str) -> Result<(), AdminError> {
    if name == DEFAULT {
        return Err(AdminError::Conflict("name", "the group `default` always exists"));
    }
    let row = stored(context, name).await?.ok_or(AdminError::NotFound("group"))?;
    match obleth_schema::groups::delete(&context.store, &row.id).await {
        Err(StoreError::Referenced) => {
            return Err(AdminError::Conflict("name", "the group still has tenants"));
        }
        other => other?,
    };
    let id = id_of(&row)?;
    context.publish(|registry| registry.remove_group(id));
    Ok(())
}

async fn publish(context: &Context, row: &GroupRow) -> Result<(), AdminError> {
    let group = snapshot(row)?;
    let plan = GroupPlan { id: group.id, weight: group.weight };
    context.publish(|registry| registry.put_group(group));
    context.reconfigure(vec![Change::Group(plan)]).await
}

fn duplicate(error: StoreError) -> AdminError {
    match error {
        StoreError::Duplicate { .. } => AdminError::Conflict("name", "a group has this name already"),
        other => other.into(),
    }
}
