//! A core in a cell: a mutex held for a few hundred nanoseconds, and containment of a panic inside it.
//!
//! Is: the door through which handlers and the actor call a core. Is not: a place to wait; nothing is
//! awaited under the lock. Invariant: after a panic the core is healed before the lock is released, so no
//! caller ever sees a torn core.

use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a cell can hold.
pub trait Heal {
    /// A fresh core in place of one that a panic may have torn, built from what is known outside of it.
    fn heal(&mut self);

    /// A call has ended well: its caller now holds what it gave. Until then a panic takes it back.
    fn commit(&mut self) {}
}

/// A core call panicked; the core was healed. The caller answers 503 `restarting`, or tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {0} core was restarted after a fault")]
pub struct Contained(pub &'static str);

/// A planted fault at the beginning of a call, or at its end.
const EARLY: u8 = 1;
const LATE: u8 = 2;

/// A core, its lock and its containment.
pub struct Cell<C> {
    name: &'static str,
    core: Mutex<C>,
    restarts: AtomicU64,
    planted: AtomicU8,
}

impl<C> fmt::Debug for Cell<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<C: Heal> Cell<C> {
    /// Puts `core` in a cell; `name` is the actor's, for logs and metrics.
    pub fn new(name: &'static str, core: C) -> Self {
        Self { name, core: Mutex::new(core), restarts: AtomicU64::new(0), planted: AtomicU8::new(0) }
    }

    /// Calls the core under its lock.
    pub fn with<R>(&self, call: impl FnOnce(&mut C) -> R) -> Result<R, Contained> {
        let mut core = self.core.lock();
        let planted = match self.planted.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.planted.swap(0, Ordering::Relaxed),
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            if planted == EARLY {
                std::panic::resume_unwind(Box::new("planted fault"));
            }
            let result = call(&mut core);
            if planted == LATE {
                std::panic::resume_unwind(Box::new("planted late fault"));
            }
            result
        }));
        match result {
            Ok(result) => {
                core.commit();
                Ok(result)
            }
            Err(_) => {
                core.heal();
                self.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(actor = self.name, "a core call panicked; a fresh core was built");
                Err(Contained(self.name))
            }
        }
    }

    /// The actor's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How often a panic was contained.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Makes the next call panic. For tests of containment.
    #[doc(hidden)]
    pub fn plant_fault(&self) {
        self.planted.store(EARLY, Ordering::Relaxed);
    }

    /// Makes the next call panic once its work is done and its result is lost. For tests of containment.
    #[doc(hidden)]
    pub fn plant_late_fault(&self) {
        self.planted.store(LATE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter {
        value: u32,
        healed: u32,
    }

    impl Heal for Counter {
        fn heal(&mut self) {
            *self = Self { value: 0, healed: self.healed + 1 };
        }
    }

    #[test]
    fn a_panic_is_contained_and_the_next_caller_finds_a_healed_core() {
        let cell = Cell::new("test", Counter { value: 7, healed: 0 });
        cell.plant_fault();
        assert_eq!(cell.with(|core| core.value), Err(Contained("test")));
        assert_eq!(cell.with(|core| (core.value, core.healed)), Ok((0, 1)));
        assert_eq!(cell.with(|_| -> u32 { panic!("torn") }), Err(Contained("test")));
        assert_eq!(cell.with(|core| core.healed), Ok(2));
        assert_eq!(cell.restarts(), 2);
    }
}
