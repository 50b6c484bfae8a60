//! The ledger: what a row says, what tokens cost, and the journal in which rows wait for the database.

mod cost;
mod entry;
pub mod journal;
pub mod retention;
mod row;

pub use cost::{Cost, Usage, UsageSource, cost};
pub use entry::{Charge, Entry};
pub use journal::Counts;
pub use row::{Admission, CacheState, LedgerRow};

#[cfg(test)]
mod tests;
