//! One request that uses no tokens: it counts in the buckets of requests a minute, and nowhere else.

use super::account::{Account, Indexes};
use super::hold::{Held, Taken};
use super::plan::{Amount, Granted, HoldId, Limits, Minute, Refusal, Scope};
use super::reserve::from_pools;
use super::slices::Slices;
use super::{Owner, TokenBudget};
use crate::ids::{KeyId, TenantId};
use crate::moment::Moment;
use std::time::Duration;

impl TokenBudget {
    /// Takes one request from the buckets of a tenant and its key, or says when to come back. Ended like any hold.
    pub fn reserve_request(
        &mut self,
        now: Moment,
        unix_micros: i64,
        tenant: (TenantId, &Limits),
        key: (KeyId, &Limits),
        asked: bool,
    ) -> Result<Granted, Refusal> {
        let [of_tenant, of_key] = self.accounts.both(tenant.0, key.0);
        let owners = [Owner::Tenant(tenant.0), Owner::Key(tenant.0, key.0)];
        let taken = match self.slices.as_deref_mut().filter(|slices| !slices.is_apart()) {
            Some(slices) => from_shared(slices, now, owners.into_iter().zip([tenant.1, key.1]), asked)?,
            None => {
                let parts = self.slices.as_deref().and_then(Slices::parts).unwrap_or(1);
                of_tenant.set_limits(now, tenant.1, parts);
                of_key.set_limits(now, key.1, parts);
                from_buckets(now, [&mut *of_tenant, &mut *of_key])?
            }
        };
        for account in [of_tenant, of_key] {
            account.holds = account.holds.saturating_add(1);
        }
        let id = HoldId(self.next);
        self.next += 1;
        let (indexes, amount) = (Indexes::of(unix_micros), Amount::ZERO);
        self.holds.insert(id, Held { tenant: tenant.0, key: key.0, indexes, amount, taken });
        Ok(Granted { id, hard: false, held: amount, output: 0, set_output: None, warnings: Vec::new() })
    }
}

fn from_buckets(now: Moment, accounts: [&mut Account; 2]) -> Result<[Taken; 2], Refusal> {
    let mut longest: Option<(Duration, Refusal)> = None;
    for (account, scope) in accounts.iter().zip([Scope::Tenant, Scope::Key]) {
        let Some(bucket) = &account.requests else { continue };
        let (limit, retry_after) = (bucket.limit(), bucket.wait(now, 1));
        if retry_after > longest.as_ref().map_or(Duration::ZERO, |(wait, _)| *wait) {
            let refusal = Refusal::Minute { scope, minute: Minute::Requests, limit, retry_after };
            longest = Some((retry_after, refusal));
        }
    }
    if let Some((_, refusal)) = longest {
        return Err(refusal);
    }
    Ok(accounts.map(|account| {
        let request = account.requests.as_mut().map(|bucket| bucket.take(now, 1)).is_some();
        Taken { tokens: None, request }
    }))
}

/// From the pools, where replicas share.
fn from_shared<'a>(
    slices: &mut Slices,
    now: Moment,
    sides: impl Iterator<Item = (Owner, &'a Limits)> + Clone,
    asked: bool,
) -> Result<[Taken; 2], Refusal> {
    slices.begin();
    let mut longest: Option<(Duration, Refusal)> = None;
    for ((owner, limits), scope) in sides.clone().zip([Scope::Tenant, Scope::Key]) {
        let Some(limit) = limits.requests_per_minute else { continue };
        let Err(retry_after) = slices.has(now, (owner, Minute::Requests), limit, 1) else { continue };
        if retry_after > longest.as_ref().map_or(Duration::ZERO, |(wait, _)| *wait) {
            let refusal = Refusal::Minute { scope, minute: Minute::Requests, limit, retry_after };
            longest = Some((retry_after, refusal));
        }
    }
    match longest {
        Some((_, refusal)) if asked => return Err(refusal),
        Some(_) => return Err(Refusal::Short),
        None => {}
    }
    let mut taken = [Taken::default(); 2];
    for (taken, (owner, limits)) in taken.iter_mut().zip(sides) {
        *taken = from_pools(slices, now, owner, limits, None);
    }
    Ok(taken)
}
