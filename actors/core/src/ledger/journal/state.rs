//! The books over the journal: what is appended, written, confirmed, open, lost.

use super::frame::{self, HEADER, Kind};
use super::replay::Segment;
use crate::ids::RowId;
use crate::ledger::entry::Entry;
use crate::ledger::row::LedgerRow;
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};

/// What happens to new requests when the journal is full or cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on; rows that find no room are lost and counted.
    Drop,
}

/// How large the journal may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All segments together.
    pub max_bytes: u64,
    /// From this size on a segment is followed by another.
    pub segment_bytes: u64,
    /// What may wait in memory while the file cannot be written.
    pub overflow_bytes: usize,
    pub when_full: WhenFull,
}

/// Rows since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows taken in, those found at the start among them.
    pub received: u64,
    /// Rows the database confirmed.
    pub recorded: u64,
    /// Rows in the journal that wait for the database.
    pub waiting: u64,
    /// Rows that found no room, or were damaged where they lay.
    pub lost: u64,
    /// Rows that were found at the start and not confirmed.
    pub replayed: u64,
    /// Of the replayed: requests that were running when the process ended.
    pub interrupted: u64,
    /// Stretches of a segment that hold no valid record.
    pub corrupt: u64,
    /// Ends of segments that were cut off in the middle of a record.
    pub torn: u64,
    /// Appends the file did not take at once (disk full, I/O error).
    pub failures: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Requests that are open.
    pub open: u64,
}

/// A place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub segment: u64,
    pub offset: u64,
}

/// What the file does not have yet.
#[derive(Clone, Copy, Debug)]
pub struct Unwritten<'a> {
    /// Where in the newest segment it goes.
    pub offset: u64,
    pub bytes: &'a [u8],
}

/// There is no room for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is full or cannot be written")]
pub struct Full;

/// A request that has its seat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Where its open record stands.
    pub segment: u64,
    /// Room set aside for its row.
    pub reserve: u64,
}

/// What a row may have beyond its open: a pod, an error code, longer numbers.
pub(super) const ROW_BEYOND_OPEN: u64 = 512;
/// Room that a new request must find besides what is set aside.
const ROOM: u64 = 4096;

/// The books.
#[derive(Debug)]
pub struct Journal {
    pub(super) limits: Limits,
    /// Oldest first; the last one is written to. Never empty.
    pub(super) segments: VecDeque<Segment>,
    /// The first segment that this process has written to.
    pub(super) first: u64,
    /// Appended and not with the kernel yet: the end of the newest segment.
    pub(super) pending: Vec<u8>,
    /// Bytes appended since the start; a place in time that a sync can reach.
    pub(super) position: u64,
    /// The last copy of an open was appended before this position.
    pub(super) moved: u64,
    /// Up to where the database has the rows.
    pub(super) cursor: Place,
    /// A batch is with the database.
    pub(super) lent: bool,
    pub(super) opens: HashMap<RowId, Open, FixedState>,
    /// Sum of what the opens have set aside.
    pub(super) reserved: u64,
    /// Sum of the segments' lengths.
    pub(super) bytes: u64,
    /// The file did not take the last write.
    failing: bool,
    pub(super) counts: Counts,
}

impl Journal {
    /// Books over `segments`, of which the last is new and empty but for its header.
    pub(super) fn over(limits: Limits, segments: VecDeque<Segment>, cursor: Place) -> Self {
        Self {
            limits,
            bytes: segments.iter().map(|segment| segment.length).sum(),
            first: segments.back().map_or(0, |segment| segment.number),
            segments,
            pending: Vec::new(),
            position: 0,
            moved: 0,
            cursor,
            lent: false,
            opens: HashMap::default(),
            reserved: 0,
            failing: false,
            counts: Counts::default(),
        }
    }

    /// The same after a contained fault: a batch that was lent is given again, sums are made anew.
    pub fn resume(&mut self) {
        self.lent = false;
        self.bytes = self.segments.iter().map(|segment| segment.length).sum();
        self.reserved = self.opens.values().map(|open| open.reserve).sum();
    }

    /// Whether a new request may start.
    pub fn has_room(&self) -> bool {
        match self.limits.when_full {
            WhenFull::Drop => true,
            WhenFull::Refuse => !self.failing && self.fits(ROOM),
        }
    }

    pub(super) fn fits(&self, more: u64) -> bool {
        self.bytes.saturating_add(self.reserved).saturating_add(more) <= self.limits.max_bytes
    }

    /// Whether nothing more may wait in memory.
    fn is_flooded(&self) -> bool {
        self.failing && self.pending.len() >= self.limits.overflow_bytes
    }

    /// Takes the row of a request that has ended. `false`: it is lost, and counted.
    pub fn close(&mut self, row: &LedgerRow) -> bool {
        self.counts.received += 1;
        let open = self.forget_open(row.id);
        let entry = Entry::from(row);
        let kept = !self.is_flooded() && self.append(Kind::Row, open.is_some(), |out| entry.encode(out));
        if kept {
            self.count_row();
        } else {
            self.counts.lost += 1;
        }
        kept
    }

    /// The newest segment has one row more.
    pub(super) fn count_row(&mut self) {
        if let Some(segment) = self.segments.back_mut() {
            segment.rows += 1;
        }
        self.counts.waiting += 1;
    }

    /// Appends a record. One that is not `due` must fit beside what is set aside.
    pub(super) fn append(&mut self, kind: Kind, due: bool, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let mark = self.pending.len();
        let length =
            frame::append(&mut self.pending, kind, fill).and_then(|length| u64::try_from(length).ok());
        let length = length.filter(|length| due || self.fits(*length));
        let (Some(length), Some(segment)) = (length, self.segments.back_mut()) else {
            self.pending.truncate(mark);
            return false;
        };
        segment.length += length;
        self.bytes += length;
        self.position += length;
        true
    }

    /// What the file shall get; `None` when it has everything.
    pub fn unwritten(&self) -> Option<Unwritten<'_>> {
        if self.pending.is_empty() {
            return None;
        }
        Some(Unwritten { offset: self.written(), bytes: &self.pending })
    }

    /// The length of the newest segment as the kernel has it.
    pub(super) fn written(&self) -> u64 {
        let pending = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        self.segments.back().map_or(0, |segment| segment.length.saturating_sub(pending))
    }

    /// The file took this many bytes of what was unwritten.
    pub fn wrote(&mut self, bytes: usize) {
        if bytes >= self.pending.len() {
            self.pending.clear();
            // What a full disk made it grow to is not kept.
            self.pending.shrink_to(self.limits.overflow_bytes.min(1 << 20));
            self.failing = false;
        } else {
            self.pending.drain(..bytes);
        }
    }

    /// The file did not take all of it: the rest waits in memory.
    pub fn write_failed(&mut self) {
        self.failing = true;
        self.counts.failures += 1;
    }

    /// Whether the file did not take the last write.
    pub const fn is_failing(&self) -> bool {
        self.failing
    }

    /// Bytes appended since the start, and those of them the kernel has.
    pub fn positions(&self) -> (u64, u64) {
        let pending = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        (self.position, self.position.saturating_sub(pending))
    }

    /// Whether the newest segment is large enough to be followed by another; the number of that.
    pub fn wants_segment(&self) -> Option<u64> {
        let newest = self.segments.back()?;
        let large = newest.length >= self.limits.segment_bytes && self.pending.is_empty();
        large.then_some(newest.number + 1)
    }

    /// Whether a segment is one of the books.
    pub fn has_segment(&self, number: u64) -> bool {
        self.segments.iter().any(|segment| segment.number == number)
    }

    /// The new segment is there, with its header. `false`: it is not wanted any more.
    pub fn roll(&mut self, number: u64) -> bool {
        if self.wants_segment() != Some(number) {
            return false;
        }
        self.segments.push_back(Segment::empty(number));
        self.bytes += Segment::empty(number).length;
        self.checkpoint();
        true
    }

    /// The counts; received = recorded + waiting + lost.
    pub fn counts(&self) -> Counts {
        let open = u64::try_from(self.opens.len()).unwrap_or(u64::MAX);
        Counts { bytes: self.bytes, open, ..self.counts }
    }
}

impl Segment {
    /// A segment with its header alone.
    pub(super) fn empty(number: u64) -> Self {
        Self { number, length: u64::try_from(HEADER).unwrap_or(0), rows: 0, read: 0 }
    }
}
