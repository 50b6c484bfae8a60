//! Several replicas: real processes on one PostgreSQL and one Redis, alone and behind HAProxy, and what happens when
//! one of all these is stopped, killed or cut off.
//!
//! A test that lacks a service or a program says SKIPPED and passes, unless `OBLETH_TEST_REQUIRE=all`. PostgreSQL is
//! that of `OBLETH_TEST_POSTGRES_URL` (`scripts/services.sh`), with a database for each test; Redis, HAProxy and a
//! PostgreSQL that is to fail are started by the test that needs them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]
#![expect(
    dead_code,
    unused_imports,
    reason = "files of tests/api are shared, and a test uses its part of them"
)]

mod budgets;
mod cost;
mod deployment;
mod fairshare;
mod haproxy;
mod harness;
mod outages;
mod registry;
mod sessions;
mod support;
