//! The values of one kind over the last 15 minutes, in slices: 15 s wide for the last minute, 1 min for the
//! four before, 3 min for the rest. A slice ages into the next wider one.
//!
//! The first minute is thus 60 to 75 s, five are 300 to 360 s, fifteen are 900 to 1080 s.

use super::packed::{HIGHEST, Packed, bucket_of};
use hdrhistogram::Histogram;

/// How wide a slice is, in the order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    Fine,
    Middle,
    Old,
}

impl Tier {
    pub(super) const ALL: [Self; 3] = [Self::Fine, Self::Middle, Self::Old];

    /// Width of a slice, and how far back the tier reaches, in seconds.
    pub(super) const fn span(self) -> (u32, u32) {
        match self {
            Self::Fine => (15, 60),
            Self::Middle => (60, 300),
            Self::Old => (180, 900),
        }
    }

    /// The first second whose slice is of this tier, or of a finer one, at `now`.
    pub(super) const fn reach(self, now: u32) -> u32 {
        let (width, back) = self.span();
        now.saturating_sub(back) / width * width
    }
}

/// A slice of time: its tier and its first second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) tier: Tier,
    start: u32,
}

impl Slot {
    /// Where something of `second` is kept at `now`; `None`: it is too old.
    pub(super) fn of(second: u32, now: u32) -> Option<Self> {
        let tier = Tier::ALL.into_iter().find(|tier| second >= tier.reach(now))?;
        let width = tier.span().0;
        Some(Self { tier, start: second / width * width })
    }
}

#[derive(Debug)]
struct Slice {
    slot: Slot,
    counts: Packed,
    max: u32,
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Series {
    /// The slice that is now.
    open: Option<Histogram<u32>>,
    open_max: u32,
    closed: Vec<Slice>,
}

impl Series {
    /// Counts a value of now, in microseconds.
    pub(super) fn record(&mut self, value: u32) {
        if self.open.is_none() {
            self.open = Histogram::new_with_max(HIGHEST, 2).ok();
        }
        if let Some(open) = &mut self.open {
            open.saturating_record(u64::from(value).min(HIGHEST));
        }
        self.open_max = self.open_max.max(value);
    }

    /// Counts values of an earlier slice; in the order of their buckets.
    pub(super) fn record_late(&mut self, slot: Slot, values: &[u32]) {
        let mut counts: Vec<(u16, u64)> = Vec::with_capacity(values.len());
        for value in values {
            let bucket = bucket_of(u64::from(*value));
            match counts.last_mut() {
                Some((last, count)) if *last == bucket => *count += 1,
                _ => counts.push((bucket, 1)),
            }
        }
        let max = values.iter().copied().max().unwrap_or_default();
        self.add(slot, Packed::of(counts.into_iter()), max);
    }

    /// Ends the slice that has been now up to `was`, and lets all slices age to `now`.
    pub(super) fn advance(&mut self, was: u32, now: u32) {
        if let (Some(open), Some(slot)) = (self.open.take(), Slot::of(was, was)) {
            let max = std::mem::take(&mut self.open_max);
            self.add(slot, Packed::of(recorded(&open)), max);
        }
        let stays = |slice: &Slice| Slot::of(slice.slot.start, now) == Some(slice.slot);
        let (kept, moved): (Vec<_>, Vec<_>) = std::mem::take(&mut self.closed).into_iter().partition(stays);
        self.closed = kept;
        for Slice { slot, counts, max } in moved {
            if let Some(slot) = Slot::of(slot.start, now) {
                self.add(slot, counts, max);
            }
        }
    }

    fn add(&mut self, slot: Slot, counts: Packed, max: u32) {
        if let Some(slice) = self.closed.iter_mut().find(|slice| slice.slot == slot) {
            slice.counts = slice.counts.with(counts.iter());
            slice.max = slice.max.max(max);
        } else {
            self.closed.push(Slice { slot, counts, max });
        }
    }

    /// Calls `each` with the counts of a tier, and says its largest value.
    pub(super) fn read(&self, tier: Tier, mut each: impl FnMut(u16, u64)) -> u32 {
        let mut max = 0;
        if let Some(open) = self.open.as_ref().filter(|_| tier == Tier::Fine) {
            recorded(open).for_each(|(bucket, count)| each(bucket, count));
            max = self.open_max;
        }
        for slice in self.closed.iter().filter(|slice| slice.slot.tier == tier) {
            slice.counts.iter().for_each(|(bucket, count)| each(bucket, count));
            max = max.max(slice.max);
        }
        max
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.distinct_values() * size_of::<u32>());
        let closed: usize = self.closed.iter().map(|slice| slice.counts.bytes()).sum();
        open + closed + self.closed.capacity() * size_of::<Slice>()
    }
}

fn recorded(histogram: &Histogram<u32>) -> impl Iterator<Item = (u16, u64)> {
    let buckets = histogram.iter_recorded();
    buckets.map(|seen| (bucket_of(seen.value_iterated_to()), u64::from(seen.count_at_value())))
}
