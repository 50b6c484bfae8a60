//! One reservation over every budget that applies: all of it or none of it.

use super::account::{Account, Indexes, Window};
use super::hold::{Held, Taken};
use super::plan::{
    Amount, Demand, Exhausted, Granted, HoldId, LEAST_OUTPUT, Limits, Minute, Output, Refusal, Scope,
    Warning, What,
};
use super::slices::{Counter, Fit, Slices};
use super::{Owner, Period, TokenBudget};
use crate::moment::Moment;
use std::time::Duration;

/// One side of a demand: the tenant or the key, and its account as it stands.
#[derive(Clone, Copy)]
struct Side<'a> {
    scope: Scope,
    owner: Owner,
    limits: &'a Limits,
    account: &'a Account,
}

/// What a request reserves in the period budgets.
#[derive(Clone, Copy)]
struct Own {
    hard: bool,
    amount: Amount,
    output: u64,
    set_output: Option<u64>,
}

impl TokenBudget {
    /// Reserves for a request, or says why not.
    pub fn reserve(&mut self, now: Moment, demand: &Demand<'_>) -> Result<Granted, Refusal> {
        too_large(demand)?;
        let indexes = Indexes::of(demand.arrival);
        let [tenant, key] = self.accounts.both(demand.tenant, demand.key);
        let slices = &mut self.slices;
        if let Some(parts) = slices.as_ref().map_or(Some(1), |slices| slices.parts()) {
            tenant.set_limits(now, demand.tenant_limits, parts);
            key.set_limits(now, demand.key_limits, parts);
        }
        let of_tenant = Owner::Tenant(demand.tenant);
        let of_key = Owner::Key(demand.tenant, demand.key);
        let sides = [
            Side { scope: Scope::Tenant, owner: of_tenant, limits: demand.tenant_limits, account: tenant },
            Side { scope: Scope::Key, owner: of_key, limits: demand.key_limits, account: key },
        ];
        let own = own(demand, &sides, indexes, slices.as_deref());
        match slices.as_deref_mut() {
            None => {
                fits(&sides, indexes, own.amount, None)?;
                minutes(&sides, now, demand.forecast)?;
            }
            Some(slices) => shared(&sides, indexes, now, (demand, own.amount), slices)?,
        }
        let warnings = warnings(&sides, indexes, expected(demand), slices.as_deref());
        let limits = [demand.tenant_limits, demand.key_limits];
        let mut of_pool = slices.as_deref_mut().filter(|slices| !slices.is_apart());
        let mut pooled = limits.into_iter().zip([of_tenant, of_key]);
        let taken = [(tenant, Scope::Tenant), (key, Scope::Key)].map(|(account, scope)| {
            account.holds = account.holds.saturating_add(1);
            account.change(indexes, |period, window| {
                window.held.add(own.amount);
                let of_this = |warning: &&Warning| warning.scope == scope && warning.period == period;
                warnings.iter().filter(of_this).for_each(|warning| window.warn(warning.what));
            });
            match (of_pool.as_deref_mut(), pooled.next()) {
                (Some(slices), Some((limits, owner))) => {
                    from_pools(slices, now, owner, limits, Some(demand.forecast))
                }
                _ => take(account, now, demand.forecast),
            }
        });
        let id = HoldId(self.next);
        self.next += 1;
        let held = Held { tenant: demand.tenant, key: demand.key, indexes, amount: own.amount, taken };
        self.holds.insert(id, held);
        let Own { hard, amount: held, output, set_output } = own;
        Ok(Granted { id, hard, held, output, set_output, warnings })
    }
}

fn take(account: &mut Account, now: Moment, forecast: u64) -> Taken {
    let tokens = account.tokens.as_mut().map(|bucket| {
        let share = bucket.share(forecast);
        bucket.take(now, share);
        share
    });
    let request = account.requests.as_mut().map(|bucket| bucket.take(now, 1)).is_some();
    Taken { tokens, request }
}

/// From the pools of one owner: tokens if they are asked for, and a request.
pub(super) fn from_pools(
    slices: &mut Slices,
    now: Moment,
    owner: Owner,
    limits: &Limits,
    tokens: Option<u64>,
) -> Taken {
    let tokens = limits
        .tokens_per_minute
        .zip(tokens)
        .map(|(limit, count)| slices.take(now, (owner, Minute::Tokens), limit, count));
    let requests = limits.requests_per_minute;
    let request = requests.map(|limit| slices.take(now, (owner, Minute::Requests), limit, 1)).is_some();
    Taken { tokens, request }
}

/// Where replicas share: what does not fit at all is refused at once, what may fit if the store is asked is `Short`.
fn shared(
    sides: &[Side<'_>; 2],
    indexes: Indexes,
    now: Moment,
    (demand, own): (&Demand<'_>, Amount),
    slices: &mut Slices,
) -> Result<(), Refusal> {
    slices.begin();
    let beside = fits(sides, indexes, own, Some(slices));
    if let Err(Refusal::Exhausted(_)) = beside {
        return beside;
    }
    let mut lacks = false;
    each(sides, indexes, true).for_each(|limit| {
        let busy = limit.used().saturating_add(limit.held());
        let own = (busy, busy.saturating_add(own.of(limit.what)));
        lacks |= slices.fit(now, limit.counter(indexes), own, limit.limit) == Fit::Lacks;
    });
    each(sides, indexes, false).for_each(|limit| {
        slices.touch(now, limit.counter(indexes), limit.used().saturating_add(limit.held()));
    });
    if lacks && demand.asked {
        // The store was asked, and it was not enough: the rest is reserved somewhere.
        let first = each(sides, indexes, true).map(|limit| (limit.scope, limit.period)).next();
        beside?;
        return first.map_or(Ok(()), |(scope, period)| Err(Refusal::Reserved { scope, period }));
    }
    let mut refused: Option<(Duration, Scope, Minute, u64)> = None;
    if slices.is_apart() {
        minutes(sides, now, demand.forecast)?;
    } else {
        for side in sides {
            let limits = [
                (Minute::Tokens, side.limits.tokens_per_minute, demand.forecast),
                (Minute::Requests, side.limits.requests_per_minute, 1),
            ];
            for (minute, limit, count) in limits {
                let Some(limit) = limit else { continue };
                if let Err(wait) = slices.has(now, (side.owner, minute), limit, count)
                    && refused.is_none_or(|(longest, ..)| longest < wait)
                {
                    refused = Some((wait, side.scope, minute, limit));
                }
            }
        }
    }
    match refused {
        Some((retry_after, scope, minute, limit)) if demand.asked => {
            Err(Refusal::Minute { scope, minute, limit, retry_after })
        }
        _ if lacks || refused.is_some() => Err(Refusal::Short),
        _ => Ok(()),
    }
}

fn too_large(demand: &Demand<'_>) -> Result<(), Refusal> {
    for (scope, limits) in [(Scope::Tenant, demand.tenant_limits), (Scope::Key, demand.key_limits)] {
        if let Some(limit) = limits.tokens_per_minute.filter(|limit| demand.prompt > *limit) {
            return Err(Refusal::TooLarge { scope, limit });
        }
    }
    Ok(())
}

/// A limit of a period budget, with its window.
struct Limit<'a> {
    scope: Scope,
    owner: Owner,
    period: Period,
    what: What,
    limit: u128,
    window: &'a Window,
}

impl Limit<'_> {
    fn used(&self) -> u128 {
        self.window.used.amount().of(self.what)
    }

    fn held(&self) -> u128 {
        self.window.held.amount().of(self.what)
    }

    fn counter(&self, indexes: Indexes) -> Counter {
        let (owner, period, what) = (self.owner, self.period, self.what);
        Counter { owner, period, index: *indexes.get(period), what }
    }

    /// Used and held, by the others too.
    fn sums(&self, indexes: Indexes, slices: Option<&Slices>) -> (u128, u128) {
        let others = slices.map(|slices| slices.others(&self.counter(indexes))).unwrap_or_default();
        let held = others.busy.saturating_sub(others.used);
        (self.used().saturating_add(others.used), self.held().saturating_add(held))
    }
}

/// Every limit of the period budgets that are hard, or of those that are not. Use it up from the inside (`for_each`,
/// `map` and `min`): that is a good deal faster than asking for the next one.
fn each<'a>(sides: &'a [Side<'a>; 2], indexes: Indexes, hard: bool) -> impl Iterator<Item = Limit<'a>> {
    let budgets = sides.iter().flat_map(move |side| {
        let those = side.limits.budgets.iter().filter(move |budget| budget.hard == hard);
        those.map(move |budget| (side, budget))
    });
    budgets.flat_map(move |(side, budget)| {
        let (scope, owner, period) = (side.scope, side.owner, budget.period);
        let window = side.account.window(period, *indexes.get(period));
        budget.limits().map(move |(what, limit)| Limit { scope, owner, period, what, limit, window })
    })
}

/// What the request reserves: the most it can use where a hard budget applies, else its forecast.
fn own(demand: &Demand<'_>, sides: &[Side<'_>; 2], indexes: Indexes, slices: Option<&Slices>) -> Own {
    if !sides.iter().any(|side| side.limits.has_hard()) {
        let output = demand.forecast.saturating_sub(demand.prompt);
        return Own { hard: false, amount: expected(demand), output, set_output: None };
    }
    let most = &demand.most;
    let (each_answer, set_output) = match most.output {
        Output::Given(bound) => (bound, None),
        Output::Open { at_most } => {
            let bound = room(demand, sides, indexes, slices).min(at_most).max(LEAST_OUTPUT);
            (bound, Some(bound))
        }
    };
    let output = each_answer.saturating_mul(most.answers.max(1));
    Own { hard: true, amount: demand.prices.amount(most.prompt, output), output, set_output }
}

/// What is expected of the request: what budgets that are not hard go by, whether or not another one is.
fn expected(demand: &Demand<'_>) -> Amount {
    demand.prices.amount(demand.prompt, demand.forecast.saturating_sub(demand.prompt))
}

/// Tokens that the hard budgets leave to each answer beside what was used. Not beside what is held: that comes back,
/// and a short answer now is no use to one who may have a whole one in a second.
fn room(demand: &Demand<'_>, sides: &[Side<'_>; 2], indexes: Indexes, slices: Option<&Slices>) -> u64 {
    let prompt = demand.prices.amount(demand.most.prompt, 0);
    let answers = u128::from(demand.most.answers.max(1));
    let of_each = each(sides, indexes, true).map(|limit| {
        let left =
            limit.limit.saturating_sub(limit.sums(indexes, slices).0).saturating_sub(prompt.of(limit.what));
        let price = if limit.what == What::Tokens { 1 } else { u128::from(demand.prices.output) };
        left.checked_div(price.saturating_mul(answers)).unwrap_or(u128::MAX)
    });
    u64::try_from(of_each.min().unwrap_or(u128::MAX)).unwrap_or(u64::MAX)
}

/// Refuses what does not fit beside what was used, by the budget that begins anew last, then what does not fit beside
/// what is held.
fn fits(
    sides: &[Side<'_>; 2],
    indexes: Indexes,
    own: Amount,
    slices: Option<&Slices>,
) -> Result<(), Refusal> {
    let (mut exhausted, mut reserved) = (None::<Exhausted>, None);
    each(sides, indexes, true).for_each(|limit| {
        let ((used, held), needed) = (limit.sums(indexes, slices), own.of(limit.what));
        let beside_used = used.saturating_add(needed);
        if beside_used.saturating_add(held) <= limit.limit {
            return;
        }
        let Limit { scope, period, what, limit, .. } = limit;
        if beside_used <= limit {
            reserved = reserved.or(Some(Refusal::Reserved { scope, period }));
        } else if exhausted.is_none_or(|worst| worst.period < period) {
            // The later period ends later: `Total` never.
            let resets_at = period.end(*indexes.get(period));
            exhausted = Some(Exhausted { scope, period, what, limit, used, needed, resets_at });
        }
    });
    exhausted.map(Refusal::Exhausted).or(reserved).map_or(Ok(()), Err)
}

/// Refuses by the minute bucket that takes longest.
fn minutes(sides: &[Side<'_>; 2], now: Moment, forecast: u64) -> Result<(), Refusal> {
    let waits = sides.iter().flat_map(|side| {
        let tokens = side.account.tokens.as_ref().map(|bucket| (Minute::Tokens, bucket, forecast));
        let requests = side.account.requests.as_ref().map(|bucket| (Minute::Requests, bucket, 1));
        let both = tokens.into_iter().chain(requests);
        both.map(|(minute, bucket, count)| (side.scope, minute, bucket.limit(), bucket.wait(now, count)))
    });
    match waits.max_by_key(|(_, _, _, wait)| *wait) {
        Some((scope, minute, limit, retry_after)) if !retry_after.is_zero() => {
            Err(Refusal::Minute { scope, minute, limit, retry_after })
        }
        _ => Ok(()),
    }
}

fn warnings(
    sides: &[Side<'_>; 2],
    indexes: Indexes,
    expected: Amount,
    slices: Option<&Slices>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    each(sides, indexes, false).for_each(|limit| {
        let used = limit.sums(indexes, slices).0;
        let first = !limit.window.warned(limit.what);
        let Limit { scope, period, what, limit, .. } = limit;
        if used.saturating_add(expected.of(what)) > limit {
            warnings.push(Warning { scope, period, what, used, limit, first });
        }
    });
    warnings
}
