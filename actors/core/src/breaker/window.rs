//! How many requests of the last 30 s failed, in steps of 5 s.

use crate::moment::Moment;

const STEPS: usize = 6;
const STEP_MICROS: u64 = 5_000_000;

/// The requests of one step.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    number: u64,
    total: u64,
    failed: u64,
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Window {
    steps: [Step; STEPS],
    newest: u64,
}

impl Window {
    /// The step of `now`. One that lies before the newest counts as that: two threads may come out of order.
    fn step(&mut self, now: Moment) -> Option<&mut Step> {
        self.newest = self.newest.max(now.as_micros() / STEP_MICROS);
        let number = self.newest;
        let place = usize::try_from(number).unwrap_or(0) % STEPS;
        let step = self.steps.get_mut(place)?;
        if step.number != number {
            *step = Step { number, ..Step::default() };
        }
        Some(step)
    }

    pub(super) fn succeeded(&mut self, now: Moment) {
        if let Some(step) = self.step(now) {
            step.total = step.total.saturating_add(1);
        }
    }

    pub(super) fn failed(&mut self, now: Moment) {
        if let Some(step) = self.step(now) {
            step.total = step.total.saturating_add(1);
            step.failed = step.failed.saturating_add(1);
        }
    }

    /// One that had succeeded has failed after all.
    pub(super) fn turned(&mut self, now: Moment) {
        if let Some(step) = self.step(now) {
            step.failed = step.failed.saturating_add(1);
        }
    }

    /// Whether at least `least` requests came and `percent` of them failed.
    pub(super) fn exceeds(&self, now: Moment, percent: u32, least: u32) -> bool {
        let newest = self.newest.max(now.as_micros() / STEP_MICROS);
        let steps = u64::try_from(STEPS).unwrap_or(u64::MAX);
        let recent = self.steps.iter().filter(|step| newest.saturating_sub(step.number) < steps);
        let (total, failed) = recent.fold((0_u64, 0_u64), |(total, failed), step| {
            (total.saturating_add(step.total), failed.saturating_add(step.failed))
        });
        // Those that turned may have begun before the window.
        let total = total.max(failed);
        total >= u64::from(least) && failed.saturating_mul(100) >= total.saturating_mul(u64::from(percent))
    }
}
