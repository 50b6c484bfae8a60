//! What a start makes of the segments it finds: rows that the database may not have, and requests that were
//! running when the process ended, which become rows charged by their estimate.

use super::frame::{HEADER, HeaderFault, Kind, check_header};
use super::scan::{Item, Scanner};
use super::state::{Counts, Journal, Limits, Place};
use crate::ids::RowId;
use crate::ledger::entry::Entry;
use std::collections::{BTreeMap, VecDeque};

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub number: u64,
    pub length: u64,
    /// Rows in it.
    pub rows: u64,
    /// Rows of it that the database has confirmed.
    pub read: u64,
}

/// Reads the segments, oldest first.
#[derive(Debug, Default)]
pub struct Replay {
    segments: VecDeque<Segment>,
    /// Where the rows of each segment begin.
    rows: VecDeque<Vec<u64>>,
    /// Requests without an end, by row id: in order of their arrival. Holds the payloads.
    opens: BTreeMap<RowId, Vec<u8>>,
    /// The last one.
    checkpoint: Option<Place>,
    corrupt: u64,
    torn: u64,
}

impl Replay {
    /// Takes in a segment. Its length without what was torn off at its end, if it is the `last` one: there the
    /// process may have been stopped in the middle of a record.
    pub fn segment(&mut self, number: u64, bytes: &[u8], last: bool) -> Result<usize, HeaderFault> {
        let start = match check_header(bytes) {
            Ok(()) => HEADER,
            Err(HeaderFault::Damaged) => 0,
            Err(fault) => return Err(fault),
        };
        let mut valid = bytes.len();
        let (mut rows, mut at) = (Vec::new(), start);
        for item in Scanner::new(bytes, start) {
            match item {
                Item::Record { kind, payload, end } => {
                    if self.record(kind, payload) {
                        rows.push(offset(at));
                    }
                    at = end;
                }
                Item::Damage(range) if last && range.end == bytes.len() => {
                    self.torn += 1;
                    valid = range.start;
                }
                Item::Damage(range) => {
                    self.corrupt += 1;
                    at = range.end;
                }
            }
        }
        self.segments.push_back(Segment { number, length: offset(valid), rows: offset(rows.len()), read: 0 });
        self.rows.push_back(rows);
        Ok(valid)
    }

    /// Takes in a record; whether it is a row.
    fn record(&mut self, kind: Kind, payload: &[u8]) -> bool {
        if kind == Kind::Checkpoint {
            if let Ok((segment, offset)) = postcard::from_bytes::<(u64, u64)>(payload) {
                self.checkpoint = Some(Place { segment, offset });
            }
            return false;
        }
        let Some(id) = Entry::decode(payload).map(|entry| entry.row_id) else {
            self.corrupt += 1;
            return false;
        };
        if kind == Kind::Open {
            self.opens.insert(id, payload.to_vec());
        } else {
            self.opens.remove(&id);
        }
        kind == Kind::Row
    }

    /// The number of the segment that is written to from now on.
    pub fn next_number(&self) -> u64 {
        self.segments.back().map_or(1, |segment| segment.number + 1)
    }

    /// Books that go on in a new segment, [`Self::next_number`].
    pub fn finish(mut self, limits: Limits) -> Journal {
        let number = self.next_number();
        let cursor = self.cursor();
        for (segment, rows) in self.segments.iter_mut().zip(&self.rows) {
            let confirmed = |row: &&u64| Place { segment: segment.number, offset: **row } < cursor;
            segment.read = offset(rows.iter().filter(confirmed).count());
        }
        self.segments.push_back(Segment::empty(number));
        let waiting = self.segments.iter().map(|segment| segment.rows.saturating_sub(segment.read)).sum();
        let interrupted = offset(self.opens.len());
        let found = waiting + interrupted;
        let mut journal = Journal::over(limits, self.segments, cursor);
        journal.counts = Counts {
            received: found,
            replayed: found,
            interrupted,
            waiting,
            corrupt: self.corrupt,
            torn: self.torn,
            ..Counts::default()
        };
        journal.checkpoint();
        for payload in self.opens.values() {
            journal.append(Kind::Row, true, |out| {
                out.extend_from_slice(payload);
                true
            });
            journal.count_row();
        }
        journal.moved = journal.position;
        journal
    }

    /// Where the database is to be offered rows from: the last checkpoint, if its place is still there.
    fn cursor(&self) -> Place {
        let oldest = self.segments.front().map_or(1, |segment| segment.number);
        let start = Place { segment: oldest, offset: offset(HEADER) };
        let there = |place: &Place| {
            let found = self.segments.iter().find(|segment| segment.number == place.segment);
            found.is_some_and(|segment| place.offset <= segment.length)
        };
        self.checkpoint.filter(there).unwrap_or(start)
    }
}

fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
