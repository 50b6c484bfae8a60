//! When a key was last used, to the minute: one relaxed store a request, no lock, four bytes a key.

use std::sync::atomic::{AtomicU32, Ordering};

/// Minutes since 1970; zero: not since the start.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU32);

impl LastUse {
    /// Notes a use in this minute. One that many use is written once a minute.
    pub fn note(&self, minute: u32) {
        if self.0.load(Ordering::Relaxed) < minute {
            self.0.store(minute, Ordering::Relaxed);
        }
    }

    /// The minute of the last use.
    pub fn minute(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for LastUse {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.minute()))
    }
}
