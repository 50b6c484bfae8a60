//! One reservation over every budget that applies: all of it or none of it.

use super::account::{Account, Indexes, Window};
use super::hold::{Held, Taken};
use super::plan::{
    Amount, Demand, Exhausted, Granted, HoldId, LEAST_OUTPUT, Limits, Minute, Output, PeriodBudget, Refusal,
    Scope, Warning, What,
};
use super::{Owner, TokenBudget};
use crate::moment::Moment;

/// One side of a demand: the tenant or the key, and its account as it stands.
#[derive(Clone, Copy)]
struct Side<'a> {
    scope: Scope,
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
        let owners = [Owner::Tenant(demand.tenant), Owner::Key(demand.tenant, demand.key)];
        let limits = [demand.tenant_limits, demand.key_limits];
        for (owner, limits) in owners.into_iter().zip(limits) {
            // An account that is begun here and not used is blank, and soon forgotten.
            self.accounts.entry(owner).or_default().set_limits(now, limits);
        }
        let blank = Account::default();
        let [tenant, key] = owners.map(|owner| self.accounts.get(&owner).unwrap_or(&blank));
        let sides = [
            Side { scope: Scope::Tenant, limits: demand.tenant_limits, account: tenant },
            Side { scope: Scope::Key, limits: demand.key_limits, account: key },
        ];
        let own = own(demand, &sides, indexes);
        exhausted(&sides, indexes, own.amount)?;
        reserved(&sides, indexes, own.amount)?;
        minutes(&sides, now, demand.forecast)?;
        let warnings = warnings(&sides, indexes, own.amount);
        let id = self.hold(now, demand, indexes, owners, own.amount, &warnings);
        let Own { hard, amount: held, output, set_output } = own;
        Ok(Granted { id, hard, held, output, set_output, warnings })
    }

    fn hold(
        &mut self,
        now: Moment,
        demand: &Demand<'_>,
        indexes: Indexes,
        owners: [Owner; 2],
        amount: Amount,
        warnings: &[Warning],
    ) -> HoldId {
        let scopes = [Scope::Tenant, Scope::Key].into_iter();
        let mut taken = [Taken::default(); 2];
        for ((owner, scope), taken) in owners.into_iter().zip(scopes).zip(&mut taken) {
            let Some(account) = self.accounts.get_mut(&owner) else { continue };
            *taken = take(account, now, demand.forecast);
            account.holds = account.holds.saturating_add(1);
            account.change(indexes, |window| {
                window.held = window.held.plus(amount);
                warnings
                    .iter()
                    .filter(|warning| warning.scope == scope)
                    .for_each(|warning| mark(window, warning));
            });
        }
        let id = HoldId(self.next);
        self.next += 1;
        self.holds.insert(id, Held { tenant: demand.tenant, key: demand.key, indexes, amount, taken });
        id
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

fn mark(window: &mut Window, warning: &Warning) {
    if window.period == warning.period {
        let [tokens, money] = &mut window.warned;
        *(if warning.what == What::Tokens { tokens } else { money }) = true;
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

/// Every limit of a period budget, with its window.
fn each<'a>(
    sides: &'a [Side<'a>; 2],
    indexes: Indexes,
    hard: bool,
) -> impl Iterator<Item = (Scope, &'a PeriodBudget, Option<&'a Window>, What, u128)> {
    let budgets = sides.iter().flat_map(move |side| {
        let those = side.limits.budgets.iter().filter(move |budget| budget.hard == hard);
        those.map(move |budget| (side, budget))
    });
    budgets.flat_map(move |(side, budget)| {
        let window = side.account.window(budget.period, indexes.index(budget.period));
        budget.limits().map(move |(what, limit)| (side.scope, budget, window, what, limit))
    })
}

fn used(window: Option<&Window>, what: What) -> u128 {
    window.map_or(0, |window| window.used.of(what))
}

fn held(window: Option<&Window>, what: What) -> u128 {
    window.map_or(0, |window| window.held.of(what))
}

/// What the request reserves: the most it can use where a hard budget applies, else its forecast.
fn own(demand: &Demand<'_>, sides: &[Side<'_>; 2], indexes: Indexes) -> Own {
    if !sides.iter().any(|side| side.limits.has_hard()) {
        let output = demand.forecast.saturating_sub(demand.prompt);
        let amount = demand.prices.amount(demand.prompt, output);
        return Own { hard: false, amount, output, set_output: None };
    }
    let most = &demand.most;
    let (each_answer, set_output) = match most.output {
        Output::Given(bound) => (bound, None),
        Output::Open { at_most } => {
            let bound = room(demand, sides, indexes).min(at_most).max(LEAST_OUTPUT);
            (bound, Some(bound))
        }
    };
    let output = each_answer.saturating_mul(most.answers.max(1));
    Own { hard: true, amount: demand.prices.amount(most.prompt, output), output, set_output }
}

/// Tokens that the hard budgets leave to each answer beside what was used. Not beside what is held: that comes back,
/// and a short answer now is no use to one who may have a whole one in a second.
fn room(demand: &Demand<'_>, sides: &[Side<'_>; 2], indexes: Indexes) -> u64 {
    let prompt = demand.prices.amount(demand.most.prompt, 0);
    let answers = u128::from(demand.most.answers.max(1));
    let of_each = each(sides, indexes, true).map(|(_, _, window, what, limit)| {
        let left = limit.saturating_sub(used(window, what)).saturating_sub(prompt.of(what));
        let price = if what == What::Tokens { 1 } else { u128::from(demand.prices.output) };
        left.checked_div(price.saturating_mul(answers)).unwrap_or(u128::MAX)
    });
    u64::try_from(of_each.min().unwrap_or(u128::MAX)).unwrap_or(u64::MAX)
}

/// Refuses what does not fit beside what was used, by the budget that begins anew last.
fn exhausted(sides: &[Side<'_>; 2], indexes: Indexes, own: Amount) -> Result<(), Refusal> {
    let mut worst: Option<Exhausted> = None;
    for (scope, budget, window, what, limit) in each(sides, indexes, true) {
        let (used, needed) = (used(window, what), own.of(what));
        if used.saturating_add(needed) <= limit {
            continue;
        }
        let period = budget.period;
        let resets_at = period.end(indexes.index(period));
        // The later period ends later: `Total` never.
        if worst.is_none_or(|worst| worst.period < period) {
            worst = Some(Exhausted { scope, period, what, limit, used, needed, resets_at });
        }
    }
    worst.map_or(Ok(()), |worst| Err(Refusal::Exhausted(worst)))
}

/// Refuses what does not fit beside what is held.
fn reserved(sides: &[Side<'_>; 2], indexes: Indexes, own: Amount) -> Result<(), Refusal> {
    for (scope, budget, window, what, limit) in each(sides, indexes, true) {
        let taken = used(window, what).saturating_add(held(window, what));
        if taken.saturating_add(own.of(what)) > limit {
            return Err(Refusal::Reserved { scope, period: budget.period });
        }
    }
    Ok(())
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

fn warnings(sides: &[Side<'_>; 2], indexes: Indexes, own: Amount) -> Vec<Warning> {
    let over = each(sides, indexes, false).filter_map(|(scope, budget, window, what, limit)| {
        let used = used(window, what);
        let [tokens, money] = window.map_or([false; 2], |window| window.warned);
        let first = !(if what == What::Tokens { tokens } else { money });
        let over = used.saturating_add(own.of(what)) > limit;
        over.then_some(Warning { scope, period: budget.period, what, used, limit, first })
    });
    over.collect()
}
