//! Words that parameters of `/usage/...` take.

use obleth_actors::shapes;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::borrow::Cow;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $words:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl $name {
            pub(super) const WORDS: &[&str] = &$words;
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                shapes::words(Self::WORDS)
            }
        }
    )*};
}

words! {
    /// How a request came to its seat (contract §4).
    Admission = ["fast", "queued", "brownout", "rejected", "none"];
    /// What the response cache did (contract §4).
    CacheState = ["hit", "miss", "coalesced", "bypass", "off"];
    /// Who counted the tokens (contract §4).
    UsageSource = ["upstream", "counted", "estimated", "none"];
    /// What sums are by.
    Grouping = ["tenant", "key", "model", "day", "hour"];
    /// What series are by.
    DimensionName = ["tenant", "key", "model"];
    /// How long a bucket of a series is.
    BucketName = ["day", "hour"];
}
