//! The ledger: what a row says, what tokens cost, and which rows still wait for the database.

mod cost;
mod row;
mod spool;

pub use cost::{Usage, UsageSource, cost};
pub use row::{Admission, CacheState, LedgerRow};
pub use spool::{Batch, Counts, Spool};

#[cfg(test)]
mod tests;
