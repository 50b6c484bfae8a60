//! Storage of obleth: tables, rows and queries for SQLite and PostgreSQL.
//!
//! Is: one module per table with its row type and every statement that touches it, and the [`Store`] they
//! run on. Is not: validation, encryption, JSON shapes (lists and objects are text here), caching.
//! Invariants: both databases answer the same to the same calls; a write that was begun runs to its end even
//! if its caller leaves; no error text carries a password or the value of a row.

pub mod admin_tokens;
pub mod audit;
pub mod capacity;
pub mod changes;
pub mod feed;
pub mod groups;
pub mod key_uses;
pub mod keys;
pub mod ledger;
pub mod mcp_servers;
pub mod models;
pub mod tables;
pub mod tenants;

mod error;
mod migrate;
mod store;
mod url;

pub use error::StoreError;
pub use store::Store;
pub use url::{DatabaseUrl, UrlError};
