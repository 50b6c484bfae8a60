//! The document of a model, and its rules.

use crate::admin::fields::{FactorField, FieldError, PriceField, WriteOnly};
use crate::admin::fields::{check_name, check_names, check_range};
use crate::admin::{check_literal, upstream_base};
use crate::shapes::Name;
use obleth_core::net::Outbound;
use obleth_core::units::CostFactor;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Aliases, fallbacks and headers a model may have.
const LIST_MAX: usize = 64;

/// The fields of a model (contract §3).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    #[schemars(with = "Name")]
    pub model_name: String,
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    pub upstream_model: Option<String>,
    #[serde(default)]
    #[schemars(url, length(max = 2048), regex(pattern = "^https?://"))]
    pub api_base: Option<String>,
    #[serde(default, skip_serializing_if = "WriteOnly::is_keep", serialize_with = "never")]
    #[schemars(with = "Option<HeaderValue>", extend("writeOnly" = true))]
    pub api_key: WriteOnly<SecretString>,
    #[serde(default)]
    pub input_cost_per_token: Option<PriceField>,
    #[serde(default)]
    pub cached_input_cost_per_token: Option<PriceField>,
    #[serde(default)]
    pub output_cost_per_token: Option<PriceField>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context_window: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output_tokens: Option<i64>,
    #[serde(default = "weight_one")]
    pub admission_weight: FactorField,
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<i64>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    #[schemars(with = "BTreeSet<Name>", length(max = 64))]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub cache_enabled: bool,
    #[serde(default)]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub cache_ttl_secs: Option<i64>,
    #[serde(default)]
    #[schemars(range(min = 1, max = 86_400))]
    pub request_timeout_secs: Option<i64>,
    #[serde(default)]
    #[schemars(with = "BTreeSet<Name>", length(max = 64))]
    pub fallback_models: Vec<String>,
    /// Values are write-only: they are shown as null, and null keeps the stored value.
    #[serde(default)]
    #[schemars(extend("maxProperties" = LIST_MAX, "propertyNames" = {"pattern": HEADER_NAME}))]
    pub upstream_headers: BTreeMap<String, Option<HeaderValue>>,
    #[serde(default)]
    #[schemars(length(max = 4096), regex(pattern = r"^[^\u0000]*$"))]
    pub description: Option<String>,
}

/// A header value that is written and never read back.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct HeaderValue(pub(super) SecretString);

impl Serialize for HeaderValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_none()
    }
}

impl JsonSchema for HeaderValue {
    fn schema_name() -> Cow<'static, str> {
        "HeaderValue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        if generator.contract().is_serialize() {
            return json_schema!({"type": "null"});
        }
        json_schema!({"type": "string", "minLength": 1, "maxLength": 8192, "pattern": "^[ -~]*$"})
    }
}

pub(in crate::admin) fn never<S: serde::Serializer>(
    _: &WriteOnly<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

const fn weight_one() -> FactorField {
    FactorField(CostFactor::ONE)
}

pub(in crate::admin) const fn yes() -> bool {
    true
}

impl ModelSpec {
    /// Checks every field.
    pub(in crate::admin) fn check(&self, outbound: &Outbound) -> Result<(), FieldError> {
        check_name("model_name", &self.model_name)?;
        if self.model_name.ends_with("/check") {
            // `/models/{name}/check` is a route of its own.
            return Err(FieldError::new("model_name", "must not end in /check"));
        }
        if let Some(name) = &self.upstream_model {
            check_name("upstream_model", name)?;
        }
        if let Some(base) = &self.api_base {
            let allowed = upstream_base(base).and_then(|base| check_literal(outbound, &base));
            allowed.map_err(|message| FieldError::new("api_base", message))?;
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
        let own = |name: &String| *name == self.model_name || self.aliases.contains(name);
        if self.fallback_models.iter().any(own) {
            return Err(FieldError::new("fallback_models", "must not contain the model's own name or alias"));
        }
        self.check_headers()?;
        match &self.description {
            Some(text) if text.chars().count() > 4096 => {
                Err(FieldError::new("description", "must be at most 4096 characters long"))
            }
            Some(text) if text.contains('\0') => Err(FieldError::new("description", "must not contain NUL")),
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

/// The same as [`is_header_name`], as a pattern.
const HEADER_NAME: &str = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]{1,128}$";

/// RFC 9110 §5.6.2: a token.
fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 128 && name.bytes().all(token)
}

pub(in crate::admin) fn check_header_value(field: &str, value: &str) -> Result<(), FieldError> {
    let visible = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if !value.is_empty() && value.len() <= 8192 && visible {
        return Ok(());
    }
    Err(FieldError::new(field, "must be 1 to 8192 visible ASCII characters"))
}
