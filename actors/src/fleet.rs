//! What several replicas of obleth share through Redis.
//!
//! Is: the connection to Redis ([`Link`]) and what the actors exchange over it. Is not: a source of truth. Whatever
//! Redis holds can be made anew from the database and from what the replicas know, at any time.

pub(crate) mod claims;
mod exchange;
mod link;
mod news;
pub(crate) mod replica;
mod url;

pub(crate) use exchange::{Exchange, Parts};
pub use link::{Away, Link, LinkCounts, Script};
pub use news::News;
pub use replica::replica_of;
pub use url::{RedisUrl, RedisUrlError};
