//! The journal against a disk in memory and a database that takes each row id once.

use super::*;
use crate::ids::{KeyId, RowId, TenantId};
use crate::ledger::{Admission, CacheState, Cost, LedgerRow, Usage, UsageSource};
use crate::units::Usd;
use std::collections::BTreeMap;
use uuid::Uuid;

mod damage;
mod format;
mod limits;
mod random;

pub(super) fn row(n: u128) -> LedgerRow {
    LedgerRow {
        id: RowId(Uuid::from_u128(n)),
        request_id: format!("r{n}").into(),
        ts: 1,
        tenant: TenantId(Uuid::nil()),
        key: KeyId(Uuid::nil()),
        model: "m".into(),
        upstream_model: "m".into(),
        route: "/v1/chat/completions",
        stream: false,
        admission: Admission::Fast,
        status: 200,
        error_code: None,
        cache: CacheState::Off,
        estimated_tokens: 7,
        usage: Usage { input: 3, output: 4, source: UsageSource::Upstream, ..Usage::default() },
        cost: Cost { input: Usd::from_pico(12), ..Cost::default() },
        queue_ms: 0,
        ttft_ms: Some(1),
        total_ms: 2,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 5,
        bytes_out: 6,
    }
}

/// What an open says: the row of a request that is never heard of again.
pub(super) fn open_row(n: u128) -> LedgerRow {
    let usage = Usage { input: 3, output: 9, source: UsageSource::Estimated, ..Usage::default() };
    LedgerRow { status: 500, error_code: Some("gateway_restarted"), usage, ..row(n) }
}

pub(super) const LIMITS: Limits =
    Limits { max_bytes: 1 << 20, segment_bytes: 1024, overflow_bytes: 4096, when_full: WhenFull::Refuse };

/// A journal with its disk and its database.
pub(super) struct World {
    pub disk: BTreeMap<u64, Vec<u8>>,
    pub journal: Journal,
    /// Status by row id.
    pub database: BTreeMap<u128, u16>,
}

impl World {
    pub fn new(limits: Limits) -> Self {
        let mut world = Self {
            disk: BTreeMap::new(),
            journal: Replay::default().finish(limits),
            database: BTreeMap::new(),
        };
        world.disk.insert(1, header().to_vec());
        world.write();
        world
    }

    /// The file takes at most `most` bytes.
    pub fn write_at_most(&mut self, most: usize) {
        let Some(Unwritten { offset, bytes }) = self.journal.unwritten() else { return };
        let (newest, taken) = (self.journal.newest(), most.min(bytes.len()));
        let file = self.disk.get_mut(&newest).unwrap();
        file.truncate(usize::try_from(offset).unwrap());
        file.extend_from_slice(&bytes[..taken]);
        let all = taken == bytes.len();
        self.journal.wrote(taken);
        if !all {
            self.journal.write_failed();
        }
    }

    pub fn write(&mut self) {
        self.write_at_most(usize::MAX);
    }

    /// Offers a batch; the database takes it or not, and its answer arrives or not. Whether there was one.
    pub fn batch(&mut self, limit: usize, taken: bool, told: bool) -> bool {
        let Some(Stretch { from, until, sealed }) = self.journal.lend() else { return false };
        let file = &self.disk[&from.segment];
        let range = usize::try_from(from.offset).unwrap()..usize::try_from(until).unwrap();
        let read = read_rows(&file[range], sealed, limit);
        if taken {
            self.database.extend(read.rows.iter().map(|entry| (entry.row_id.0.as_u128(), entry.status)));
        }
        if taken && told {
            let (consumed, rows, damaged) = (read.consumed, read.rows.len(), read.damaged);
            self.journal.confirm(consumed, rows, damaged);
            return consumed > 0;
        }
        self.journal.take_back();
        true
    }

    /// Segments: a new one when it is time, copies of what still runs, away with what nobody needs.
    pub fn keep(&mut self) {
        self.write();
        if let Some(number) = self.journal.wants_segment() {
            self.disk.insert(number, header().to_vec());
            assert!(self.journal.roll(number));
        }
        if let Some(segment) = self.journal.wants_copies() {
            self.journal.copy_opens(segment, &self.disk[&segment]);
        }
        self.write();
        for number in self.journal.expire(u64::MAX) {
            assert!(self.disk.remove(&number).is_some(), "a segment is given up once");
        }
    }

    /// The process is killed: what the kernel has stays, and a new one starts.
    pub fn restart(&mut self) {
        let mut replay = Replay::default();
        let last = *self.disk.keys().last().unwrap();
        for (number, file) in &mut self.disk {
            let valid = replay.segment(*number, file, *number == last).unwrap();
            file.truncate(valid);
        }
        self.disk.insert(replay.next_number(), header().to_vec());
        let limits = self.journal.limits;
        self.journal = replay.finish(limits);
        self.write();
        self.check();
    }

    /// Hands everything over.
    pub fn drain(&mut self) {
        self.write();
        while self.batch(3, true, true) {}
        self.keep();
        while self.batch(3, true, true) {}
        self.keep();
    }

    pub fn check(&self) {
        let counts = self.journal.counts();
        assert_eq!(counts.received, counts.recorded + counts.waiting + counts.lost, "{counts:?}");
        let lengths: u64 = self.journal.segments.iter().map(|segment| segment.length).sum();
        assert_eq!(counts.bytes, lengths);
        let reserved: u64 = self.journal.opens.values().map(|open| open.reserve).sum();
        assert_eq!(self.journal.reserved, reserved);
        let kept: Vec<u64> = self.journal.segments.iter().map(|segment| segment.number).collect();
        assert_eq!(
            kept,
            self.disk.keys().copied().collect::<Vec<_>>(),
            "books and disk agree on the segments"
        );
    }
}
