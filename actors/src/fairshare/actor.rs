//! The actor: queues what arrives through its mailbox, keeps the alarm for deadlines, applies configuration.

use super::desk::{Approach, Desk};
use super::floor::{Change, Reply, Waiter};
use super::story::Story;
use crate::cell::Contained;
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, AsyncContext, Context, Handler, Message, SpawnHandle};
use obleth_core::fair_queue::Demand;
use obleth_core::moment::Moment;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Pause between two looks at the brownout.
const LOOK: Duration = Duration::from_millis(250);

/// Queue this request and answer through `reply`.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Admit {
    pub demand: Demand,
    pub waiter: u64,
    pub reply: oneshot::Sender<Reply>,
    pub approach: Approach,
    /// Told of what it meets.
    pub story: Option<Arc<Story>>,
}

/// Apply these changes.
#[derive(Message)]
#[rtype(result = "Result<(), Contained>")]
pub(super) struct Reconfigure(pub Vec<Change>);

/// Look after the brownout: the policies have changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Look;

/// The scheduler's actor.
pub(super) struct FairshareActor {
    desk: Arc<Desk>,
    /// The timer that runs, and when it is due.
    alarm: Option<(SpawnHandle, Moment)>,
    /// The next look at the brownout is set.
    looks: bool,
    _line: Lifeline,
}

impl FairshareActor {
    pub(super) const fn new(desk: Arc<Desk>, line: Lifeline) -> Self {
        Self { desk, alarm: None, looks: false, _line: line }
    }

    /// Sets the alarm to the next deadline, unless an alarm that is early enough runs already.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(due) = self.desk.next_wakeup() else {
            return;
        };
        match self.alarm {
            Some((_, at)) if at <= due => return,
            Some((timer, _)) => {
                ctx.cancel_future(timer);
            }
            None => {}
        }
        let pause = due.since(self.desk.now());
        let timer = ctx.run_later(pause, |actor, ctx| {
            actor.alarm = None;
            actor.desk.expire();
            actor.arm(ctx);
        });
        self.alarm = Some((timer, due));
    }

    /// Looks at the brownout every [`LOOK`] while something waits or a policy does something.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.looks || !self.desk.board.is_watched() {
            return;
        }
        self.looks = true;
        ctx.run_later(LOOK, |actor, ctx| {
            actor.looks = false;
            if actor.desk.brown_out() || actor.desk.queued() > 0 {
                actor.look(ctx);
            }
        });
    }
}

impl Actor for FairshareActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.arm(ctx);
        self.look(ctx);
    }
}

impl Handler<Admit> for FairshareActor {
    type Result = ();

    fn handle(&mut self, admit: Admit, ctx: &mut Self::Context) {
        let waiter = Waiter { number: admit.waiter, reply: admit.reply };
        self.desk.enqueue(admit.demand, waiter, admit.approach, admit.story.as_deref());
        self.arm(ctx);
        self.look(ctx);
    }
}

impl Handler<Reconfigure> for FairshareActor {
    type Result = Result<(), Contained>;

    fn handle(&mut self, Reconfigure(changes): Reconfigure, _: &mut Self::Context) -> Self::Result {
        self.desk.reconfigure(&changes)
    }
}

impl Handler<Look> for FairshareActor {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Crash> for FairshareActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
