//! obleth: a fair, exact gateway for teams that share GPU-backed models.
//!
//! Is: identity, weighted fairshare admission, and a ledger in front of any OpenAI-compatible upstream. Is
//! not: a router; which replica serves is decided below. See `docs/ARCHITECTURE.md`.

pub mod app;
pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod mock;
pub mod pipeline;
pub mod routes;
pub mod server;
pub mod simulate;
pub mod stats;
pub mod telemetry;
pub mod traces;
pub mod upstream;
pub mod wire;
