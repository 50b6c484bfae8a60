//! Requests that have their seat and have not ended.

use super::frame::Kind;
use super::state::{Full, Journal, Open, ROW_BEYOND_OPEN, WhenFull};
use crate::ids::RowId;
use crate::ledger::entry::Entry;
use crate::ledger::row::LedgerRow;
use std::collections::BTreeMap;

impl Journal {
    /// Notes that a request has its seat; `row` is what it shall have if nothing more is heard of it. Sets room
    /// aside for its row. Said again of the same request, the last word counts.
    pub fn open(&mut self, row: &LedgerRow) -> Result<(), Full> {
        let refused = if self.limits.when_full == WhenFull::Refuse { Err(Full) } else { Ok(()) };
        if self.is_failing() {
            return refused;
        }
        let entry = Entry::from(row);
        let before = self.position;
        let (mark, bytes) = (self.pending.len(), self.bytes);
        if !self.append(Kind::Open, false, |out| entry.encode(out)) {
            return refused;
        }
        let length = self.position - before;
        let had = self.opens.get(&row.id).map_or(0, |open| open.reserve);
        let reserve = had.max(length + ROW_BEYOND_OPEN);
        if !self.fits(reserve - had) {
            self.take_off(mark, bytes, length);
            return refused;
        }
        let segment = self.newest();
        if self.opens.insert(row.id, Open { segment, reserve }).is_some() {
            // As a copy: what stood in an older segment is not needed once the disk has this.
            self.moved = self.position;
        }
        self.reserved += reserve - had;
        Ok(())
    }

    /// Takes the last record off again.
    fn take_off(&mut self, mark: usize, bytes: u64, length: u64) {
        self.pending.truncate(mark);
        self.bytes = bytes;
        self.position -= length;
        if let Some(segment) = self.segments.back_mut() {
            segment.length -= length;
        }
    }

    pub(super) fn newest(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.number)
    }

    /// The request has ended: its room is free.
    pub(super) fn forget_open(&mut self, id: RowId) -> Option<Open> {
        let open = self.opens.remove(&id)?;
        self.reserved = self.reserved.saturating_sub(open.reserve);
        Some(open)
    }

    /// Copies an open that stands in `segment` forward, unless its request has ended meanwhile.
    fn copy_open(&mut self, segment: u64, id: RowId, payload: &[u8]) {
        if self.opens.get(&id).is_none_or(|open| open.segment != segment) {
            return;
        }
        let copied = self.append(Kind::Open, true, |out| {
            out.extend_from_slice(payload);
            true
        });
        let newest = self.newest();
        if let Some(open) = self.opens.get_mut(&id).filter(|_| copied) {
            open.segment = newest;
            self.moved = self.position;
        }
    }

    /// Whether there is something to do about segments.
    pub fn wants_keeping(&self) -> bool {
        let confirmed = self.segments.front().is_some_and(|oldest| self.is_confirmed(oldest.number));
        confirmed || self.wants_segment().is_some()
    }

    /// The oldest segment, if nothing but requests that still run keeps it.
    pub fn wants_copies(&self) -> Option<u64> {
        let oldest = self.segments.front().filter(|segment| self.is_confirmed(segment.number))?;
        (!self.is_failing() && self.has_open(oldest.number)).then_some(oldest.number)
    }

    /// Copies the opens of a segment forward; `bytes` is what the segment holds.
    pub fn copy_opens(&mut self, segment: u64, bytes: &[u8]) {
        use super::scan::{Item, Scanner};
        // Of several of one request the last counts, as at a replay.
        let mut last = BTreeMap::new();
        for item in Scanner::new(bytes, super::HEADER) {
            if let Item::Record { kind: Kind::Open, payload, .. } = item
                && let Some(entry) = Entry::decode(payload)
            {
                last.insert(entry.row_id, payload);
            }
        }
        last.into_iter().for_each(|(id, payload)| self.copy_open(segment, id, payload));
        // One that cannot be read any more must not keep the segment for ever; its end is still awaited.
        let newest = self.newest();
        self.opens.values_mut().filter(|open| open.segment == segment).for_each(|open| open.segment = newest);
    }

    pub(super) fn has_open(&self, segment: u64) -> bool {
        self.opens.values().any(|open| open.segment == segment)
    }

    /// Whether the database has everything in the segment, and nothing is written to it any more.
    pub(super) fn is_confirmed(&self, segment: u64) -> bool {
        segment < self.cursor.segment && segment < self.newest()
    }

    /// Gives up the oldest segments that nobody needs; their numbers. `safe`: the position up to which the disk
    /// has everything.
    pub fn expire(&mut self, safe: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        if !self.pending.is_empty() || safe < self.moved {
            return gone;
        }
        while let Some(oldest) = self.segments.front().copied() {
            if !self.is_confirmed(oldest.number) || self.has_open(oldest.number) {
                break;
            }
            self.segments.pop_front();
            self.bytes = self.bytes.saturating_sub(oldest.length);
            gone.push(oldest.number);
        }
        gone
    }
}
