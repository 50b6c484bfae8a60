//! One request that uses no tokens: it counts in the buckets of requests a minute, and nowhere else.

use super::TokenBudget;
use super::account::Indexes;
use super::hold::{Held, Taken};
use super::plan::{Amount, Granted, HoldId, Limits, Minute, Refusal, Scope};
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
    ) -> Result<Granted, Refusal> {
        let mut longest: Option<(Duration, Refusal)> = None;
        let [of_tenant, of_key] = self.accounts.both(tenant.0, key.0);
        for (account, limits, scope) in
            [(&mut *of_tenant, tenant.1, Scope::Tenant), (&mut *of_key, key.1, Scope::Key)]
        {
            account.set_limits(now, limits);
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
        let taken = [of_tenant, of_key].map(|account| {
            account.holds = account.holds.saturating_add(1);
            let request = account.requests.as_mut().map(|bucket| bucket.take(now, 1)).is_some();
            Taken { tokens: None, request }
        });
        let id = HoldId(self.next);
        self.next += 1;
        let (indexes, amount) = (Indexes::of(unix_micros), Amount::ZERO);
        self.holds.insert(id, Held { tenant: tenant.0, key: key.0, indexes, amount, taken });
        Ok(Granted { id, hard: false, held: amount, output: 0, set_output: None, warnings: Vec::new() })
    }
}
