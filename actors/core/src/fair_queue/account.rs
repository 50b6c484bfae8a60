//! Virtual time: tags of tenants and groups, and the clocks they are compared with.
//!
//! Invariant: a clock never falls; a tag falls only by a refund, and never below the clock of its last
//! activation.

use super::planted::{Fault, planted};
use crate::units::Share;

/// Virtual time: cost units × 2³² per weight. One request adds at most 2⁸⁷, so 128 bits never wrap.
pub(super) type Tag = i128;

/// Virtual time that `cost` takes at `weight`.
pub(super) fn span(cost: u64, weight: Share) -> Tag {
    wide_span(i128::from(cost), weight)
}

fn wide_span(cost: i128, weight: Share) -> Tag {
    cost.saturating_mul(1 << 32) / i128::from(weight.get())
}

/// What a tenant has had within its group, or a group within the whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    pub(super) tag: Tag,
    /// Refunds not yet spent, in cost units: so much more may the tag lag than LAG allows.
    pub(super) credit: i128,
    /// The clock at the last activation.
    pub(super) floor: Tag,
    /// Charged here, and by other replicas, since the era began, in cost units.
    pub(super) own: i128,
    pub(super) others: i128,
    /// How often the tag was set anew for all replicas.
    pub(super) era: u64,
}

impl Account {
    /// Back from having nothing queued: no credit for the time away, debts stay.
    pub(super) fn activate(&mut self, clock: Tag) {
        self.tag = if planted(Fault::NotLifted) { self.tag } else { self.tag.max(clock) };
        self.credit = if planted(Fault::CreditOutlivesIdling) { self.credit } else { 0 };
        self.floor = clock;
    }

    /// Bounds how far the tag may lie behind the clock at a grant.
    pub(super) fn bound_lag(&mut self, clock: Tag, lag: u64, weight: Share) {
        let most = wide_span(self.credit.saturating_add(i128::from(lag)), weight);
        let lowest = if planted(Fault::LagUnbounded) { Tag::MIN } else { clock.saturating_sub(most) };
        self.tag = self.tag.max(lowest);
    }

    /// Charges a forecast; refunds it replaces are spent.
    pub(super) fn charge_forecast(&mut self, cost: u64, weight: Share) {
        self.correct(0, cost, weight);
        self.credit = self.credit.saturating_sub(i128::from(cost)).max(0);
    }

    /// A request charged `old` so far is charged `new` instead. Each bound is rounded on its own, so
    /// that corrections add up to the span of the last charge.
    pub(super) fn correct(&mut self, old: u64, new: u64, weight: Share) {
        let change = span(new, weight).saturating_sub(span(old, weight));
        let lowest = if planted(Fault::RefundBelowFloor) { Tag::MIN } else { self.floor.min(self.tag) };
        self.tag = self.tag.saturating_add(change).max(lowest);
        self.own = self.own.saturating_add(i128::from(new)).saturating_sub(i128::from(old));
        if new < old && !planted(Fault::RefundsForgotten) {
            self.credit = self.credit.saturating_add(i128::from(old.saturating_sub(new)));
        }
    }

    /// The distance to the clock keeps its meaning in cost when the weight changes.
    pub(super) fn reweigh(&mut self, clock: Tag, old: Share, new: Share) {
        let distance = self.tag.saturating_sub(clock);
        let old = if planted(Fault::NotReweighed) { new } else { old };
        let scaled = distance.saturating_mul(i128::from(old.get())) / i128::from(new.get());
        let tag = clock.saturating_add(scaled).max(self.floor.min(self.tag));
        self.begin_era(self.era.saturating_add(1), tag);
    }

    /// The tag is this, and what was charged before is in it.
    pub(super) fn begin_era(&mut self, era: u64, tag: Tag) {
        *self = Self { tag, floor: self.floor.min(tag), own: 0, others: 0, era, ..*self };
    }

    /// Virtual time of what was charged.
    pub(super) fn charged(cost: i128, weight: Share) -> Tag {
        wide_span(cost, weight)
    }

    /// Moves among others with a clock of their own: debts come along, credit does not.
    pub(super) fn rebase(&mut self, from: Tag, to: Tag) {
        let least = if planted(Fault::CreditMovesAlong) { Tag::MIN } else { 0 };
        let debt = self.tag.saturating_sub(from).max(least);
        let era = self.era.saturating_add(1);
        *self = Self { tag: to.saturating_add(debt), credit: 0, floor: to, own: 0, others: 0, era };
    }

    /// Is among others with a clock of their own already, and has no credit there.
    pub(super) fn arrive(&mut self, clock: Tag) {
        *self = Self { credit: 0, floor: clock.min(self.tag), ..*self };
    }
}

/// A clock of a pool: of one group on one model, or of the groups on one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    now: Tag,
    /// What the last division by the active weights left over.
    carry: i128,
}

impl Clock {
    pub(super) fn starting_at(now: Tag) -> Self {
        Self { now, carry: 0 }
    }

    pub(super) fn now(&self) -> Tag {
        self.now
    }

    /// Follows a tag that was granted.
    pub(super) fn raise(&mut self, tag: Tag) {
        self.now = if planted(Fault::ClockFalls) { tag } else { self.now.max(tag) };
    }

    /// The churn floor: a finished cost moves the clock by θ of its share among the active weights.
    pub(super) fn creep(&mut self, cost: u64, theta_percent: u32, active_weight: u64) {
        let theta_percent = if planted(Fault::NoChurnFloor) { 0 } else { theta_percent };
        let whole = i128::from(active_weight.max(1)).saturating_mul(100);
        let part =
            i128::from(cost).saturating_mul(1 << 32).saturating_mul(i128::from(theta_percent.min(100)));
        let part = part.saturating_add(self.carry);
        self.now = self.now.saturating_add(part / whole);
        self.carry = part % whole;
    }
}
