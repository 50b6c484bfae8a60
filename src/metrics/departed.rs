//! Names on a roll that the registry does not have any more, and since when.
//!
//! Their series stay for [`LINGER`], so that a scraper sees the last of them; then they make room for others.

use super::{LINGER, Roll};
use obleth_core::moment::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Departed(Mutex<HashMap<Arc<str>, Moment>>);

impl Departed {
    /// Takes those off the roll that have been gone for long enough, and says who.
    pub(super) fn strike(
        &self,
        now: Moment,
        roll: &Roll<Arc<str>>,
        is_gone: impl Fn(&Arc<str>) -> bool,
    ) -> Vec<Arc<str>> {
        let mut departed = self.0.lock();
        departed.retain(|name, _| is_gone(name));
        for name in roll.keys().into_iter().filter(is_gone) {
            departed.entry(name).or_insert(now);
        }
        let is_over = |since: Moment| now.since(since) >= LINGER;
        let over: Vec<_> =
            departed.iter().filter(|(_, since)| is_over(**since)).map(|(name, _)| Arc::clone(name)).collect();
        roll.strike(&over);
        departed.retain(|_, since| !is_over(*since));
        over
    }
}
