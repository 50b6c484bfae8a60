//! The fleet: several replicas that share one set of slots.
//!
//! Is: the names of what is shared ([`Pool`]), what replicas and the store say to each other ([`Ask`], [`Answer`]), the
//! replica's side of it ([`Replica`]), and the store's rules ([`broker::Broker`], which the script in the store follows
//! line by line). Is not: a network, a clock, or the order of requests, which is the fair queue's. Source: fairness
//! specification §4 (e).
//!
//! **Slots are leases.** A slot is in the store, or with one replica. Per pool and replica two totals only ever grow:
//! what the store gave (`got`) and what the replica gave back (`back`); it holds the difference. Whatever message is
//! lost, doubled or late, the larger total is the newer one, so none can make a slot twice.
//!
//! **Who is next.** A replica names the heads of its lines that lack a slot ([`Want`]), with their tags. The store gives
//! free slots to the smallest, everything that a request needs at once or nothing. Who has slots to spare hears what
//! the others want ([`Rival`]), and gives back unless its own head is next.

pub mod broker;
mod exchange;
mod pool;
mod replica;

pub use exchange::{Answer, Ask, Holding, Report, Rival, Want, fixed, unfixed};
pub use pool::Pool;
pub use replica::{Contact, Replica, Terms};

#[cfg(test)]
mod tests;
