//! The queries, on SQLite and on PostgreSQL: one suite, both backends.
//!
//! PostgreSQL is taken from `OBLETH_TEST_POSTGRES_URL` (`eval "$(scripts/services.sh env)"`). Without it that
//! half says SKIPPED and passes, unless `OBLETH_TEST_REQUIRE=all`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod store {
    mod backend;
    mod changes;
    mod faults;
    mod ledger;
    mod migrations;
    mod registry;
    mod report;
    mod retention;
    mod rollups;
    mod rows;
    mod spent;
    mod url;
}
