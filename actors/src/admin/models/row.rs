//! The row of a model: made from its document, and read back as a document and as the data plane's record.

use super::spec::{HeaderValue, ModelSpec};
use crate::admin::fields::{FactorField, FieldError, PriceField, WriteOnly};
use crate::admin::outbound::{MOVED, same_origin};
use crate::admin::seal::{SealError, Sealer};
use crate::admin::{AdminError, Context, from_json, to_json, upstream_base};
use crate::clock::unix_micros;
use obleth_core::ids::ModelId;
use obleth_core::registry::{Model, Prices};
use obleth_core::response_cache::MarkOf;
use obleth_core::units::{CostFactor, Price};
use obleth_schema::models::ModelRow;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

fn key_place(id: &str) -> String {
    format!("models/{id}/api_key")
}

fn headers_place(id: &str) -> String {
    format!("models/{id}/upstream_headers")
}

fn sealed_headers(
    sealer: &Sealer,
    id: &str,
    headers: &BTreeMap<String, Option<HeaderValue>>,
    stored: &BTreeMap<String, SecretString>,
) -> Result<Option<String>, AdminError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let mut values = BTreeMap::new();
    for (name, value) in headers {
        let value = match (value, stored.get(name)) {
            (Some(HeaderValue(value)), _) | (None, Some(value)) => value,
            (None, None) => {
                let field = format!("upstream_headers.{name}");
                return Err(FieldError::new(field, "has no stored value to keep").into());
            }
        };
        values.insert(name, value.expose_secret());
    }
    let text = serde_json::to_string(&values).map_err(|_| AdminError::Internal)?;
    sealer.seal(&headers_place(id), &text.into()).map(Some).map_err(|_| AdminError::Internal)
}

fn open_headers(sealer: &Sealer, row: &ModelRow) -> Result<BTreeMap<String, SecretString>, SealError> {
    let Some(stored) = &row.upstream_headers_sealed else {
        return Ok(BTreeMap::new());
    };
    let text = sealer.open(&headers_place(&row.id), stored)?;
    serde_json::from_str(text.expose_secret()).map_err(|_| SealError::WrongKey)
}

/// The row of a checked document. `old` is the row it replaces; a new one gets `id` if there is one.
pub(super) fn to_row(
    context: &Context,
    spec: &ModelSpec,
    old: Option<&ModelRow>,
    id: Option<Uuid>,
) -> Result<ModelRow, AdminError> {
    let sealer = &context.sealer;
    spec.check(&context.outbound)?;
    let now = unix_micros();
    let id = old.map_or_else(|| id.unwrap_or_else(Uuid::now_v7).to_string(), |row| row.id.clone());
    let api_key_sealed = match &spec.api_key {
        WriteOnly::Keep => match old.and_then(|row| row.api_key_sealed.as_ref()) {
            Some(stored) => Some(sealer.renew(&key_place(&id), stored).map_err(|_| AdminError::Internal)?),
            None => None,
        },
        WriteOnly::Clear => None,
        WriteOnly::Set(key) => Some(sealer.seal(&key_place(&id), key).map_err(|_| AdminError::Internal)?),
    };
    let stored = old.map(|row| open_headers(sealer, row)).transpose().map_err(|_| AdminError::Internal)?;
    let headers = sealed_headers(sealer, &id, &spec.upstream_headers, &stored.unwrap_or_default())?;
    let pico = |price: Option<PriceField>| price.map(|PriceField(price)| price.pico());
    Ok(ModelRow {
        id,
        version: old.map_or(1, |row| row.version + 1),
        model_name: spec.model_name.clone(),
        upstream_model: spec.upstream_model.clone().unwrap_or_else(|| spec.model_name.clone()),
        api_base: spec.api_base.clone(),
        api_key_sealed,
        input_price: pico(spec.input_cost_per_token),
        cached_input_price: pico(spec.cached_input_cost_per_token),
        output_price: pico(spec.output_cost_per_token),
        context_window: spec.context_window,
        max_output_tokens: spec.max_output_tokens,
        admission_weight: i32::try_from(spec.admission_weight.0.hundredths()).unwrap_or(i32::MAX),
        max_in_flight: spec.max_in_flight,
        enabled: spec.enabled,
        aliases: to_json(&spec.aliases)?,
        cache_enabled: spec.cache_enabled,
        cache_ttl_secs: spec.cache_ttl_secs,
        request_timeout_secs: spec.request_timeout_secs,
        fallback_models: to_json(&spec.fallback_models)?,
        upstream_headers_sealed: headers,
        description: spec.description.clone(),
        created_at: old.map_or(now, |row| row.created_at),
        updated_at: now,
    })
}

/// What of `old` would be kept and sent to another origin is refused: who sends it there can read it there.
pub(super) fn check_origin(spec: &ModelSpec, old: Option<&ModelRow>) -> Result<(), FieldError> {
    let Some(old) = old.filter(|old| !same_origin(old.api_base.as_deref(), spec.api_base.as_deref())) else {
        return Ok(());
    };
    if matches!(spec.api_key, WriteOnly::Keep) && old.api_key_sealed.is_some() {
        return Err(FieldError::new("api_key", MOVED));
    }
    match spec.upstream_headers.iter().find(|(_, value)| value.is_none()) {
        Some((name, _)) => Err(FieldError::new(format!("upstream_headers.{name}"), MOVED)),
        None => Ok(()),
    }
}

fn price_of(pico: Option<i64>) -> Option<Price> {
    pico.and_then(Price::from_pico)
}

fn factor_of(hundredths: i32) -> CostFactor {
    u32::try_from(hundredths).ok().and_then(CostFactor::from_hundredths).unwrap_or(CostFactor::ONE)
}

/// The row as a document, without its secrets.
pub(in crate::admin) fn spec_of(sealer: &Sealer, row: &ModelRow) -> Result<ModelSpec, AdminError> {
    let headers = open_headers(sealer, row).map_err(|_| AdminError::Internal)?;
    Ok(ModelSpec {
        model_name: row.model_name.clone(),
        upstream_model: Some(row.upstream_model.clone()),
        api_base: row.api_base.clone(),
        api_key: WriteOnly::Keep,
        input_cost_per_token: price_of(row.input_price).map(PriceField),
        cached_input_cost_per_token: price_of(row.cached_input_price).map(PriceField),
        output_cost_per_token: price_of(row.output_price).map(PriceField),
        context_window: row.context_window,
        max_output_tokens: row.max_output_tokens,
        admission_weight: FactorField(factor_of(row.admission_weight)),
        max_in_flight: row.max_in_flight,
        enabled: row.enabled,
        aliases: from_json(&row.aliases)?,
        cache_enabled: row.cache_enabled,
        cache_ttl_secs: row.cache_ttl_secs,
        request_timeout_secs: row.request_timeout_secs,
        fallback_models: from_json(&row.fallback_models)?,
        upstream_headers: headers.into_keys().map(|name| (name, None)).collect(),
        description: row.description.clone(),
    })
}

/// The row with its secrets sealed anew, and how many there were; `None` when all are sealed with the new key.
pub(in crate::admin) fn resealed(
    (from, to): (&Sealer, &Sealer),
    row: &ModelRow,
) -> Result<Option<(ModelRow, usize)>, SealError> {
    let mut count = 0;
    let mut renew = |place: String, stored: &Option<String>| match stored.as_deref() {
        Some(text) if !to.is_own(text) => {
            count += 1;
            to.seal(&place, &from.open(&place, text)?).map(Some)
        }
        kept => Ok(kept.map(str::to_owned)),
    };
    let row = ModelRow {
        version: row.version + 1,
        api_key_sealed: renew(key_place(&row.id), &row.api_key_sealed)?,
        upstream_headers_sealed: renew(headers_place(&row.id), &row.upstream_headers_sealed)?,
        ..row.clone()
    };
    Ok((count > 0).then_some((row, count)))
}

/// What an imported document does to the secrets of a model.
#[derive(Debug, Default)]
pub(in crate::admin) struct Kept {
    /// Fields whose secret becomes another one.
    pub changed: Vec<String>,
    /// Headers without a value, stored or given.
    pub missing: Vec<String>,
}

/// Makes of a secret that is stored already for this origin one to keep, and leaves out headers that have no value.
pub(in crate::admin) fn keep_secrets(
    sealer: &Sealer,
    spec: &mut ModelSpec,
    old: Option<&ModelRow>,
) -> Result<Kept, AdminError> {
    let mut kept = Kept::default();
    let unsealed = |_: SealError| AdminError::Internal;
    let same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
    let stays = old.is_some_and(|old| same_origin(old.api_base.as_deref(), spec.api_base.as_deref()));
    if let (WriteOnly::Set(key), Some(old)) = (&spec.api_key, old) {
        let stored = old.api_key_sealed.as_deref().map(|stored| sealer.open(&key_place(&old.id), stored));
        let known = stored.transpose().map_err(unsealed)?.is_some_and(|stored| same(&stored, key));
        if !known {
            kept.changed.push("api_key".to_owned());
        } else if stays {
            spec.api_key = WriteOnly::Keep;
        }
    }
    let stored = old.map(|row| open_headers(sealer, row)).transpose().map_err(unsealed)?.unwrap_or_default();
    for (name, value) in &mut spec.upstream_headers {
        match (&*value, stored.get(name)) {
            (Some(HeaderValue(value)), Some(stored)) if !same(value, stored) => {
                kept.changed.push(format!("upstream_headers.{name}"));
            }
            (Some(_), Some(_)) if stays => *value = None,
            (None, None) => kept.missing.push(name.clone()),
            _ => {}
        }
    }
    spec.upstream_headers.retain(|name, _| !kept.missing.contains(name));
    Ok(kept)
}

/// The row as the data plane uses it.
pub(in crate::admin) fn snapshot(sealer: &Sealer, row: &ModelRow) -> Result<Model, AdminError> {
    let sealed =
        |error: SealError| AdminError::Sealed(format!("the secret of model {:?} {error}", row.model_name));
    let api_key = row.api_key_sealed.as_deref().map(|stored| sealer.open(&key_place(&row.id), stored));
    let headers = open_headers(sealer, row).map_err(sealed)?;
    let names = |text: &str| -> Result<Vec<Arc<str>>, AdminError> {
        let names: Vec<String> = from_json(text)?;
        Ok(names.into_iter().map(Arc::from).collect())
    };
    let tokens = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let number = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    let api_key = api_key.transpose().map_err(sealed)?;
    let exposed: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    let upstream = MarkOf {
        base: row.api_base.as_deref(),
        upstream_model: &row.upstream_model,
        api_key: api_key.as_ref().map(|key| key.expose_secret()),
        headers: &exposed,
    };
    Ok(Model {
        upstream_mark: upstream.mark(),
        cache_ttl: tokens(row.cache_ttl_secs)
            .filter(|seconds| row.cache_enabled && *seconds > 0)
            .map(Duration::from_secs),
        id: ModelId(row.id.parse().map_err(|_| AdminError::Internal)?),
        name: row.model_name.as_str().into(),
        upstream_model: row.upstream_model.as_str().into(),
        api_base: row.api_base.as_deref().and_then(|base| upstream_base(base).ok()).map(Arc::from),
        api_key,
        price: Prices {
            input: price_of(row.input_price),
            cached_input: price_of(row.cached_input_price),
            output: price_of(row.output_price),
        },
        context_window: tokens(row.context_window),
        max_output_tokens: tokens(row.max_output_tokens),
        admission_weight: factor_of(row.admission_weight),
        max_in_flight: number(row.max_in_flight),
        enabled: row.enabled,
        aliases: names(&row.aliases)?,
        fallbacks: names(&row.fallback_models)?,
        request_timeout_secs: number(row.request_timeout_secs),
        upstream_headers: headers.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        created_unix: row.created_at.div_euclid(1_000_000),
    })
}
