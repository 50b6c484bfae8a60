//! The actor: forgets what nobody needs.

use super::SWEEP;
use super::desk::Desk;
use super::ratios::Ratios;
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, AsyncContext, Context, Handler};
use arc_swap::ArcSwap;
use obleth_core::registry::Registry;
use obleth_core::token_budget::Owner;
use std::sync::Arc;

/// The budgets' actor.
pub(super) struct BudgetActor {
    desk: Arc<Desk>,
    ratios: Arc<Ratios>,
    registry: Arc<ArcSwap<Registry>>,
    _line: Lifeline,
}

impl BudgetActor {
    pub(super) const fn new(
        desk: Arc<Desk>,
        ratios: Arc<Ratios>,
        registry: Arc<ArcSwap<Registry>>,
        line: Lifeline,
    ) -> Self {
        Self { desk, ratios, registry, _line: line }
    }

    fn sweep(&self) {
        let registry = self.registry.load();
        self.desk.expire(|owner| match owner {
            Owner::Tenant(tenant) => registry.tenant(tenant).is_none(),
            // One that moved may come back, and has then used what it has used.
            Owner::Key(tenant, key) => registry.key(key).is_none() || registry.tenant(tenant).is_none(),
        });
        self.ratios.retain(|model| registry.model(model).is_some());
    }
}

impl Actor for BudgetActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP, |actor, _| actor.sweep());
    }
}

impl Handler<Crash> for BudgetActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
