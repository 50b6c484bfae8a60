//! API keys: made, changed, rotated, deleted. The secret is shown once; only its digest is kept.

use super::commit::Step;
use super::config::KeyItem;
use super::document::{Patch, read};
use super::fields::{FieldError, check_name, check_range};
use super::limits::{BudgetSpec, check_budgets, check_limits, limits_of, name_set};
use super::origin::Origin;
use super::{AdminError, Context, from_json, from_json_opt, rfc3339, tenants, to_json, to_json_opt};
use crate::clock::unix_micros;
use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use chrono::{DateTime, Utc};
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::registry::{Key, KeyDigest, LastUse};
use obleth_schema::changes::{Change, Edit};
use obleth_schema::keys::KeyRow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt::Write;
use uuid::Uuid;

/// As the audit names it.
const KIND: &str = "key";
/// What each secret begins with.
const SECRET: &str = "sk_";
/// Random bytes of a secret: 48 hexadecimal digits.
const SECRET_BYTES: usize = 24;
/// Characters of the secret that are kept to recognise a key by.
const PREFIX: usize = 11;
/// Longest overlap of a rotation: 30 days.
const OVERLAP_MAX: i64 = 2_592_000;

/// The fields of a key (contract §3).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    pub name: String,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub allowed_models: Option<Vec<String>>,
    #[serde(default)]
    pub allowed_tools: Option<Vec<String>>,
    #[serde(default)]
    pub tokens_per_minute: Option<i64>,
    #[serde(default)]
    pub requests_per_minute: Option<i64>,
    #[serde(default)]
    pub max_in_flight: Option<i64>,
    #[serde(default)]
    pub budgets: Vec<BudgetSpec>,
}

/// A key as the management API answers it.
#[derive(Debug, Serialize)]
pub struct KeyView {
    #[serde(flatten)]
    key: KeyDocument,
    last_used_at: Option<String>,
}

/// A key as the audit tells of it: its use is no change.
#[derive(Debug, Serialize)]
pub(super) struct KeyDocument {
    id: String,
    version: i64,
    tenant_id: String,
    key_prefix: String,
    #[serde(flatten)]
    spec: KeySpec,
    created_at: String,
    updated_at: String,
}

impl KeyDocument {
    /// As the API answers it, with the last use, if there was one.
    pub(super) fn used(self, last_used_at: Option<String>) -> KeyView {
        KeyView { key: self, last_used_at }
    }
}

/// A new key, or a rotated one, with the secret that is shown once.
#[derive(Debug, Serialize)]
pub struct KeyWithSecret {
    key: KeyView,
    secret: Shown,
}

/// A secret on its way to the one who asked for it.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Shown(String);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown(..)")
    }
}

impl KeyWithSecret {
    /// The secret.
    pub fn secret(&self) -> &str {
        &self.secret.0
    }
}

/// `POST /keys/{id}/rotate`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    #[serde(default)]
    overlap_secs: Option<i64>,
}

impl KeySpec {
    /// Checks every field.
    pub(super) fn check(&self) -> Result<(), FieldError> {
        check_name("name", &self.name)?;
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

impl Shown {
    /// A new secret behind `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        let mut bytes = [0_u8; SECRET_BYTES];
        OsRng.fill_bytes(&mut bytes);
        Self(bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The secret.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

fn prefix_of(secret: &Shown) -> String {
    secret.0.chars().take(PREFIX).collect()
}

/// The row of a checked document, in place of `old`.
fn changed(spec: &KeySpec, old: KeyRow, now: i64) -> Result<KeyRow, AdminError> {
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

fn fresh(tenant: &str, secret: &Shown, hash: KeyDigest, now: i64) -> KeyRow {
    KeyRow {
        id: Uuid::now_v7().to_string(),
        version: 0,
        tenant_id: tenant.to_owned(),
        name: String::new(),
        key_prefix: prefix_of(secret),
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
pub(super) fn spec_of(row: &KeyRow) -> Result<KeySpec, AdminError> {
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
pub(super) fn view(row: &KeyRow) -> Result<KeyDocument, AdminError> {
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
pub(super) fn snapshot(row: &KeyRow) -> Result<Key, AdminError> {
    let digest = |text: &str| KeyDigest::from_hex(text).ok_or(AdminError::Internal);
    let previous = match (&row.previous_hash, row.previous_until) {
        (Some(hash), Some(until)) => Some((digest(hash)?, until)),
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

pub(super) async fn stored(context: &Context, id: &str) -> Result<KeyRow, AdminError> {
    obleth_schema::keys::by_id(&context.store, id).await?.ok_or(AdminError::NotFound("key"))
}

/// The row of an imported key in place of `old`, and what changes of it that the API does not show.
pub(super) fn imported(
    item: &KeyItem,
    tenant: &str,
    old: Option<&KeyRow>,
    id: Option<Uuid>,
) -> Result<(KeyRow, Vec<String>), AdminError> {
    let now = unix_micros();
    let secret = Shown(item.prefix.clone());
    let base = old.cloned().unwrap_or_else(|| KeyRow {
        id: id.unwrap_or_else(Uuid::now_v7).to_string(),
        ..fresh(tenant, &secret, item.hash, now)
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
    let hash = KeyDigest::of(&secret.0, context.pepper.as_ref());
    let row = changed(&spec, fresh(&tenant.id, &secret, hash, now), now)?;
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
        key_prefix: prefix_of(&secret),
        key_hash: KeyDigest::of(&secret.0, context.pepper.as_ref()).to_hex(),
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
