//! What the tests stand on: [`TestApp`], a gateway of its own with typed callers, and [`Upstream`], a
//! scripted server that can answer, stall, cut and reset at any byte.

mod app;
mod books;
mod client;
mod collector;
mod database;
mod described;
mod dice;
mod mcp;
mod mock;
mod queue;
mod raw;
mod room;
mod shares;
mod socket;
mod stage;
mod upstream;

pub use app::{ADMIN_TOKEN, TestApp, run, until};
pub use books::{app_with, micros, record};
pub use client::{Answer, Caller};
pub use collector::{Collector, Spanned};
pub use described::fits;
pub use dice::Dice;
pub use mcp::{FakeMcp, McpClient, messages, modern, names};
pub use mock::Mock;
pub use queue::{Queue, stream_body};
pub use raw::{Raw, RawAnswer, exchange};
pub use room::Room;
pub use shares::{Flood, Load, Served, jain};
pub use socket::{Socket, post};
pub use stage::{Stage, chat_body, hang};
pub use upstream::{Gate, Seen, Step, Upstream, chat_answer, chat_chunks, json, silent_streams, sse};
