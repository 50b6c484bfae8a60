//! The real binary: its command line, its signals, its files.

mod commands;
mod demo;
mod kill;
mod rotation;
mod secrets;
mod shutdown;
mod simulate;
mod spawned;
mod traces;

pub use spawned::Serving;
use spawned::{Obleth, free_ports};
