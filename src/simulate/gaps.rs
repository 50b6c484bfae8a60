//! How far apart tenants drifted: the largest difference of service per weight, against what is proven.
//!
//! Two tenants are compared while both wait, below their own caps, for the same one model and in the same
//! group; service is the true cost of what was granted. The bound is that of fairness.md §3.2:
//! `c_f/w_f + c_g/w_g + 2(D_f ε_f/w_f + D_g ε_g/w_g)` with the largest cost c, the most outstanding at once
//! D and the largest error of a forecast ε of each. Only the first tenants of the scenario (then of the
//! trace) are compared, because pairs are many.

use super::directory::Place;

/// Tenants that are compared.
pub(super) const COMPARED: usize = 64;

/// Cost per weight, × 2³².
type Level = i128;

/// A tenant of the comparison.
#[derive(Clone, Copy, Debug, Default)]
struct Party {
    weight: u32,
    group: Place,
    /// The one model it waits for.
    waits: Option<Place>,
    served: Level,
    in_flight: u32,
    most_in_flight: u32,
    largest_cost: u64,
    largest_error: u64,
}

impl Party {
    /// Its part of the bound.
    fn bound(&self) -> Level {
        let twice = u128::from(self.largest_error)
            .saturating_mul(u128::from(self.most_in_flight))
            .saturating_mul(2)
            .saturating_add(u128::from(self.largest_cost));
        span(u64::try_from(twice).unwrap_or(u64::MAX), self.weight)
    }
}

fn span(cost: u64, weight: u32) -> Level {
    i128::from(cost).saturating_mul(1 << 32) / i128::from(weight.max(1))
}

/// What is known of a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Difference of their service when both began to wait.
    base: Level,
    largest: Level,
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    parties: Vec<Party>,
    /// Of (f, g) with f < g at `g(g-1)/2 + f`.
    pairs: Vec<Pair>,
}

/// The largest gap of a pair and its bound, in tokens per weight 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Widest {
    pub(super) between: (Place, Place),
    pub(super) tokens: u64,
    pub(super) bound: u64,
}

impl Gaps {
    pub(super) fn meet(&mut self, tenant: Place, weight: u32, group: Place) {
        while self.parties.len() <= tenant.min(COMPARED - 1) {
            self.pairs.extend(std::iter::repeat_n(Pair::default(), self.parties.len()));
            self.parties.push(Party::default());
        }
        if let Some(party) = self.parties.get_mut(tenant) {
            (party.weight, party.group) = (weight, group);
        }
    }

    /// A grant, before it changes who waits. Costs in cost units.
    pub(super) fn granted(&mut self, tenant: Place, cost: u64, forecast: u64) {
        let Some(party) = self.parties.get_mut(tenant) else { return };
        party.served = party.served.saturating_add(span(cost, party.weight));
        party.in_flight = party.in_flight.saturating_add(1);
        party.most_in_flight = party.most_in_flight.max(party.in_flight);
        party.largest_cost = party.largest_cost.max(cost);
        party.largest_error = party.largest_error.max(cost.abs_diff(forecast));
        let party = *party;
        self.each_rival(tenant, &party, |pair, difference| {
            let gap = difference.saturating_sub(pair.base).saturating_abs();
            pair.largest = pair.largest.max(gap);
        });
    }

    pub(super) fn ended(&mut self, tenant: Place) {
        if let Some(party) = self.parties.get_mut(tenant) {
            party.in_flight = party.in_flight.saturating_sub(1);
        }
    }

    /// The tenant waits for this one model from now on, or for none or several.
    pub(super) fn waits(&mut self, tenant: Place, model: Option<Place>) {
        let Some(party) = self.parties.get_mut(tenant) else { return };
        if party.waits == model {
            return;
        }
        party.waits = model;
        let party = *party;
        self.each_rival(tenant, &party, |pair, difference| pair.base = difference);
    }

    /// Every pair of this tenant and another that waits alongside, with the difference of their service.
    fn each_rival(&mut self, tenant: Place, party: &Party, mut look: impl FnMut(&mut Pair, Level)) {
        if party.waits.is_none() {
            return;
        }
        for (place, rival) in self.parties.iter().enumerate() {
            if place == tenant || rival.waits != party.waits || rival.group != party.group {
                continue;
            }
            let difference = party.served.saturating_sub(rival.served);
            let difference = if tenant < place { difference } else { difference.saturating_neg() };
            if let Some(pair) = self.pairs.get_mut(position(tenant, place)) {
                look(pair, difference);
            }
        }
    }

    /// The pair that came nearest to its bound or passed it the most, and the pair furthest apart.
    pub(super) fn widest(&self) -> Option<(Widest, Widest)> {
        let mut furthest: Option<Widest> = None;
        let mut tightest: Option<Widest> = None;
        for (g, second) in self.parties.iter().enumerate() {
            for (f, first) in self.parties.iter().enumerate().take(g) {
                let Some(pair) = self.pairs.get(position(f, g)) else { continue };
                let bound = first.bound().saturating_add(second.bound());
                let this = Widest { between: (f, g), tokens: tokens(pair.largest), bound: tokens(bound) };
                if furthest.is_none_or(|widest| this.tokens > widest.tokens) {
                    furthest = Some(this);
                }
                if tightest.is_none_or(|widest| this.part() > widest.part()) {
                    tightest = Some(this);
                }
            }
        }
        furthest.filter(|widest| widest.tokens > 0).zip(tightest)
    }
}

impl Widest {
    /// The gap in millionths of its bound.
    fn part(&self) -> u128 {
        u128::from(self.tokens).saturating_mul(1_000_000) / u128::from(self.bound.max(1))
    }
}

fn position(f: Place, g: Place) -> usize {
    let (low, high) = (f.min(g), f.max(g));
    high.saturating_mul(high.saturating_sub(1)) / 2 + low
}

/// Cost units per weight as tokens per weight 100.
fn tokens(level: Level) -> u64 {
    u64::try_from(level >> 32).unwrap_or(u64::MAX)
}
