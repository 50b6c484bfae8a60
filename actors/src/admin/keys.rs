//! API keys: made, changed, rotated, deleted. The secret is shown once; only its digest is kept.

use super::document::{Patch, read};
use super::fields::{FieldError, check_name, check_range};
use super::limits::{BudgetSpec, check_budgets, check_limits, limits_of, name_set};
use super::{AdminError, Context, from_json, from_json_opt, rfc3339, tenants, to_json, to_json_opt};
use crate::clock::unix_micros;
use crate::fairshare::Change;
use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use chrono::{DateTime, Utc};
use obleth_core::fair_queue::NO_CAP;
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::registry::{Key, KeyDigest};
use obleth_schema::StoreError;
use obleth_schema::keys::KeyRow;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use uuid::Uuid;

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
    id: String,
    version: i64,
    tenant_id: String,
    key_prefix: String,
    #[serde(flatten)]
    spec: KeySpec,
    created_at: String,
    updated_at: String,
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
    fn check(&self) -> Result<(), FieldError> {
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

fn new_secret() -> Shown {
    let mut bytes = [0_u8; SECRET_BYTES];
    OsRng.fill_bytes(&mut bytes);
    Shown(bytes.iter().fold("sk_".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
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

fn fresh(context: &Context, tenant: &str, secret: &Shown, now: i64) -> KeyRow {
    KeyRow {
        id: Uuid::now_v7().to_string(),
        version: 0,
        tenant_id: tenant.to_owned(),
        name: String::new(),
        key_prefix: prefix_of(secret),
        key_hash: KeyDigest::of(&secret.0, context.pepper.as_ref()).to_hex(),
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

fn spec_of(row: &KeyRow) -> Result<KeySpec, AdminError> {
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

/// The row as the API answers it.
pub(super) fn view(row: &KeyRow) -> Result<KeyView, AdminError> {
    Ok(KeyView {
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
    })
}

fn id_of(row: &KeyRow) -> Result<KeyId, AdminError> {
    row.id.parse().map(KeyId).map_err(|_| AdminError::Internal)
}

pub(super) async fn stored(context: &Context, id: &str) -> Result<KeyRow, AdminError> {
    obleth_schema::keys::by_id(&context.store, id).await?.ok_or(AdminError::NotFound("key"))
}

async fn publish(context: &Context, row: &KeyRow) -> Result<(), AdminError> {
    let key = snapshot(row)?;
    let mut changes = vec![Change::Key(key.tenant, key.id, key.max_in_flight.unwrap_or(NO_CAP))];
    if key.disabled || key.expires_at.is_some_and(|at| at <= unix_micros()) {
        changes.push(Change::DismissKey(key.tenant, key.id));
    }
    context.publish(|registry| registry.put_key(key));
    context.reconfigure(changes).await
}

/// `POST /tenants/{id}/keys`.
pub(super) async fn create(
    context: &Context,
    tenant: &str,
    body: &[u8],
) -> Result<KeyWithSecret, AdminError> {
    let spec: KeySpec = read(body)?;
    spec.check()?;
    let tenant = tenants::stored(context, tenant).await?;
    let secret = new_secret();
    let now = unix_micros();
    let row = changed(&spec, fresh(context, &tenant.id, &secret, now), now)?;
    match obleth_schema::keys::insert(&context.store, &row).await {
        Err(StoreError::Referenced) => return Err(AdminError::NotFound("tenant")),
        other => other?,
    }
    publish(context, &row).await?;
    Ok(KeyWithSecret { key: view(&row)?, secret })
}

/// `PATCH /keys/{id}`.
pub(super) async fn patch(context: &Context, id: &str, body: &[u8]) -> Result<KeyView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, id).await?;
    super::check_version(patch.version, old.version)?;
    let spec: KeySpec = patch.over(&spec_of(&old)?)?;
    spec.check()?;
    let expected = old.version;
    let row = changed(&spec, old, unix_micros())?;
    obleth_schema::keys::update(&context.store, &row, expected).await?;
    publish(context, &row).await?;
    view(&row)
}

/// `POST /keys/{id}/rotate`: a new secret; the old one works for the overlap.
pub(super) async fn rotate(context: &Context, id: &str, body: &[u8]) -> Result<KeyWithSecret, AdminError> {
    let rotate: Rotate = if body.is_empty() { Rotate::default() } else { read(body)? };
    check_range("overlap_secs", rotate.overlap_secs, 0..=OVERLAP_MAX)?;
    let overlap = rotate.overlap_secs.unwrap_or(0);
    let old = stored(context, id).await?;
    let secret = new_secret();
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
    obleth_schema::keys::update(&context.store, &row, old.version).await?;
    publish(context, &row).await?;
    Ok(KeyWithSecret { key: view(&row)?, secret })
}

/// `DELETE /keys/{id}`. What it has queued is refused.
pub(super) async fn delete(context: &Context, id: &str) -> Result<(), AdminError> {
    let row = stored(context, id).await?;
    obleth_schema::keys::delete(&context.store, &row.id).await?;
    let key = snapshot(&row)?;
    context.publish(|registry| registry.remove_key(key.id));
    context.reconfigure(vec![Change::DismissKey(key.tenant, key.id)]).await
}
