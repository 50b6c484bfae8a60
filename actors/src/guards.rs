//! Grants as guards: each goes back into its core exactly once, from `settle` or from `Drop`.

mod seat;

pub use seat::{Seat, WaitPlace};
