//! Counts by bucket of a histogram that gets no more of them, in few bytes: those that are not zero as
//! LEB128, a gap as a zero byte and its length. A full histogram is a byte a bucket as long as no bucket holds
//! more than 127.
//!
//! The buckets are those of `hdrhistogram` at two significant digits and a unit of one microsecond.

/// Values over this are counted as this: 2³⁰ − 1 µs, just under 18 minutes.
pub(super) const HIGHEST: u64 = (1 << 30) - 1;
/// Buckets up to there.
pub(super) const BUCKETS: u16 = 3072;
/// Each power of two has half as many.
const SUB: u64 = 256;

/// The bucket of a value.
pub(super) fn bucket_of(value: u64) -> u16 {
    let value = value.min(HIGHEST);
    let shift = (value | (SUB - 1)).ilog2() - (SUB - 1).ilog2();
    let bucket = u64::from(shift) * (SUB / 2) + (value >> shift);
    u16::try_from(bucket).unwrap_or(BUCKETS - 1)
}

/// The least value of a bucket.
pub(super) const fn value_of(bucket: u16) -> u64 {
    let (bucket, half) = (bucket_u64(bucket), SUB / 2);
    if bucket < SUB {
        return bucket;
    }
    let shift = bucket / half - 1;
    (bucket % half + half) << shift
}

const fn bucket_u64(bucket: u16) -> u64 {
    let [low, high] = bucket.to_le_bytes();
    u64::from_le_bytes([low, high, 0, 0, 0, 0, 0, 0])
}

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    /// Packs counts in the order of their buckets.
    pub(super) fn of(counts: impl Iterator<Item = (u16, u64)>) -> Self {
        let (mut bytes, mut next) = (Vec::new(), 0);
        for (bucket, count) in counts.filter(|(_, count)| *count > 0) {
            if bucket > next {
                bytes.push(0);
                push(&mut bytes, u64::from(bucket - next));
            }
            push(&mut bytes, count);
            next = bucket + 1;
        }
        Self(bytes.into_boxed_slice())
    }

    /// The counts again.
    pub(super) fn iter(&self) -> Counts<'_> {
        Counts { bytes: &self.0, next: 0 }
    }

    /// Both together.
    pub(super) fn with(&self, more: impl Iterator<Item = (u16, u64)>) -> Self {
        Self::of(Merged { one: self.iter().peekable(), other: more.peekable() })
    }

    /// Bytes on the heap.
    pub(super) const fn bytes(&self) -> usize {
        self.0.len()
    }
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

/// Reads counts.
#[derive(Clone, Debug)]
pub(super) struct Counts<'a> {
    bytes: &'a [u8],
    next: u16,
}

impl Counts<'_> {
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 63 {
                return Some(number);
            }
        }
    }
}

impl Iterator for Counts<'_> {
    type Item = (u16, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let mut count = self.number()?;
        if count == 0 {
            self.next += u16::try_from(self.number()?).ok()?;
            count = self.number()?;
        }
        let bucket = self.next;
        self.next += 1;
        Some((bucket, count))
    }
}

struct Merged<A: Iterator, B: Iterator> {
    one: std::iter::Peekable<A>,
    other: std::iter::Peekable<B>,
}

impl<A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = (u16, u64)>,
    B: Iterator<Item = (u16, u64)>,
{
    type Item = (u16, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (Some(one), Some(other)) = (self.one.peek(), self.other.peek()) else {
            return self.one.next().or_else(|| self.other.next());
        };
        match one.0.cmp(&other.0) {
            std::cmp::Ordering::Less => self.one.next(),
            std::cmp::Ordering::Greater => self.other.next(),
            std::cmp::Ordering::Equal => {
                let (bucket, count) = self.one.next()?;
                Some((bucket, count.saturating_add(self.other.next()?.1)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    #[test]
    fn the_buckets_are_those_of_the_histogram() -> Result<(), hdrhistogram::CreationError> {
        let histogram = Histogram::<u64>::new_with_max(HIGHEST, 2)?;
        assert_eq!(histogram.distinct_values(), usize::from(BUCKETS));
        for bucket in 0..BUCKETS {
            let least = value_of(bucket);
            assert_eq!(histogram.lowest_equivalent(least), least, "{bucket}");
            for value in [least, histogram.highest_equivalent(least)] {
                assert_eq!(bucket_of(value), bucket, "{value}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        Ok(())
    }

    fn counts() -> impl Strategy<Value = Vec<(u16, u64)>> {
        let counts = prop::collection::btree_map(0..BUCKETS, 1_u64..1 << 40, 0..300);
        counts.prop_map(|counts| counts.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(counts in counts()) {
            let packed = Packed::of(counts.iter().copied());
            prop_assert_eq!(packed.iter().collect::<Vec<_>>(), counts);
        }

        #[test]
        fn merged_counts_are_sums(one in counts(), other in counts()) {
            let merged = Packed::of(one.iter().copied()).with(other.iter().copied());
            let mut sums = std::collections::BTreeMap::new();
            one.into_iter().chain(other).for_each(|(bucket, count)| *sums.entry(bucket).or_default() += count);
            prop_assert_eq!(merged.iter().collect::<Vec<_>>(), sums.into_iter().collect::<Vec<_>>());
        }
    }
}
