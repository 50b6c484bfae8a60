//! Grants as guards: each goes back into its core exactly once, from `settle` or from `Drop`.

mod hold;
mod seat;

pub use hold::Hold;
pub use seat::{Seat, WaitPlace};
