//! The shapes of the APIs the gateway speaks, read shallowly.
//!
//! Is: pure functions and state machines over bytes: which route a path is, what a request body asks, how a
//! body is changed in place, where the events of a stream end, what an answer used.
//! Is not: I/O, a clock, a validator of the APIs. What the gateway does not need it neither reads nor judges:
//! the upstream says what is wrong with the rest.
//! Invariant: nothing here panics or recurses without bound on any input, takes more than linear time, or
//! puts bytes of a body into an error.

mod beyond;
pub mod failure;
pub mod field;
pub mod fit;
mod json;
pub mod meter;
pub mod multipart;
pub mod request;
pub mod route;
pub mod splice;
pub mod sse;
pub mod usage;
mod weight;

pub use beyond::{goes_beyond_body, runs_in_background};
pub use field::Field;
pub use meter::StreamMeter;
pub use request::{BodyError, Shape};
pub use route::Route;
pub use weight::Weight;
