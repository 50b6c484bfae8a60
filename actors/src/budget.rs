//! BudgetActor: what tenants and keys may still use.
//!
//! Is: the shell of `obleth_core::token_budget`, one core for each of some shards of the tenants, so that no lock is
//! felt. Handlers reserve and settle through the cells, without a hop; the actor forgets what nobody needs. Is not: on
//! a request's path; an order of requests. Invariant: each reservation is a [`Hold`] guard; none is lost with a panic or
//! a client that leaves. What was used before the start comes from the ledger ([`Budget::rebuild`]).

use crate::clock::{Clock, unix_micros};
use crate::guards::Hold;
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use arc_swap::ArcSwap;
use obleth_core::ids::{KeyId, ModelId, TenantId};
use obleth_core::registry::Registry;
use obleth_core::token_budget::{
    Ask, BytesPerToken, Demand, KEPT_MICROS, Limits, Owner, Period, Rates, Refusal, Scope, Standing,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod actor;
mod desk;
mod fleet;
mod ratios;
mod rebuild;

use actor::BudgetActor;
pub(crate) use desk::Desk;
use fleet::Fleet;
pub use fleet::Joining;
use ratios::Ratios;

/// The actor's name in logs and metrics.
pub const NAME: &str = "budget";

/// Messages that may wait: only tests send any.
const MAILBOX: usize = 16;
/// How often is looked for what can be forgotten.
const SWEEP: Duration = Duration::from_secs(10);

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHold {
    /// A limit is in the way.
    Refused(Refusal),
    /// This replica's part is spent: go on with [`Budget::obtain`].
    Short(Vec<Ask>),
    /// This replica's part is spent, and there is no more to be had at the moment.
    Away,
    /// A contained fault; the same request would pass now.
    Restarting,
}

/// How handlers reach the budgets.
#[derive(Clone, Debug)]
pub struct Budget {
    desk: Arc<Desk>,
    ratios: Arc<Ratios>,
    registry: Arc<ArcSwap<Registry>>,
    /// Warnings given, by scope and period.
    warnings: Arc<[AtomicU64; 6]>,
    actor: Arc<Supervised<BudgetActor>>,
    /// The other replicas; `None`: there are none.
    fleet: Option<Arc<Fleet>>,
}

/// Scopes and periods, as warnings are counted.
fn kinds() -> impl Iterator<Item = (Scope, Period)> {
    [Scope::Tenant, Scope::Key].into_iter().flat_map(|scope| Period::ALL.map(|period| (scope, period)))
}

impl Budget {
    /// Starts the actor on `arbiter`. Who is in `registry` no more is forgotten.
    pub fn start(
        arbiter: &Arbiter,
        clock: Clock,
        registry: Arc<ArcSwap<Registry>>,
        joining: Option<Joining>,
    ) -> Self {
        let desk = Arc::new(Desk::new(clock));
        let ratios = Arc::new(Ratios::default());
        let actor = Arc::new(Supervised::new(NAME));
        let (owned, learned, known) = (Arc::clone(&desk), Arc::clone(&ratios), Arc::clone(&registry));
        actor.run(arbiter, MAILBOX, move |line| {
            BudgetActor::new(Arc::clone(&owned), Arc::clone(&learned), Arc::clone(&known), line)
        });
        let fleet =
            joining.map(|joining| Arc::new(Fleet::new(joining, Arc::clone(&desk), Arc::clone(&registry))));
        Self { desk, ratios, registry, warnings: Arc::default(), actor, fleet }
    }

    /// Reserves in every budget that applies, or in none. The periods are those of the arrival, but for a request that
    /// took longer than an hour to come this far.
    pub fn reserve(&self, demand: &Demand<'_>) -> Result<Hold, NoHold> {
        let arrival = demand.arrival.max(unix_micros() - KEPT_MICROS / 2);
        self.desk.reserve(&Demand { arrival, ..*demand })
    }

    /// Counts one request that uses no tokens.
    pub fn reserve_request(
        &self,
        tenant: (TenantId, &Limits),
        key: (KeyId, &Limits),
    ) -> Result<Hold, NoHold> {
        self.desk.reserve_request(tenant, key, false)
    }

    /// Reserves, with what the other replicas have left: where [`Self::reserve`] said that this one's part is spent.
    pub async fn obtain(&self, demand: &Demand<'_>, lacking: Vec<Ask>) -> Result<Hold, NoHold> {
        let Some(fleet) = &self.fleet else { return Err(NoHold::Away) };
        fleet.obtain(lacking, |asked| self.reserve(&Demand { asked, ..*demand })).await
    }

    /// Counts one request that uses no tokens, with what the other replicas have left.
    pub async fn obtain_request(
        &self,
        tenant: (TenantId, &Limits),
        key: (KeyId, &Limits),
        lacking: Vec<Ask>,
    ) -> Result<Hold, NoHold> {
        let Some(fleet) = &self.fleet else { return Err(NoHold::Away) };
        fleet.obtain(lacking, |asked| self.desk.reserve_request(tenant, key, asked)).await
    }

    /// Begins to share with the other replicas, once it is known what was used, and waits a while until they may give
    /// something.
    pub async fn join(&self) {
        if let Some(fleet) = &self.fleet {
            fleet.join().await;
        }
    }

    /// Gives back what is not in use, for the end of the process, when the ledger has everything.
    pub async fn leave(&self) {
        if let Some(fleet) = &self.fleet {
            fleet.leave().await;
        }
    }

    /// Asks what the others have used of an owner, so that [`Self::standing`] shows it.
    pub async fn refresh(&self, owner: Owner, limits: &Limits) {
        if let Some(fleet) = &self.fleet {
            fleet.refresh(owner, limits).await;
        }
    }

    /// The tighter of the minute buckets of a tenant and of its key.
    pub fn rates(&self, tenant: (TenantId, &Limits), key: (KeyId, &Limits)) -> Rates {
        self.desk.rates(tenant, key)
    }

    /// All that is known of an owner with these limits. `None` after a contained fault.
    pub fn standing(&self, owner: Owner, limits: &Limits) -> Option<Standing> {
        self.desk.standing(owner, limits)
    }

    /// Bytes of text that make a token on a model, as far as is known.
    pub fn bytes_per_token(&self, model: ModelId) -> BytesPerToken {
        self.ratios.of(model)
    }

    /// A prompt of so many bytes had so many tokens.
    pub fn learn(&self, model: ModelId, bytes: u64, tokens: u64) {
        self.ratios.learn(model, bytes, tokens);
    }

    /// Counts a request that passes a budget that is not hard.
    pub fn count_warning(&self, scope: Scope, period: Period) {
        let counts = kinds().zip(self.warnings.iter());
        counts.filter(|(kind, _)| *kind == (scope, period)).for_each(|(_, count)| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// How many requests passed a budget that is not hard.
    pub fn warnings(&self) -> impl Iterator<Item = (Scope, Period, u64)> {
        kinds()
            .zip(self.warnings.iter())
            .map(|((scope, period), count)| (scope, period, count.load(Ordering::Relaxed)))
    }

    /// Holds that are out.
    pub fn holds(&self) -> usize {
        self.desk.holds()
    }

    /// Contained faults and restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.desk.restarts() + self.actor.restarts()
    }

    /// Makes the next call for a tenant panic, at its beginning or once its work is done. For tests.
    #[doc(hidden)]
    pub fn plant_fault(&self, tenant: TenantId, late: bool) {
        self.desk.plant_fault(tenant, late);
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}
