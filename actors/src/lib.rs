//! The actors of obleth: each a thin shell that owns, times and heals one pure core.
//!
//! A core lives in a [`cell::Cell`]; handlers hold a handle = address + cell. What must not be lost never
//! travels in a mailbox alone: every grant is a guard that returns itself into the core from `Drop`.

pub mod accounting;
pub mod admin;
pub mod budget;
pub mod cache;
pub mod cell;
pub mod clock;
pub mod fairshare;
pub mod fleet;
pub mod guards;
pub mod health;
pub mod mcp;
pub mod plans;
pub mod shapes;
pub mod supervise;
