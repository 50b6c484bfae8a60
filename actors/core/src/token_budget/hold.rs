//! Holds that are out, and how they end.

use super::account::{Account, Each, Indexes};
use super::bucket::Bucket;
use super::plan::{Amount, HoldId, Minute, Settlement};
use super::slices::Slices;
use super::{KEPT_MICROS, Owner, TokenBudget};
use crate::ids::{KeyId, TenantId};
use crate::moment::Moment;

/// What one account gave from its buckets; `None`: that was not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub tokens: Option<u64>,
    pub request: bool,
}

/// A hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub tenant: TenantId,
    pub key: KeyId,
    /// Of the arrival.
    pub indexes: Indexes,
    pub amount: Amount,
    /// From the tenant, and from the key.
    pub taken: [Taken; 2],
}

impl Held {
    pub const fn owners(&self) -> [Owner; 2] {
        [Owner::Tenant(self.tenant), Owner::Key(self.tenant, self.key)]
    }
}

impl TokenBudget {
    /// Ends a hold with what was truly used. `false`: it has ended before, and nothing is done.
    pub fn settle(&mut self, now: Moment, id: HoldId, with: Settlement) -> bool {
        let Some(held) = self.holds.remove(&id) else { return false };
        for (owner, taken) in held.owners().into_iter().zip(held.taken) {
            // One that was forgotten with its tenant is not begun again.
            let Some(account) = self.accounts.get_mut(owner) else { continue };
            account.holds = account.holds.saturating_sub(1);
            account.change(held.indexes, |_, window| {
                window.held.subtract(held.amount);
                window.used.add(with.used);
            });
            correct(account, self.slices.as_deref_mut(), owner, now, taken, with);
        }
        true
    }

    /// Ends a hold as if there had been no request.
    pub fn release(&mut self, now: Moment, id: HoldId) -> bool {
        self.settle(now, id, Settlement::NOTHING)
    }

    /// Sets what an owner had used in the running periods when the process began: `used` by day, month and total.
    pub fn restore(&mut self, unix_micros: i64, owner: Owner, used: [Amount; 3]) {
        let account = self.accounts.of(owner);
        let used = Each(used);
        account.change(Indexes::of(unix_micros), |period, window| window.used.set(*used.get(period)));
    }

    /// A core that a panic may have torn is whole again: the sums are made anew from the holds that are out, and what
    /// was used stays.
    pub fn resume(&mut self) {
        for account in self.accounts.values_mut() {
            account.holds = 0;
            account.windows().for_each(|window| window.held.set(Amount::ZERO));
        }
        for held in self.holds.values() {
            for owner in held.owners() {
                let Some(account) = self.accounts.get_mut(owner) else { continue };
                account.holds = account.holds.saturating_add(1);
                account.change(held.indexes, |_, window| window.held.add(held.amount));
            }
        }
    }

    /// Forgets what nobody needs: full buckets, ended periods, accounts of owners that are `gone` and of those that
    /// have used nothing. How many accounts are left.
    pub fn expire(&mut self, now: Moment, unix_micros: i64, gone: impl Fn(Owner) -> bool) -> usize {
        let before = unix_micros.saturating_sub(KEPT_MICROS);
        self.expire_slices(unix_micros, &gone);
        self.accounts.retain(|owner, account| {
            account.expire(now, before);
            account.holds > 0 || !(account.is_blank() || gone(owner))
        });
        self.accounts.len()
    }

    /// Holds that are out.
    pub fn holds(&self) -> usize {
        self.holds.len()
    }
}

/// From what was taken to what was used. What was taken from a pool goes back there, unless the store went meanwhile.
fn correct(
    account: &mut Account,
    pools: Option<&mut Slices>,
    owner: Owner,
    now: Moment,
    taken: Taken,
    with: Settlement,
) {
    if let Some(pools) = pools.filter(|pools| !pools.is_apart()) {
        if let Some(taken) = taken.tokens {
            pools.correct((owner, Minute::Tokens), taken, with.used.tokens);
        }
        if taken.request && !with.counts {
            pools.correct((owner, Minute::Requests), 1, 0);
        }
        return;
    }
    if let (Some(bucket), Some(taken)) = (&mut account.tokens, taken.tokens) {
        move_to(bucket, now, taken, with.used.tokens);
    }
    if let (Some(bucket), true, false) = (&mut account.requests, taken.request, with.counts) {
        bucket.give(now, 1);
    }
}

fn move_to(bucket: &mut Bucket, now: Moment, taken: u64, used: u64) {
    if used > taken {
        bucket.take(now, used - taken);
    } else {
        bucket.give(now, taken - used);
    }
}
