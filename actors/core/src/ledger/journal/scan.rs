//! Reads records one after the other. Where one is damaged, the next valid one is looked for byte by byte: its
//! checksum covers its length and its kind, so text inside a record cannot pass for one.

use super::frame::{Kind, record};
use std::ops::Range;

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Record {
        kind: Kind,
        payload: &'a [u8],
        end: usize,
    },
    /// No record: damage up to the next one, or to the end of the bytes, where it may be one that is not whole.
    Damage(Range<usize>),
}

/// Goes through `bytes` from `at` on.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    fn record_at(&self, at: usize) -> Option<(Kind, &'a [u8], usize)> {
        record(self.bytes.get(at..)?)
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let start = self.at;
        if start >= self.bytes.len() {
            return None;
        }
        if let Some((kind, payload, length)) = self.record_at(start) {
            self.at = start + length;
            return Some(Item::Record { kind, payload, end: self.at });
        }
        let next = (start + 1..self.bytes.len()).find(|at| self.record_at(*at).is_some());
        self.at = next.unwrap_or(self.bytes.len());
        Some(Item::Damage(start..self.at))
    }
}
