//! Black-box tests: a whole gateway on loopback, real HTTP, a scripted upstream.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

mod aborts;
mod bad_input;
mod chat;
mod fairness;
mod headers;
mod identity;
mod leaving;
mod load;
mod management;
mod odd_upstreams;
mod process;
mod routes;
mod stream_faults;
mod supervision;
mod support;
mod upstream_faults;
mod usage;
