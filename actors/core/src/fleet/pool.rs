//! What is shared: the slots of all, those of a capped model, those of a capped tenant.

use crate::ids::{ModelId, TenantId};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// A set of slots that the whole fleet has together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// D, the slots of all.
    Slots,
    /// A model's own cap.
    Model(ModelId),
    /// A tenant's own cap.
    Tenant(TenantId),
}

/// As the store knows it: `*`, `m` and the model's id, `t` and the tenant's id.
impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots => f.write_str("*"),
            Self::Model(id) => write!(f, "m{}", id.0.simple()),
            Self::Tenant(id) => write!(f, "t{}", id.0.simple()),
        }
    }
}

/// A name that is no pool's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a pool")]
pub struct NoPool;

impl FromStr for Pool {
    type Err = NoPool;

    fn from_str(text: &str) -> Result<Self, NoPool> {
        let id = |text: &str| Uuid::parse_str(text).map_err(|_| NoPool);
        match (text, text.split_at_checked(1)) {
            ("*", _) => Ok(Self::Slots),
            (_, Some(("m", rest))) => Ok(Self::Model(ModelId(id(rest)?))),
            (_, Some(("t", rest))) => Ok(Self::Tenant(TenantId(id(rest)?))),
            _ => Err(NoPool),
        }
    }
}

impl serde::Serialize for Pool {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Pool {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
