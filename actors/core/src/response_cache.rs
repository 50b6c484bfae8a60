//! The response cache, as far as it is rules: what makes two requests the same, who asks the upstream for those
//! that are, and how long an answer is good.
//!
//! Is: the key of a request ([`Material`]), its canonical body ([`Canonical`]), the wishes of a client
//! ([`Wish`]), and leaders and followers of a miss ([`Flights`]). Is not: the store of the answers, which is a
//! library's, nor their bytes. Invariants: a key names its tenant, so none is ever found by another; each flight
//! has one leader, and no follower is left behind by one that ends.
//!
//! Why and how it was decided: `docs/decisions/0018-response-cache.md`.

mod canonical;
mod flights;
mod key;
mod number;
mod wish;

pub use canonical::{Canonical, LeftOut, NotCanonical};
pub use flights::{Dump, Effect, FlightId, Flights, Joined, Limits, Purge, WaiterId};
pub use key::{CacheKey, Mark, MarkOf, Material, Parts};
pub use wish::{Wish, is_fresh};

#[cfg(test)]
mod tests;
