//! Models: the document, its rules, its row, and what the data plane sees of it.

use super::document::{Patch, read};
use super::fields::{FactorField, FieldError, PriceField, WriteOnly, check_name, check_names, check_range};
use super::seal::{SealError, Sealer};
use super::{AdminError, Context, rfc3339};
use crate::clock::unix_micros;
use obleth_core::ids::ModelId;
use obleth_core::registry::{Model, Prices};
use obleth_core::units::{CostFactor, Price};
use obleth_schema::models::ModelRow;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// Aliases, fallbacks and headers a model may have.
const LIST_MAX: usize = 64;

/// The fields of a model (contract §3).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub model_name: String,
    #[serde(default)]
    pub upstream_model: Option<String>,
    #[serde(default)]
    pub api_base: Option<String>,
    #[serde(default, skip_serializing_if = "WriteOnly::is_keep", serialize_with = "never")]
    pub api_key: WriteOnly<SecretString>,
    #[serde(default)]
    pub input_cost_per_token: Option<PriceField>,
    #[serde(default)]
    pub cached_input_cost_per_token: Option<PriceField>,
    #[serde(default)]
    pub output_cost_per_token: Option<PriceField>,
    #[serde(default)]
    pub context_window: Option<i64>,
    #[serde(default)]
    pub max_output_tokens: Option<i64>,
    #[serde(default = "weight_one")]
    pub admission_weight: FactorField,
    #[serde(default)]
    pub max_in_flight: Option<i64>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub cache_enabled: bool,
    #[serde(default)]
    pub cache_ttl_secs: Option<i64>,
    #[serde(default)]
    pub request_timeout_secs: Option<i64>,
    #[serde(default)]
    pub fallback_models: Vec<String>,
    /// Values are write-only: they are shown as null, and null keeps the stored value.
    #[serde(default)]
    pub upstream_headers: BTreeMap<String, Option<HeaderValue>>,
    #[serde(default)]
    pub description: Option<String>,
}

/// A header value that is written and never read back.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct HeaderValue(SecretString);

impl Serialize for HeaderValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

fn never<S: serde::Serializer>(_: &WriteOnly<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

const fn weight_one() -> FactorField {
    FactorField(CostFactor::ONE)
}

pub(super) const fn yes() -> bool {
    true
}

/// A model as the management API answers it.
#[derive(Debug, Serialize)]
pub struct ModelView {
    id: String,
    version: i64,
    #[serde(flatten)]
    spec: ModelSpec,
    api_key_set: bool,
    created_at: String,
    updated_at: String,
}

impl ModelSpec {
    fn check(&self) -> Result<(), FieldError> {
        check_name("model_name", &self.model_name)?;
        if let Some(name) = &self.upstream_model {
            check_name("upstream_model", name)?;
        }
        if let Some(base) = &self.api_base {
            super::upstream_base(base).map_err(|message| FieldError::new("api_base", message))?;
        }
        if let WriteOnly::Set(key) = &self.api_key {
            check_header_value("api_key", key.expose_secret())?;
        }
        check_range("context_window", self.context_window, 1..=1_000_000_000)?;
        check_range("max_output_tokens", self.max_output_tokens, 1..=1_000_000_000)?;
        check_range("max_in_flight", self.max_in_flight, 1..=1_000_000)?;
        check_range("cache_ttl_secs", self.cache_ttl_secs, 0..=31_536_000)?;
        check_range("request_timeout_secs", self.request_timeout_secs, 1..=86_400)?;
        check_names("aliases", &self.aliases, LIST_MAX)?;
        if self.aliases.contains(&self.model_name) {
            return Err(FieldError::new("aliases", "must not contain the model's own name"));
        }
        check_names("fallback_models", &self.fallback_models, LIST_MAX)?;
        self.check_headers()?;
        match &self.description {
            Some(text) if text.chars().count() > 4096 => {
                Err(FieldError::new("description", "must be at most 4096 characters long"))
            }
            _ => Ok(()),
        }
    }

    fn check_headers(&self) -> Result<(), FieldError> {
        if self.upstream_headers.len() > LIST_MAX {
            return Err(FieldError::new(
                "upstream_headers",
                format_args!("must have at most {LIST_MAX} entries"),
            ));
        }
        for (name, value) in &self.upstream_headers {
            let field = format!("upstream_headers.{name}");
            if !is_header_name(name) {
                return Err(FieldError::new(field, "is not a header name"));
            }
            if FRAMING.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
                return Err(FieldError::new(field, "is set by the gateway itself"));
            }
            if let Some(HeaderValue(value)) = value {
                check_header_value(&field, value.expose_secret())?;
            }
        }
        Ok(())
    }
}

/// Headers that frame a message or name its parties; an operator must not set them.
const FRAMING: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "x-request-id",
];

/// RFC 9110 §5.6.2: a token.
fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(token)
}

fn check_header_value(field: &str, value: &str) -> Result<(), FieldError> {
    let visible = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !value.is_empty() && value.len() <= 8192 && visible {
        return Ok(());
    }
    Err(FieldError::new(field, "must be 1 to 8192 visible ASCII characters"))
}

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

/// The row of a checked document. `old` is the row it replaces.
fn to_row(
    sealer: &Sealer,
    spec: &ModelSpec,
    old: Option<&ModelRow>,
    now: i64,
) -> Result<ModelRow, AdminError> {
    spec.check()?;
    let id = old.map_or_else(|| Uuid::now_v7().to_string(), |row| row.id.clone());
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
        aliases: super::to_json(&spec.aliases)?,
        cache_enabled: spec.cache_enabled,
        cache_ttl_secs: spec.cache_ttl_secs,
        request_timeout_secs: spec.request_timeout_secs,
        fallback_models: super::to_json(&spec.fallback_models)?,
        upstream_headers_sealed: headers,
        description: spec.description.clone(),
        created_at: old.map_or(now, |row| row.created_at),
        updated_at: now,
    })
}

fn price_of(pico: Option<i64>) -> Option<Price> {
    pico.and_then(Price::from_pico)
}

fn factor_of(hundredths: i32) -> CostFactor {
    u32::try_from(hundredths).ok().and_then(CostFactor::from_hundredths).unwrap_or(CostFactor::ONE)
}

fn spec_of(sealer: &Sealer, row: &ModelRow) -> Result<ModelSpec, AdminError> {
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
        aliases: super::from_json(&row.aliases)?,
        cache_enabled: row.cache_enabled,
        cache_ttl_secs: row.cache_ttl_secs,
        request_timeout_secs: row.request_timeout_secs,
        fallback_models: super::from_json(&row.fallback_models)?,
        upstream_headers: headers.into_keys().map(|name| (name, None)).collect(),
        description: row.description.clone(),
    })
}

/// The row as the API answers it.
pub(super) fn view(sealer: &Sealer, row: &ModelRow) -> Result<ModelView, AdminError> {
    Ok(ModelView {
        id: row.id.clone(),
        version: row.version,
        spec: spec_of(sealer, row)?,
        api_key_set: row.api_key_sealed.is_some(),
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.updated_at),
    })
}

/// The row as the data plane uses it.
pub(super) fn snapshot(sealer: &Sealer, row: &ModelRow) -> Result<Model, AdminError> {
    let sealed =
        |error: SealError| AdminError::Sealed(format!("the secret of model {:?} {error}", row.model_name));
    let api_key = row.api_key_sealed.as_deref().map(|stored| sealer.open(&key_place(&row.id), stored));
    let headers = open_headers(sealer, row).map_err(sealed)?;
    let aliases: Vec<String> = super::from_json(&row.aliases)?;
    let tokens = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let number = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    Ok(Model {
        id: ModelId(row.id.parse().map_err(|_| AdminError::Internal)?),
        name: row.model_name.as_str().into(),
        upstream_model: row.upstream_model.as_str().into(),
        api_base: row.api_base.as_deref().and_then(|base| super::upstream_base(base).ok()).map(Arc::from),
        api_key: api_key.transpose().map_err(sealed)?,
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
        aliases: aliases.iter().map(|name| Arc::from(name.as_str())).collect(),
        request_timeout_secs: number(row.request_timeout_secs),
        upstream_headers: headers.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        created_unix: row.created_at.div_euclid(1_000_000),
    })
}

pub(super) async fn stored(context: &Context, name: &str) -> Result<ModelRow, AdminError> {
    obleth_schema::models::by_name(&context.store, name).await?.ok_or(AdminError::NotFound("model"))
}

/// `POST /models`.
pub(super) async fn create(context: &Context, body: &[u8]) -> Result<ModelView, AdminError> {
    let spec: ModelSpec = read(body)?;
    let row = to_row(&context.sealer, &spec, None, unix_micros())?;
    obleth_schema::models::insert(&context.store, &row).await.map_err(duplicate)?;
    publish(context, &row).await?;
    view(&context.sealer, &row)
}

/// `PATCH /models/{model_name}`.
pub(super) async fn patch(context: &Context, name: &str, body: &[u8]) -> Result<ModelView, AdminError> {
    let patch = Patch::read(body)?;
    let old = stored(context, name).await?;
    super::check_version(patch.version, old.version)?;
    let spec = patch.over(&spec_of(&context.sealer, &old)?)?;
    replace(context, &spec, &old).await
}

/// `PUT /models/{model_name}`: the whole document; a model that does not exist yet is created (true).
pub(super) async fn put(context: &Context, name: &str, body: &[u8]) -> Result<(ModelView, bool), AdminError> {
    let mut patch = Patch::read(body)?;
    patch.default_field("model_name", name)?;
    match obleth_schema::models::by_name(&context.store, name).await? {
        Some(old) => {
            super::check_version(patch.version, old.version)?;
            let spec: ModelSpec = patch.whole()?;
            Ok((replace(context, &spec, &old).await?, false))
        }
        None => Ok((create(context, &patch.text()?).await?, true)),
    }
}

async fn replace(context: &Context, spec: &ModelSpec, old: &ModelRow) -> Result<ModelView, AdminError> {
    let row = to_row(&context.sealer, spec, Some(old), unix_micros())?;
    obleth_schema::models::update(&context.store, &row, old.version).await.map_err(duplicate)?;
    publish(context, &row).await?;
    view(&context.sealer, &row)
}

/// `DELETE /models/{model_name}`.
pub(super) async fn delete(context: &Context, name: &str) -> Result<(), AdminError> {
    let row = stored(context, name).await?;
    obleth_schema::models::delete(&context.store, &row.id).await?;
    let id = ModelId(row.id.parse().map_err(|_| AdminError::Internal)?);
    context.publish(|registry| registry.remove_model(id));
    context.reconfigure(vec![crate::fairshare::Change::RemoveModel(id)]).await
}

async fn publish(context: &Context, row: &ModelRow) -> Result<(), AdminError> {
    let model = snapshot(&context.sealer, row)?;
    let plan = context.plans.model(&model);
    context.publish(|registry| registry.put_model(model));
    context.reconfigure(vec![crate::fairshare::Change::Model(plan)]).await
}

fn duplicate(error: obleth_schema::StoreError) -> AdminError {
    match error {
        obleth_schema::StoreError::Duplicate { .. } => {
            AdminError::Conflict("model_name", "a model has this name or alias already")
        }
        other => other.into(),
    }
}
