//! Types of single fields: each reads its JSON text, says what is wrong with it, and writes it back.

use obleth_core::units::{CostFactor, Price, Usd};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Display;

/// Longest name, in characters.
const NAME_MAX: usize = 256;

/// The decimal in a JSON number or a JSON string, as written: never through a float.
fn decimal_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let text = raw.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).map_err(D::Error::custom);
    }
    if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err(D::Error::custom("must be a number, or a decimal in a string"))
}

macro_rules! decimal_field {
    ($(#[$doc:meta])* $name:ident($unit:ty), $max:literal, $hint:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(pub $unit);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = decimal_text(deserializer)?;
                <$unit>::parse(&text)
                    .map(Self)
                    .map_err(|error| D::Error::custom(format_args!("{error}: {}", $hint)))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                decimal_schema(generator, $max, $hint)
            }
        }
    };
}

/// A decimal in a string; what is read may be a number, too.
fn decimal_schema(generator: &SchemaGenerator, max: u32, hint: &str) -> Schema {
    let text = r"^(0|[1-9][0-9]*)(\.[0-9]{1,12})?$";
    if generator.contract().is_serialize() {
        return json_schema!({"description": hint, "type": "string", "pattern": text});
    }
    let number = json_schema!({"type": "number", "minimum": 0, "maximum": max});
    json_schema!({
        "description": format!("{hint}; a number or a string, read as a decimal from its text."),
        "anyOf": [number, {"type": "string", "pattern": text}],
    })
}

decimal_field!(
    /// USD for one token.
    PriceField(Price),
    1000,
    "USD per token, 0 to 1000, at most 12 decimals"
);
decimal_field!(
    /// An amount in USD.
    UsdField(Usd),
    1_000_000_000,
    "USD, at most 12 decimals"
);

/// `admission_weight`: written back as a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorField(pub CostFactor);

impl<'de> Deserialize<'de> for FactorField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = decimal_text(deserializer)?;
        CostFactor::parse(&text)
            .map(Self)
            .map_err(|error| D::Error::custom(format_args!("{error}: 0.01 to 100, at most 2 decimals")))
    }
}

impl Serialize for FactorField {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl JsonSchema for FactorField {
    fn schema_name() -> Cow<'static, str> {
        "CostFactor".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let number = json_schema!({"type": "number", "minimum": 0.01, "maximum": 100, "multipleOf": 0.01});
        if generator.contract().is_serialize() {
            return number;
        }
        json_schema!({
            "description": "0.01 to 100, at most 2 decimals; a number or a string.",
            "anyOf": [number, {"type": "string", "pattern": r"^[1-9][0-9]?(\.[0-9]{1,2})?$"}],
        })
    }
}

/// A write-only value: absent (keep what is stored), null (clear it) or a new value. Never written back.
#[derive(Clone, Default)]
pub enum WriteOnly<T> {
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> WriteOnly<T> {
    /// Whether there is nothing to write.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for WriteOnly<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T> std::fmt::Debug for WriteOnly<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WriteOnly(..)")
    }
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl FieldError {
    /// `field` is wrong because of `message`.
    pub fn new(field: impl Display, message: impl Display) -> Self {
        Self { field: field.to_string(), message: message.to_string() }
    }
}

/// A name: 1 to 256 characters, none of them a control character.
pub fn check_name(field: impl Display, name: &str) -> Result<(), FieldError> {
    if name.is_empty() || name.chars().count() > NAME_MAX {
        return Err(FieldError::new(field, "must be 1 to 256 characters long"));
    }
    if name.chars().any(char::is_control) {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    Ok(())
}

/// A list of names, each once, at most `limit`.
pub fn check_names(field: &str, names: &[String], limit: usize) -> Result<(), FieldError> {
    if names.len() > limit {
        return Err(FieldError::new(field, format_args!("must have at most {limit} entries")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (position, name) in names.iter().enumerate() {
        check_name(format_args!("{field}[{position}]"), name)?;
        if !seen.insert(name) {
            return Err(FieldError::new(format_args!("{field}[{position}]"), "is a repetition"));
        }
    }
    Ok(())
}

/// A number that, when given, lies in `range`.
pub fn check_range<N>(
    field: &str,
    value: Option<N>,
    range: std::ops::RangeInclusive<N>,
) -> Result<(), FieldError>
where
    N: PartialOrd + Display + Copy,
{
    match value {
        Some(value) if !range.contains(&value) => Err(FieldError::new(
            field,
            format_args!("must be a whole number from {} to {}", range.start(), range.end()),
        )),
        _ => Ok(()),
    }
}
