//! The shells of the scheduler and the ledger under faults: on a paused clock where time matters, on threads
//! where races do.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

mod brownout;
mod changes;
mod faults;
mod leaving;
mod ledger;
mod queue;
mod support;
mod telling;
