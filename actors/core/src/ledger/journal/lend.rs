//! Rows on their way from the journal to the database.

use super::frame::{self, Kind};
use super::scan::{Item, Scanner};
use super::state::{Journal, Place};
use crate::ledger::entry::Entry;

/// A stretch of a segment that may hold rows the database does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub from: Place,
    /// The offset behind its last byte.
    pub until: u64,
    /// Nothing follows in this segment: a record that is not whole will never be.
    pub sealed: bool,
}

/// What was read of a stretch.
#[derive(Clone, Debug, Default)]
pub struct Read<'a> {
    pub rows: Vec<Entry<'a>>,
    /// Bytes that were gone through.
    pub consumed: usize,
    /// Stretches without a valid record among them.
    pub damaged: u64,
}

/// Reads at most `limit` rows from `bytes`. `whole`: they reach to the end of a sealed segment. Otherwise what is
/// no record at their end may be the beginning of one, and is left.
pub fn read_rows(bytes: &[u8], whole: bool, limit: usize) -> Read<'_> {
    let mut read = Read::default();
    for item in Scanner::new(bytes, 0) {
        if read.rows.len() >= limit {
            break;
        }
        match item {
            Item::Record { kind, payload, end } => {
                if kind == Kind::Row {
                    match Entry::decode(payload) {
                        Some(entry) => read.rows.push(entry),
                        None => read.damaged += 1,
                    }
                }
                read.consumed = end;
            }
            Item::Damage(range) if range.end < bytes.len() || whole => {
                read.damaged += 1;
                read.consumed = range.end;
            }
            Item::Damage(_) => {}
        }
    }
    read
}

impl Journal {
    /// What the database shall have next; `None` when it has everything, or a batch is out.
    pub fn lend(&mut self) -> Option<Stretch> {
        if self.lent {
            return None;
        }
        self.skip_finished();
        let segment = self.segments.iter().find(|segment| segment.number == self.cursor.segment)?;
        let sealed = segment.number < self.newest();
        let until = if sealed { segment.length } else { self.written() };
        // Opens and checkpoints alone are not worth a read.
        let worth = self.cursor.offset < until && (sealed || segment.read < segment.rows);
        self.lent = worth;
        worth.then_some(Stretch { from: self.cursor, until, sealed })
    }

    /// Goes on from segments that have been read to their end.
    fn skip_finished(&mut self) {
        while let Some(segment) =
            self.segments.iter().find(|segment| segment.number == self.cursor.segment).copied()
        {
            if self.cursor.offset < segment.length || segment.number >= self.newest() {
                break;
            }
            // Rows that were not found again lie in what is damaged.
            let missing = segment.rows.saturating_sub(segment.read).min(self.counts.waiting);
            self.counts.lost += missing;
            self.counts.waiting -= missing;
            let next =
                self.segments.iter().map(|segment| segment.number).find(|number| *number > segment.number);
            let Some(next) = next else { break };
            self.cursor = Place { segment: next, offset: super::HEADER.try_into().unwrap_or(0) };
        }
    }

    /// The database has `rows` rows of the lent stretch, whose first `consumed` bytes were gone through.
    pub fn confirm(&mut self, consumed: usize, rows: usize, damaged: u64) {
        if !std::mem::replace(&mut self.lent, false) {
            return;
        }
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.cursor.offset += u64::try_from(consumed).unwrap_or(0);
        let number = self.cursor.segment;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number) {
            segment.read += rows;
        }
        self.counts.recorded += rows;
        self.counts.waiting = self.counts.waiting.saturating_sub(rows);
        if number >= self.first {
            // What lay damaged at the start was counted then.
            self.counts.corrupt += damaged;
        }
        self.skip_finished();
        if rows > 0 {
            self.checkpoint();
        }
    }

    /// The database did not take the batch: it is first in line again.
    pub fn take_back(&mut self) {
        self.lent = false;
    }

    /// Notes up to where the database has the rows. Without room it is left out: it is a hint.
    pub(super) fn checkpoint(&mut self) {
        if self.is_failing() {
            return;
        }
        let note = (self.cursor.segment, self.cursor.offset);
        self.append(Kind::Checkpoint, false, |out| frame::encode(&note, out));
    }
}
