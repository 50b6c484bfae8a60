//! What was charged lately: sums over a window that moves in steps.
//!
//! Is: for the live view and the gauges. Is not: a part of any decision about who goes next. A charge falls
//! into the step of its moment, a refund into that of its own, so a sum may be below zero for a while.

use super::plan::Spent;
use super::state::Seat;
use super::{FairQueue, Place};
use crate::moment::Moment;

/// Length of a step.
const STEP_MICROS: u64 = 10_000_000;
/// Steps of a window: six whole ones and the one that runs. A window is 60 to 70 s long.
const STEPS: u64 = 7;

/// A sum over the last steps; steps nobody added to are cleared when somebody looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    /// The newest step it has heard of.
    step: u64,
    /// By number of the step modulo [`STEPS`].
    parts: [i64; 7],
}

impl Recent {
    pub(super) fn add(&mut self, step: u64, change: i64) {
        self.move_to(step);
        if let Some(part) = self.part(step) {
            *part = part.saturating_add(change);
        }
    }

    /// The sum over the window that ends in `step`.
    pub(super) fn sum(mut self, step: u64) -> u64 {
        self.move_to(step);
        let sum = self.parts.iter().fold(0_i64, |sum, part| sum.saturating_add(*part));
        u64::try_from(sum).unwrap_or(0)
    }

    fn part(&mut self, step: u64) -> Option<&mut i64> {
        self.parts.get_mut(usize::try_from(step % STEPS).ok()?)
    }

    fn move_to(&mut self, step: u64) {
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

/// The time that the bookkeeping goes by: the latest that any verb was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    pub(super) now: Moment,
    pub(super) step: u64,
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
        Some(Moment::from_micros(first.saturating_mul(STEP_MICROS)))
    }

    /// Whether `at` lies in the window.
    pub(super) fn in_window(&self, at: Moment) -> bool {
        self.window_start().is_none_or(|start| at >= start)
    }
}

fn signed(cost: u64) -> i64 {
    i64::try_from(cost).unwrap_or(i64::MAX)
}

impl FairQueue {
    /// Every verb says what time it is. Moments of different threads may arrive in the wrong order.
    pub(super) fn note_time(&mut self, now: Moment) {
        if now > self.watch.now {
            self.watch.now = now;
            self.watch.step = now.as_micros() / STEP_MICROS;
        }
    }

    /// A tenant on a model was charged `old` so far and is charged `new` from now on.
    pub(super) fn note_service(&mut self, tenant: Place, model: Place, old: u64, new: u64) {
        let change = signed(new).saturating_sub(signed(old));
        let step = self.watch.step;
        if let Some(model) = self.models.at_mut(model) {
            model.recent.add(step, change);
        }
        if let Some(lane) = self.tenants.at_mut(tenant).and_then(|tenant| tenant.lane_mut(model)) {
            lane.recent.add(step, change);
        }
    }

    /// How far off the forecast was.
    pub(super) fn note_outcome(&mut self, seat: &Seat, spent: Spent, cost: u64) {
        if matches!(spent, Spent::Tokens { .. }) {
            let step = self.watch.step;
            self.watch.error.add(step, signed(cost.abs_diff(seat.forecast)));
            self.watch.outcome.add(step, signed(cost));
        }
    }
}
