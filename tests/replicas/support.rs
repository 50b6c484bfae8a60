//! What the tests stand on: [`Cluster`], replicas as processes; [`Redis`], [`Postgres`] and [`HaProxy`], servers that
//! a test may stop; [`Wire`], a connection that a test may cut; [`Load`], clients that count what they are told;
//! [`Books`], the ledger as it lies in the database.

mod books;
#[path = "../api/support/client.rs"]
mod client;
mod cluster;
#[path = "../api/support/described.rs"]
mod described;
#[path = "../api/support/dice.rs"]
mod dice;
mod door;
mod figures;
mod haproxy;
mod load;
#[path = "../api/support/mcp.rs"]
mod mcp;
#[path = "../api/support/mock.rs"]
mod mock;
mod needs;
mod postgres;
mod redis;
mod replica;
mod spawned;
mod tally;
#[path = "../api/support/upstream.rs"]
mod upstream;
mod wait;
mod wire;

pub use books::Books;
pub use client::{Answer, Caller};
pub use cluster::Cluster;
pub use dice::Dice;
pub use door::Door;
pub use figures::{figure, rounds};
pub use haproxy::{Certificate, HaProxy};
pub use load::{Load, Plan};
pub use mcp::{FakeMcp, McpClient};
pub use mock::Mock;
pub use needs::{Need, have};
pub use postgres::Postgres;
pub use redis::Redis;
pub use replica::Replica;
pub use spawned::{Spawned, free_port};
pub use tally::{Tally, Told};
pub use wait::{get, run, until, until_within};
pub use wire::{Wire, WireState};

/// The admin token of every replica.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";
/// The encryption key of every replica.
pub const ENCRYPTION_KEY: &str = "b2JsZXRoLXRlc3RzLXNlYWwtd2l0aC10aGlzLWtleSE=";

impl Answer {
    /// The answer, whose status must be `status`.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}
