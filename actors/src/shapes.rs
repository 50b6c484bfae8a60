//! What single values look like in the description of the management API: types that stand for a text, a number, or a
//! word of a list where the code has a `String` or a type of another crate.
//!
//! Is: schemas, for `#[schemars(with = "...")]`. Is not: a check; what is refused is the business of the fields.

use obleth_core::breaker::State;
use obleth_core::brownout::Step;
use obleth_core::token_budget::Period;
use obleth_core::units::Share;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::borrow::Cow;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident $schema:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

shapes! {
    /// Of a model, a tenant, ...
    Name json_schema!({
        "description": "1 to 256 characters, no control characters.",
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
    });
    /// Made by the gateway.
    Id json_schema!({"description": "Made by the gateway.", "type": "string", "format": "uuid"});
    /// RFC 3339.
    Time json_schema!({"description": "RFC 3339.", "type": "string", "format": "date-time"});
    /// `since` and `until`.
    Since json_schema!({
        "description": "RFC 3339, or a date: its beginning.",
        "type": "string",
        "anyOf": [{"format": "date-time"}, {"format": "date"}],
    });
    /// USD in an answer.
    Money json_schema!({
        "description": "USD, a decimal: never through a float.",
        "type": "string",
        "pattern": "^-?[0-9]+(\\.[0-9]{1,12})?$",
    });
    /// A number that may go beyond 64 bits.
    Decimal json_schema!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$"});
    /// A secret on its way to the one who asked for it.
    Secret json_schema!({"description": "Shown this once; only its digest is kept.", "type": "string"});
    /// Of a tenant or a group.
    Weight json_schema!({"type": "integer", "minimum": 1, "maximum": Share::MAX});
    /// Of a budget.
    PeriodName words(Period::ALL);
    /// Of a brownout.
    StepName words(Step::ALL);
    /// How a breaker stands.
    BreakerName words([State::Closed, State::Open, State::HalfOpen].map(State::name));
    /// The id of a request: the client's own, or made.
    RequestId json_schema!({"type": "string"});
    /// Base64 of the place in a list.
    Cursor json_schema!({"description": "`next_cursor` of the page before.", "type": "string"});
    /// Rows of a list.
    Limit json_schema!({"type": "integer", "minimum": 1, "maximum": crate::admin::PAGE_MAX});
    /// Of the database of time zones.
    TimeZone json_schema!({"description": "A name of the IANA database; UTC if it is absent.", "type": "string"});
}

/// A word of a list, as it is written.
pub fn words<W: Serialize>(words: impl IntoIterator<Item = W>) -> Schema {
    let words: Vec<_> = words.into_iter().filter_map(|word| serde_json::to_value(word).ok()).collect();
    json_schema!({"type": "string", "enum": words})
}
