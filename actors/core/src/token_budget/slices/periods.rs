//! Claims on period budgets.

use super::{Answer, Ask, Counter, FRESH, IDLE, Others, Report, Slice, Slices};
use crate::moment::Moment;
use crate::token_budget::account::Account;
use crate::token_budget::period::Period;
use crate::token_budget::plan::{Amount, What};
use crate::token_budget::{KEPT_MICROS, Owner, TokenBudget};

/// How a limit stands for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token_budget) enum Fit {
    Fits,
    /// The store must be asked.
    Lacks,
}

impl Slices {
    /// What the others have.
    pub fn others(&self, counter: &Counter) -> Others {
        self.counters.get(counter).map(|slice| slice.others).unwrap_or_default()
    }

    /// Whether a request that brings used and held to `least` stays within the claim; if not, notes what is lacking.
    pub fn fit(&mut self, now: Moment, counter: Counter, own: (u128, u128), limit: u128) -> Fit {
        let (forfeit, (busy, least)) = (self.is_forfeit(now), own);
        let slice = self.slice(counter, busy);
        slice.touched = slice.touched.max(now);
        // What was claimed under a higher limit may be more than this one allows.
        let within = slice.limit.is_some_and(|given| given <= limit);
        if within && !forfeit && least <= slice.allowance {
            return Fit::Fits;
        }
        self.lacking.push(Ask::Claim { counter, least, limit });
        Fit::Lacks
    }

    /// A limit that only warns: what is used is told all the same.
    pub fn touch(&mut self, now: Moment, counter: Counter, busy: u128) {
        let slice = self.slice(counter, busy);
        slice.touched = slice.touched.max(now);
    }

    /// What is in use is ours, whoever was asked: it may be from before there was a limit, or be the upstream's excess.
    fn slice(&mut self, counter: Counter, busy: u128) -> &mut Slice {
        let slice = self.counters.entry(counter).or_default();
        slice.allowance = slice.allowance.max(busy);
        slice
    }

    fn report(&mut self, counter: Counter, sums: (u128, u128), least: u128, exact: bool) -> Report {
        self.seq += 1;
        let seq = self.seq;
        let (used, busy) = sums;
        let slice = self.slice(counter, busy);
        if exact {
            slice.allowance = busy;
            slice.exact = seq;
        }
        slice.told = Some(sums);
        slice.unsure = true;
        Report { counter, seq, exact, have: slice.allowance, least, limit: slice.limit, used, busy }
    }

    fn answer(&mut self, counter: Counter, answer: &Answer) {
        let Some(slice) = self.counters.get_mut(&counter) else { return };
        if answer.seq > slice.heard {
            slice.heard = answer.seq;
            slice.others = answer.others;
            slice.unsure = false;
        }
        if answer.seq >= slice.exact {
            slice.allowance = slice.allowance.max(answer.claim);
        }
    }
}

impl TokenBudget {
    /// Used, and used and held, of a counter here.
    fn sums(&self, counter: &Counter) -> (u128, u128) {
        let window = |account: &Account| {
            let window = account.window(counter.period, counter.index);
            let used = window.used.amount().of(counter.what);
            (used, used.saturating_add(window.held.amount().of(counter.what)))
        };
        self.accounts.get(counter.owner).map(window).unwrap_or_default()
    }

    /// What to tell the store so that a claim is at least `least` under `limit`.
    pub fn claim(&mut self, counter: Counter, least: u128, limit: u128) -> Option<Report> {
        let sums = self.sums(&counter);
        let slices = self.slices.as_mut()?;
        let slice = slices.slice(counter, sums.1);
        // A limit that was lowered: nothing that was claimed before counts, but for what is in use.
        let exact = slice.limit.is_some_and(|given| given > limit);
        slice.limit = Some(limit);
        Some(slices.report(counter, sums, least, exact))
    }

    /// What to tell the store to give back all of a counter that is not in use.
    pub fn give_back(&mut self, counter: Counter) -> Option<Report> {
        let sums = self.sums(&counter);
        let slices = self.slices.as_mut()?;
        slices.counters.get(&counter)?;
        Some(slices.report(counter, sums, 0, true))
    }

    /// The store has answered.
    pub fn claimed(&mut self, counter: Counter, answer: &Answer) {
        if let Some(slices) = &mut self.slices {
            slices.answer(counter, answer);
        }
    }

    /// What this replica may have used and hold of a counter, as far as it knows.
    pub fn allowance(&self, counter: &Counter) -> u128 {
        let slice = self.slices.as_ref().and_then(|slices| slices.counters.get(counter));
        slice.map_or(0, |slice| slice.allowance)
    }

    /// What the others have of a counter, as far as is known.
    pub fn others(&self, counter: &Counter) -> Others {
        self.slices.as_ref().map(|slices| slices.others(counter)).unwrap_or_default()
    }

    /// What the ledger says the others have used of an owner whose counters are not exchanged.
    pub fn note_others(&mut self, owner: Owner, period: Period, index: i64, used: Amount) {
        let Some(slices) = &mut self.slices else { return };
        for what in [What::Tokens, What::Money] {
            let slice = slices.counters.entry(Counter { owner, period, index, what }).or_default();
            if slice.heard == 0 {
                let used = used.of(what);
                slice.others = Others { claimed: used, used, busy: used };
            }
        }
    }

    /// What is to be told to the store now and then: what changed, what lies idle, what is not sure.
    pub fn round(&mut self, now: Moment) -> Vec<Report> {
        let Some(slices) = &self.slices else { return Vec::new() };
        let mut due = Vec::new();
        for (counter, slice) in &slices.counters {
            let sums = self.sums(counter);
            let quiet = now.since(slice.touched);
            let idle = quiet >= IDLE && (slice.allowance > sums.1 || slice.unsure) && slice.told.is_some();
            // Whose requests pass here is shown what the others use.
            let fresh = quiet < FRESH && slice.touched > Moment::ZERO;
            if idle || fresh || slice.told.is_some_and(|told| told != sums) {
                due.push((*counter, sums, idle));
            }
        }
        due.sort_unstable_by_key(|(counter, ..)| *counter);
        let Some(slices) = &mut self.slices else { return Vec::new() };
        due.into_iter().map(|(counter, sums, idle)| slices.report(counter, sums, 0, idle)).collect()
    }

    /// Everything that the store must know before it may give anything to anybody: after it was lost. `hard` says which
    /// owners have budgets: what others have used of theirs must be known too.
    pub fn assert(&mut self, unix_micros: i64, hard: impl Fn(Owner) -> bool) -> Vec<Report> {
        let Some(slices) = &self.slices else { return Vec::new() };
        let mut all: Vec<Counter> = slices.counters.keys().copied().collect();
        let earliest = unix_micros.saturating_sub(KEPT_MICROS);
        for (owner, _) in self.accounts.iter().filter(|(owner, _)| hard(*owner)) {
            for period in Period::ALL {
                let mut indexes = vec![period.index(unix_micros), period.index(earliest)];
                indexes.dedup();
                for index in indexes {
                    for what in [What::Tokens, What::Money] {
                        all.push(Counter { owner, period, index, what });
                    }
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        let found: Vec<_> = all.into_iter().map(|counter| (counter, self.sums(&counter))).collect();
        let Some(slices) = &mut self.slices else { return Vec::new() };
        let known = |slices: &Slices, counter: &Counter| slices.counters.contains_key(counter);
        let mut reports = Vec::new();
        for (counter, sums) in found {
            if sums.1 > 0 || known(slices, &counter) {
                // The slack stays ours: the store may come back and go again while it is needed.
                slices.seq += 1;
                let seq = slices.seq;
                let slice = slices.slice(counter, sums.1);
                slice.exact = seq;
                slice.told = Some(sums);
                let (have, limit) = (slice.allowance, slice.limit);
                let (used, busy) = sums;
                reports.push(Report { counter, seq, exact: true, have, least: 0, limit, used, busy });
            }
        }
        reports
    }

    /// What to tell the store so that it keeps no more than what is in use.
    pub fn give_all_back(&mut self) -> Vec<Report> {
        let Some(slices) = &self.slices else { return Vec::new() };
        let mut counters: Vec<_> = slices.counters.keys().copied().collect();
        counters.sort_unstable();
        counters.into_iter().filter_map(|counter| self.give_back(counter)).collect()
    }

    /// What to tell the store to hear what the others have.
    pub fn look(&mut self, counter: Counter, limit: Option<u128>) -> Option<Report> {
        let sums = self.sums(&counter);
        let slices = self.slices.as_mut()?;
        let report = slices.report(counter, sums, 0, false);
        Some(Report { limit, ..report })
    }

    /// The store has heard a later number of this replica than it believes to have used.
    pub fn catch_up(&mut self, seq: u64) {
        if let Some(slices) = &mut self.slices {
            slices.seq = slices.seq.max(seq);
        }
    }

    /// Forgets counters of periods that are over.
    pub(in crate::token_budget) fn expire_slices(&mut self, unix_micros: i64, gone: impl Fn(Owner) -> bool) {
        let Some(slices) = &mut self.slices else { return };
        let before = unix_micros.saturating_sub(KEPT_MICROS);
        slices.counters.retain(|counter, _| {
            counter.period.end(counter.index).is_none_or(|end| end >= before) && !gone(counter.owner)
        });
        slices.pools.retain(|(owner, _), _| !gone(*owner));
    }
}
