//! API keys: made, changed, rotated, deleted. The secret is shown once; only its digest is kept.

use super::commit::Step;
use super::document::{Patch, read};
use super::fields::{FieldError, check_range};
use super::origin::Origin;
use super::{AdminError, Context, tenants, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::shapes::Secret;
use obleth_core::registry::KeyDigest;
use obleth_schema::changes::{Change, Edit};
use obleth_schema::keys::KeyRow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

mod row;
mod secret;

pub(super) use row::{KeyDocument, imported, snapshot, spec_of, view};
pub use row::{KeySpec, KeyView};
use row::{changed, fresh};
pub(super) use secret::Shown;

/// As the audit names it.
const KIND: &str = "key";
/// What each secret begins with.
const SECRET: &str = "sk_";
/// Longest overlap of a rotation: 30 days.
const OVERLAP_MAX: i64 = 2_592_000;

/// A new key, or a rotated one, with the secret that is shown once.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyWithSecret {
    key: KeyView,
    #[schemars(with = "Secret")]
    secret: Shown,
}

impl KeyWithSecret {
    /// The secret.
    pub fn secret(&self) -> &str {
        self.secret.text()
    }
}

/// `POST /keys/{id}/rotate`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rotation")]
pub struct Rotate {
    #[serde(default)]
    #[schemars(range(min = 0, max = 2_592_000))]
    overlap_secs: Option<i64>,
}

pub(super) async fn stored(context: &Context, id: &str) -> Result<KeyRow, AdminError> {
    obleth_schema::keys::by_id(&context.store, id).await?.ok_or(AdminError::NotFound("key"))
}

/// The step that writes `row` in place of `old`.
pub(super) fn step(
    action: &'static str,
    row: KeyRow,
    old: Option<&KeyRow>,
) -> Result<(Step, KeyDocument), AdminError> {
    let shown = view(&row)?;
    let before = old.map(view).transpose()?;
    let step = Step {
        action,
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: to_json_opt(before.as_ref())?,
        after: Some(to_json(&shown)?),
        change: Change::Key(match old {
            Some(old) => Edit::Update(row, old.version),
            None => Edit::Insert(row),
        }),
    };
    Ok((step, shown))
}

/// The step that deletes a key.
pub(super) fn removal(row: &KeyRow) -> Result<Step, AdminError> {
    Ok(Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: Some(to_json(&view(row)?)?),
        after: None,
        change: Change::Key(Edit::Delete(row.id.clone())),
    })
}

/// `POST /tenants/{id}/keys`.
pub(super) async fn create(
    context: &Context,
    origin: &Origin,
    tenant: &str,
    body: &[u8],
) -> Result<KeyWithSecret, AdminError> {
    let spec: KeySpec = read(body)?;
    spec.check()?;
    let tenant = tenants::stored(context, tenant).await?;
    let secret = Shown::new(SECRET);
    let now = unix_micros();
    let hash = KeyDigest::of(secret.text(), context.pepper.as_ref());
    let row = changed(&spec, fresh(&tenant.id, secret.prefix(), hash, now), now)?;
    let (step, key) = step("create", row, None)?;
    context.commit(origin, step).await?;
    Ok(KeyWithSecret { key: key.used(None), secret })
}

/// The tenant that a patch moves the key to; that there is one of this id is the database's to say.
fn new_tenant(patch: &mut Patch) -> Result<Option<String>, FieldError> {
    let wrong = || FieldError::new("tenant_id", "must be the id of a tenant");
    let parse = |raw: Box<RawValue>| serde_json::from_str::<Uuid>(raw.get()).map_err(|_| wrong());
    Ok(patch.remove("tenant_id").map(parse).transpose()?.map(|id| id.to_string()))
}

/// `PATCH /keys/{id}`: `tenant_id` moves it. What waits or runs stays with the tenant it came under.
pub(super) async fn patch(
    context: &Context,
    origin: &Origin,
    id: &str,
    body: &[u8],
) -> Result<KeyView, AdminError> {
    let mut patch = Patch::read(body)?;
    let old = stored(context, id).await?;
    super::check_version(patch.version, old.version)?;
    let tenant_id = new_tenant(&mut patch)?.unwrap_or_else(|| old.tenant_id.clone());
    let spec: KeySpec = patch.over(&spec_of(&old)?)?;
    spec.check()?;
    let row = KeyRow { tenant_id, ..changed(&spec, old.clone(), unix_micros())? };
    let (step, view) = step("update", row, Some(&old))?;
    let used = context.last_use(&old.id).await?;
    context.commit(origin, step).await?;
    Ok(view.used(used))
}

/// `POST /keys/{id}/rotate`: a new secret; the old one works for the overlap.
pub(super) async fn rotate(
    context: &Context,
    origin: &Origin,
    id: &str,
    body: &[u8],
) -> Result<KeyWithSecret, AdminError> {
    let rotate: Rotate = if body.is_empty() { Rotate::default() } else { read(body)? };
    check_range("overlap_secs", rotate.overlap_secs, 0..=OVERLAP_MAX)?;
    let overlap = rotate.overlap_secs.unwrap_or(0);
    let old = stored(context, id).await?;
    let secret = Shown::new(SECRET);
    let now = unix_micros();
    let kept = (overlap > 0).then(|| (old.key_hash.clone(), now + overlap * 1_000_000));
    let (previous_hash, previous_until) = kept.unzip();
    let row = KeyRow {
        version: old.version + 1,
        key_prefix: secret.prefix(),
        key_hash: KeyDigest::of(secret.text(), context.pepper.as_ref()).to_hex(),
        previous_hash,
        previous_until,
        updated_at: now,
        ..old.clone()
    };
    let (step, key) = step("rotate", row, Some(&old))?;
    // Before the change: after it, nothing may keep the secret from its owner.
    let used = context.last_use(&old.id).await?;
    context.commit(origin, step).await?;
    Ok(KeyWithSecret { key: key.used(used), secret })
}

/// `DELETE /keys/{id}`.
pub(super) async fn delete(context: &Context, origin: &Origin, id: &str) -> Result<(), AdminError> {
    let row = stored(context, id).await?;
    context.commit(origin, removal(&row)?).await
}
