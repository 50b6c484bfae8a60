//! The actor: drops what has expired, and purges.

use super::TICK;
use super::desk::Desk;
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, AsyncContext, Context, Handler, Message};
use obleth_core::response_cache::Purge;
use std::sync::Arc;

/// Forget these; answers how many entries that were.
#[derive(Message)]
#[rtype(result = "u64")]
pub(super) struct Forget(pub Purge);

/// The cache's actor.
pub(super) struct CacheActor {
    desk: Arc<Desk>,
    _line: Lifeline,
}

impl CacheActor {
    pub(super) const fn new(desk: Arc<Desk>, line: Lifeline) -> Self {
        Self { desk, _line: line }
    }
}

impl Actor for CacheActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |actor, _| actor.desk.store.tidy());
    }
}

impl Handler<Forget> for CacheActor {
    type Result = u64;

    fn handle(&mut self, Forget(purge): Forget, _: &mut Self::Context) -> u64 {
        self.desk.purge(purge)
    }
}

impl Handler<Crash> for CacheActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
