//! The cores behind their locks, one for each shard of the tenants.

use super::{NAME, NoHold};
use crate::cell::{Cell, Heal};
use crate::clock::{Clock, unix_micros};
use crate::guards::Hold;
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::moment::Moment;
use obleth_core::token_budget::{
    Amount, Demand, Granted, HoldId, Limits, Owner, Rates, Refusal, Settlement, Standing, TokenBudget,
};
use std::fmt;
use std::sync::Arc;

/// Shards. A lock is held for some hundred nanoseconds, or, by the actor, for as long as it takes to look at one
/// shard's accounts.
const SHARDS: usize = 256;

/// What one lock guards.
struct Shard {
    clock: Clock,
    core: TokenBudget,
    /// What the call that runs has given. A panic before its end takes it back: nobody holds it yet.
    given: Option<HoldId>,
}

impl Heal for Shard {
    fn heal(&mut self) {
        if let Some(id) = self.given.take() {
            self.core.release(self.clock.now(), id);
        }
        self.core.resume();
    }

    fn commit(&mut self) {
        self.given = None;
    }
}

/// All shards.
pub(crate) struct Desk {
    shards: Vec<Cell<Shard>>,
    clock: Clock,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

const fn tenant_of(owner: Owner) -> TenantId {
    match owner {
        Owner::Tenant(id) | Owner::Key(id, _) => id,
    }
}

impl Desk {
    pub(super) fn new(clock: Clock) -> Self {
        let shard = || Shard { clock, core: TokenBudget::default(), given: None };
        Self { shards: std::iter::repeat_with(|| Cell::new(NAME, shard())).take(SHARDS).collect(), clock }
    }

    /// The shard of a tenant: the end of an id is random.
    fn place(&self, tenant: TenantId) -> usize {
        let [.., last] = tenant.0.as_bytes();
        usize::from(*last) % self.shards.len().max(1)
    }

    /// Calls the core of a shard. `None` after a contained fault, or for a shard that there is not.
    fn with<R>(&self, shard: usize, call: impl FnOnce(&mut Shard) -> R) -> Option<R> {
        self.shards.get(shard)?.with(call).ok()
    }

    pub(super) fn reserve(self: &Arc<Self>, demand: &Demand<'_>) -> Result<Hold, NoHold> {
        let now = self.clock.now();
        self.hold(demand.tenant, |core| core.reserve(now, demand))
    }

    pub(super) fn reserve_request(
        self: &Arc<Self>,
        tenant: (TenantId, &Limits),
        key: (KeyId, &Limits),
        asked: bool,
    ) -> Result<Hold, NoHold> {
        let (now, unix) = (self.clock.now(), unix_micros());
        self.hold(tenant.0, |core| core.reserve_request(now, unix, tenant, key, asked))
    }

    /// What the core of a tenant's shard gives, as a guard.
    fn hold(
        self: &Arc<Self>,
        tenant: TenantId,
        reserve: impl FnOnce(&mut TokenBudget) -> Result<Granted, Refusal>,
    ) -> Result<Hold, NoHold> {
        let shard = self.place(tenant);
        let reserved = self.with(shard, |shard| {
            let reserved = reserve(&mut shard.core);
            shard.given = reserved.as_ref().ok().map(|granted| granted.id);
            match reserved {
                Err(Refusal::Short) => Err(NoHold::Short(shard.core.lacks())),
                other => other.map_err(NoHold::Refused),
            }
        });
        match reserved {
            Some(Ok(granted)) => Ok(Hold::new(Arc::clone(self), shard, granted)),
            Some(Err(why)) => Err(why),
            None => Err(NoHold::Restarting),
        }
    }

    /// Ends a hold. After a contained fault the healed core gets it again; what has ended already does nothing.
    pub(crate) fn settle(&self, shard: usize, id: HoldId, with: Settlement) {
        let now = self.clock.now();
        for _ in 0..3 {
            if self.with(shard, |shard| shard.core.settle(now, id, with)).is_some() {
                return;
            }
        }
    }

    pub(super) fn rates(&self, tenant: (TenantId, &Limits), key: (KeyId, &Limits)) -> Rates {
        let now = self.clock.now();
        let rates = self.with(self.place(tenant.0), |shard| {
            let own = shard.core.rates(now, Owner::Key(tenant.0, key.0), key.1);
            shard.core.rates(now, Owner::Tenant(tenant.0), tenant.1).tightest(own)
        });
        rates.unwrap_or_default()
    }

    pub(super) fn standing(&self, owner: Owner, limits: &Limits) -> Option<Standing> {
        let (now, unix) = (self.clock.now(), unix_micros());
        self.with(self.place(tenant_of(owner)), |shard| shard.core.standing(now, unix, owner, limits))
    }

    pub(super) fn restore(&self, unix: i64, owner: Owner, used: [Amount; 3]) {
        for _ in 0..3 {
            let place = self.place(tenant_of(owner));
            if self.with(place, |shard| shard.core.restore(unix, owner, used)).is_some() {
                return;
            }
        }
    }

    pub(super) fn expire(&self, gone: impl Fn(Owner) -> bool) {
        let (now, unix) = (self.clock.now(), unix_micros());
        for shard in 0..self.shards.len() {
            self.with(shard, |shard| shard.core.expire(now, unix, &gone));
        }
    }

    /// Calls the core of a tenant, for the exchange with other replicas. `None` after a contained fault.
    pub(super) fn of<R>(&self, owner: Owner, call: impl FnOnce(Moment, &mut TokenBudget) -> R) -> Option<R> {
        let now = self.clock.now();
        self.with(self.place(tenant_of(owner)), |shard| call(now, &mut shard.core))
    }

    /// Calls every core in turn.
    pub(super) fn each<R>(&self, mut call: impl FnMut(Moment, &mut TokenBudget) -> R) -> Vec<R> {
        let now = self.clock.now();
        (0..self.shards.len())
            .filter_map(|shard| self.with(shard, |shard| call(now, &mut shard.core)))
            .collect()
    }

    pub(super) fn holds(&self) -> usize {
        (0..self.shards.len()).filter_map(|shard| self.with(shard, |shard| shard.core.holds())).sum()
    }

    pub(super) fn restarts(&self) -> u64 {
        self.shards.iter().map(Cell::restarts).sum()
    }

    pub(super) fn plant_fault(&self, tenant: TenantId, late: bool) {
        let Some(cell) = self.shards.get(self.place(tenant)) else { return };
        if late { cell.plant_late_fault() } else { cell.plant_fault() }
    }
}
