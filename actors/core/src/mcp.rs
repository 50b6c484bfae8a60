//! The rules of the MCP gateway.
//!
//! Is: what a JSON-RPC message of a client asks, who may call which tool, how names and sessions of servers look
//! to a client, where the events of a stream end, what one list of several servers' tools is, how a server
//! stands. Is not: HTTP, and not the protocol: what is not named here passes as it came.
//!
//! Two eras are spoken on one address. Up to revision 2025-11-25 a client opens a *session* and may resume its
//! streams; from 2026-07-28 on each request stands for itself (*stateless*).

pub mod catalogue;
pub mod events;
pub mod headers;
pub mod list;
pub mod message;
pub mod names;
mod object;
mod params;
pub mod rights;
pub mod scan;
pub mod servers;
pub mod session;

pub use catalogue::{Catalogue, Tool};
pub use message::{Era, Kind, Malformed, Message};
pub use object::{Object, text};
pub use rights::{Rights, ToolGlobs};
pub use session::{SessionSeal, Whose};

/// The revision without sessions.
pub const STATELESS: &str = "2026-07-28";
/// Revisions with sessions, the newest first.
pub const WITH_SESSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

#[cfg(test)]
mod tests;
