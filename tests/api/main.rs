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
mod access;
mod after_the_wait;
mod audio;
mod audit;
mod bad_input;
mod bad_wire;
mod breaker;
mod brownout;
mod budgets;
mod cache;
mod cache_flights;
mod capacity;
mod chat;
mod come_again;
mod config_document;
mod deadlines;
mod fairness;
mod fallback;
mod headers;
mod identity;
mod key_care;
mod leaving;
mod limits;
mod live_changes;
mod load;
mod management;
mod management_fields;
mod management_rules;
mod mcp;
mod odd_upstreams;
mod openapi;
mod operator;
mod outbound;
mod pings;
mod pings_end;
mod prices;
mod process;
mod readme;
mod revoked;
mod routes;
mod server_timing;
mod shares;
mod stream_faults;
mod supervision;
mod support;
mod telemetry;
mod traces;
mod upstream_faults;
mod usage;
mod usage_export;
mod usage_old;
mod usage_own;
mod usage_statement;
mod usage_time;
mod waiting;
