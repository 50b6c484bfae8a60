//! References to secrets: `{"env": "NAME"}` stands for the value of a variable of this process.
//!
//! Invariant: a document that came over the network cannot read the secrets of the gateway itself.

use super::super::document::read;
use super::super::fields::FieldError;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Display;

/// Variables meant for references; every token that may write may use them.
const OURS: &str = "OBLETH_SECRET_";
/// All other variables of this prefix are the gateway's own, and refused.
const RESERVED: &str = "OBLETH_";

/// Which variables a document may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that begin with `OBLETH_SECRET_`.
    Named,
    /// All but the gateway's own.
    Environment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    env: String,
}

impl Trust {
    fn allows(self, name: &str) -> bool {
        name.starts_with(OURS) || (self == Self::Environment && !name.starts_with(RESERVED))
    }
}

/// What `raw` stands for: itself, or the variable it refers to.
pub(super) fn resolve(
    field: impl Display,
    raw: &RawValue,
    trust: Trust,
) -> Result<Option<Box<RawValue>>, FieldError> {
    if !raw.get().starts_with('{') {
        return Ok(None);
    }
    let Reference { env } = read(raw.get().as_bytes())
        .map_err(|_| FieldError::new(&field, "must be a string, null, or {\"env\": \"NAME\"}"))?;
    if !trust.allows(&env) {
        let text = "may refer to variables that begin with OBLETH_SECRET_ \
             (others that are not the gateway's own: with the role admin)";
        return Err(FieldError::new(field, text));
    }
    // The value is never part of an error.
    let value = std::env::var(&env).map_err(|_| {
        FieldError::new(&field, format_args!("refers to the variable {env}, which is not set"))
    })?;
    serde_json::value::to_raw_value(&value).map(Some).map_err(|error| FieldError::new(field, error))
}
