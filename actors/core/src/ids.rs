//! Identifiers. Every one is made outside (the cores have no randomness) and only carried here.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A tenant: the unit of weight, budget and bill.
    TenantId
);
uuid_id!(
    /// An API key of a tenant.
    KeyId
);
uuid_id!(
    /// A registered model (its name may change, its id does not).
    ModelId
);
uuid_id!(
    /// A group of tenants (the upper level of the fair queue).
    GroupId
);
uuid_id!(
    /// A registered MCP server (its name may change, its id does not).
    McpServerId
);
uuid_id!(
    /// One ledger row. Made by the gateway, so a client that repeats an `x-request-id` cannot hide a row.
    RowId
);
