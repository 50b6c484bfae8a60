//! What was charged lately: sums over a window that moves in steps.
//!
//! Is: for the live view and the gauges. Is not: a part of any decision about who goes next. A charge falls
//! into the step of its moment, a refund into that of its own, so a sum may be below zero for a while.

use super::plan::Spent;
use super::state::Seat;
use super::{FairQueue, Place};
use crate::moment::Moment;

/// Length of a step.
const STEP_MICROS: u64 = 30_000_000;
/// Steps of a window: two whole ones and the one that runs. A window is 60 to 90 s long.
const STEPS: u32 = 3;
/// Charges are counted in so many units of cost, by a shift, so that a sum fits into 32 bits up to eleven
/// million tokens a second: among very many tenants each cache line that a grant touches is felt.
const GRAIN: u32 = 4;

/// A sum over the last steps; steps nobody added to are cleared when somebody looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    /// The newest step it has heard of.
    step: u32,
    /// By number of the step modulo [`STEPS`].
    parts: [i32; 3],
}

/// A charge in grains.
fn grains(cost: u64) -> i32 {
    i32::try_from(cost >> GRAIN).unwrap_or(i32::MAX)
}

impl Recent {
    /// What was charged `old` is charged `new`.
    pub(super) fn add(&mut self, step: u32, old: u64, new: u64) {
        self.move_to(step);
        if let Some(part) = self.part(step) {
            *part = part.saturating_add(grains(new).saturating_sub(grains(old)));
        }
    }

    /// The sum over the window that ends in `step`, in units of cost.
    pub(super) fn sum(mut self, step: u32) -> u64 {
        self.move_to(step);
        let sum: i64 = self.parts.iter().map(|part| i64::from(*part)).sum();
        u64::try_from(sum).unwrap_or(0) << GRAIN
    }

    fn part(&mut self, step: u32) -> Option<&mut i32> {
        self.parts.get_mut(usize::try_from(step % STEPS).ok()?)
    }

    fn move_to(&mut self, step: u32) {
        if step <= self.step {
            return;
        }
        if step.saturating_sub(self.step) >= STEPS {
            self.parts = Default::default();
        } else {
            for passed in self.step.saturating_add(1)..=step {
                if let Some(part) = self.part(passed) {
                    *part = 0;
                }
            }
        }
        self.step = step;
    }
}

/// A cost to remember in 32 bits, in grains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rough(u32);

impl Rough {
    pub(super) fn of(cost: u64) -> Self {
        Self(u32::try_from(cost >> GRAIN).unwrap_or(u32::MAX))
    }

    fn cost(self) -> u64 {
        u64::from(self.0) << GRAIN
    }
}

/// The time that the bookkeeping goes by: the latest that any verb was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    pub(super) now: Moment,
    pub(super) step: u32,
    /// |forecast − actual| of requests that ended with known usage, and their actual cost.
    error: Recent,
    outcome: Recent,
}

impl Watch {
    pub(super) fn errors(&self) -> (u64, u64) {
        (self.error.sum(self.step), self.outcome.sum(self.step))
    }

    /// The window's beginning; `None` before the first whole window.
    pub(super) fn window_start(&self) -> Option<Moment> {
        let first = self.step.checked_sub(STEPS.saturating_sub(1))?;
        Some(Moment::from_micros(u64::from(first).saturating_mul(STEP_MICROS)))
    }

    /// Whether `at` lies in the window.
    pub(super) fn in_window(&self, at: Moment) -> bool {
        self.window_start().is_none_or(|start| at >= start)
    }
}

impl FairQueue {
    /// Every verb says what time it is. Moments of different threads may arrive in the wrong order.
    pub(super) fn note_time(&mut self, now: Moment) {
        if now > self.watch.now {
            self.watch.now = now;
            self.watch.step = u32::try_from(now.as_micros() / STEP_MICROS).unwrap_or(u32::MAX);
        }
    }

    /// A tenant on a model was charged `old` so far and is charged `new` from now on.
    pub(super) fn note_service(&mut self, tenant: Place, model: Place, old: u64, new: u64) {
        let step = self.watch.step;
        if let Some(model) = self.models.at_mut(model) {
            model.recent.add(step, old, new);
        }
        if let Some(lane) = self.tenants.at_mut(tenant).and_then(|tenant| tenant.lane_mut(model)) {
            lane.recent.add(step, old, new);
        }
    }

    /// How far off the forecast was.
    pub(super) fn note_outcome(&mut self, seat: &Seat, spent: Spent, cost: u64) {
        if matches!(spent, Spent::Tokens { .. }) {
            let step = self.watch.step;
            self.watch.error.add(step, 0, cost.abs_diff(seat.forecast.cost()));
            self.watch.outcome.add(step, 0, cost);
        }
    }
}
