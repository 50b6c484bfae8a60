//! The names that have series of their own: a bounded set that many read without a lock.
//!
//! Who is not on it counts under [`OTHER`]. A name comes on the roll by itself while there is room; it leaves
//! only when somebody says so. Each entry has a number that is never used again.

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// The label value of all who have none of their own.
pub const OTHER: &str = "other";

/// See the module head.
pub struct Roll<K> {
    limit: usize,
    entries: ArcSwap<Entries<K>>,
    /// Held by who changes the entries.
    next: Mutex<u32>,
}

type Entries<K> = std::collections::HashMap<K, u32>;

impl<K> fmt::Debug for Roll<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roll").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash> Roll<K> {
    /// A roll for `limit` names.
    pub fn new(limit: usize) -> Self {
        Self { limit, entries: ArcSwap::default(), next: Mutex::new(0) }
    }

    /// The number of a name, which comes on the roll if there is room.
    pub fn admit(&self, key: &K) -> Option<u32> {
        let entries = self.entries.load();
        if let Some(number) = entries.get(key) {
            return Some(*number);
        }
        if entries.len() >= self.limit {
            return None;
        }
        let mut next = self.next.lock();
        let mut entries = Entries::clone(&self.entries.load());
        if let Some(number) = entries.get(key) {
            return Some(*number);
        }
        if entries.len() >= self.limit {
            return None;
        }
        let number = *next;
        *next = next.wrapping_add(1);
        entries.insert(key.clone(), number);
        self.entries.store(Arc::new(entries));
        Some(number)
    }

    /// Whether a name is on it.
    pub fn has<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entries.load().contains_key(key)
    }

    /// All who are on it, in no order.
    pub fn keys(&self) -> Vec<K> {
        self.entries.load().keys().cloned().collect()
    }

    /// Who has this number.
    pub fn named(&self, number: u32) -> Option<K> {
        self.entries.load().iter().find(|(_, own)| **own == number).map(|(key, _)| key.clone())
    }

    /// Takes names off.
    pub fn strike(&self, gone: &[K]) {
        if gone.is_empty() {
            return;
        }
        let _next = self.next.lock();
        let mut entries = Entries::clone(&self.entries.load());
        for key in gone {
            entries.remove(key);
        }
        self.entries.store(Arc::new(entries));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_is_bounded_and_a_number_is_never_used_again() {
        let roll = Roll::new(2);
        assert_eq!([roll.admit(&'a'), roll.admit(&'b'), roll.admit(&'c')], [Some(0), Some(1), None]);
        assert_eq!((roll.admit(&'b'), roll.has(&'c'), roll.keys().len()), (Some(1), false, 2));
        roll.strike(&['a']);
        assert_eq!((roll.admit(&'c'), roll.named(2), roll.named(0)), (Some(2), Some('c'), None));
        assert_eq!(roll.admit(&'a'), None);
    }

    #[test]
    fn threads_that_come_at_once_agree_and_none_is_over_the_limit() {
        let roll = Roll::new(50);
        let come = |first: u32| (0..200).map(|step| roll.admit(&((first + step) % 200))).collect::<Vec<_>>();
        let numbers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || come(thread * 50))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
        });
        assert_eq!(roll.keys().len(), 50);
        for (thread, numbers) in (0_u32..).zip(&numbers) {
            for (step, number) in (0_u32..).zip(numbers) {
                let known = roll.entries.load().get(&((thread * 50 + step) % 200)).copied();
                assert!(number.is_none() || *number == known);
            }
        }
    }
}
