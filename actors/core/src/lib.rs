//! Pure state machines of obleth.
//!
//! Is: the rules of the gateway (who goes next, what a request costs, who may do what) as plain data
//! structures. Is not: actors, HTTP, storage. Invariant: no clock, randomness, I/O, lock or logging in
//! this crate; time is the argument `now`, results are effects that the shell polls.

pub mod breaker;
pub mod brownout;
pub mod fair_queue;
pub mod fleet;
pub mod ids;
pub mod ledger;
pub mod mcp;
pub mod moment;
pub mod net;
pub mod registry;
pub mod response_cache;
pub mod token_budget;
pub mod units;
