//! One request that uses no tokens: it counts in the buckets of requests a minute, and nowhere else.

use super::account::Indexes;
use super::hold::{Held, Taken};
use super::plan::{Amount, Granted, HoldId, Limits, Minute, Refusal, Scope};
use super::{Owner, TokenBudget};
use crate::ids::{KeyId, TenantId};
use crate::moment::Moment;

impl TokenBudget {
    /// Takes one request from the buckets of a tenant and its key, or says when to come back. Ended like any hold.
    pub fn reserve_request(
        &mut self,
        now: Moment,
        unix_micros: i64,
        tenant: (TenantId, &Limits),
        key: (KeyId, &Limits),
    ) -> Result<Granted, Refusal> {
        let owners = [(Owner::Tenant(tenant.0), tenant.1), (Owner::Key(tenant.0, key.0), key.1)];
        let mut longest: Option<Refusal> = None;
        let mut until = std::time::Duration::ZERO;
        for ((owner, limits), scope) in owners.iter().zip([Scope::Tenant, Scope::Key]) {
            let account = self.accounts.entry(*owner).or_default();
            account.set_limits(now, limits);
            let Some(bucket) = &account.requests else { continue };
            let retry_after = bucket.wait(now, 1);
            if retry_after > until {
                let limit = bucket.limit();
                until = retry_after;
                longest = Some(Refusal::Minute { scope, minute: Minute::Requests, limit, retry_after });
            }
        }
        if let Some(refusal) = longest {
            return Err(refusal);
        }
        let mut taken = [Taken::default(); 2];
        for ((owner, _), taken) in owners.iter().zip(&mut taken) {
            let Some(account) = self.accounts.get_mut(owner) else { continue };
            taken.request = account.requests.as_mut().map(|bucket| bucket.take(now, 1)).is_some();
            account.holds = account.holds.saturating_add(1);
        }
        let id = HoldId(self.next);
        self.next += 1;
        let (indexes, amount) = (Indexes::of(unix_micros), Amount::ZERO);
        self.holds.insert(id, Held { tenant: tenant.0, key: key.0, indexes, amount, taken });
        Ok(Granted { id, hard: false, held: amount, output: 0, set_output: None, warnings: Vec::new() })
    }
}
