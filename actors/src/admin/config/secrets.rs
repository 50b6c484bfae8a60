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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_refers_to_the_secrets_of_the_gateway_itself() {
        for (name, named, environment) in [
            ("OBLETH_SECRET_QWEN", true, true),
            ("QWEN_KEY", false, true),
            ("OBLETH_ADMIN_TOKEN", false, false),
            ("OBLETH_ENCRYPTION_KEY", false, false),
            ("OBLETH_NEW_ENCRYPTION_KEY", false, false),
            ("OBLETH_API_KEY_PEPPER", false, false),
            ("OBLETH_DATABASE_URL", false, false),
            ("OBLETH_SECRET", false, false),
        ] {
            assert_eq!(
                (Trust::Named.allows(name), Trust::Environment.allows(name)),
                (named, environment),
                "{name}"
            );
        }
    }

    #[test]
    fn a_reference_that_is_not_allowed_is_refused_without_a_look_at_the_variable() {
        // `PATH` is set wherever tests run.
        let raw = RawValue::from_string(r#"{"env":"PATH"}"#.to_owned()).unwrap();
        let refused = resolve("api_key", &raw, Trust::Named).unwrap_err();
        assert!(refused.message.contains("OBLETH_SECRET_"), "{}", refused.message);
        assert!(resolve("api_key", &raw, Trust::Environment).unwrap().is_some());
        let own = RawValue::from_string(r#"{"env":"OBLETH_ADMIN_TOKEN"}"#.to_owned()).unwrap();
        let refused = resolve("api_key", &own, Trust::Environment).unwrap_err();
        assert!(refused.message.contains("may refer"), "{}", refused.message);
    }
}
