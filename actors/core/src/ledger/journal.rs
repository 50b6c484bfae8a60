//! The journal of the ledger: an append-only log of small records in numbered segments.
//!
//! Is: the format (`frame`, `scan`), the books over it (`Journal`: what is appended, what the kernel has, what
//! the database has confirmed, which requests are open, how full it is) and what a restart makes of it
//! (`replay`). Is not: a file; the shell writes what [`Journal::unwritten`] gives and says how it went.
//!
//! A segment is a header and frames. A frame is length, checksum, kind, payload (see `frame`). Kinds:
//! * **open**: a request has its seat. The payload is the row it shall have if nothing more is heard of it.
//! * **row**: a request has ended. Takes the place of its open.
//! * **checkpoint**: up to where the database has confirmed rows. A hint: without it rows are offered again,
//!   and the database takes each row id once.
//!
//! An open always stands before its row. A segment is dropped once the database has its rows, nothing open
//! stands in it (opens that still run are copied forward first) and the copies are safe.
//!
//! Invariants: received = recorded + waiting + lost; an admitted request has room for its row set aside; a
//! damaged record costs itself alone.

mod frame;
mod lend;
mod open;
mod replay;
mod scan;
mod state;

pub(super) use frame::encode;
pub use frame::{HEADER, HeaderFault, header};
pub use lend::{Read, Stretch, read_rows};
pub use replay::{Replay, Segment};
pub use state::{Counts, Full, Journal, Limits, Place, Unwritten, WhenFull};

#[cfg(test)]
mod tests;
