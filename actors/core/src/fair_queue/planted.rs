//! Faults to plant, one at a time, so that the tests of the queue can show that they would notice it.
//!
//! Exists only in this crate's own tests and under the feature `planted-faults`. In every other build
//! [`planted`] is the constant `false`, and what hangs on it is not there. Each fault is one line where it
//! strikes; `tests/planted.rs` plants them all and says which test caught which.

use super::account::{Tag, span};
use super::plan::GroupPlan;
use super::state::Tenant;
use crate::ids::GroupId;
use crate::units::Share;
use uuid::Uuid;

macro_rules! faults {
    ($($(#[$doc:meta])+ $fault:ident,)+) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fault {
            $($(#[$doc])+ $fault,)+
        }

        #[cfg(all(test, feature = "planted-faults"))]
        impl Fault {
            /// Every fault there is.
            pub(super) const ALL: &[Self] = &[$(Self::$fault,)+];
        }
    };
}

faults! {
    /// A tenant at its cap stays out of the lines when its own request ends.
    WakeUpLost,
    /// The second release of a ticket counts too.
    ReleasedTwice,
    /// A refused request keeps its place in the count of those that wait.
    CancelLeaks,
    /// A clock follows the last tag instead of the highest.
    ClockFalls,
    /// A tenant that returns is not lifted to the clock.
    NotLifted,
    /// A tenant that returns keeps the credit of old refunds.
    CreditOutlivesIdling,
    /// A tenant without work stays in the sum of active weights.
    StaysActive,
    /// A refund takes a tag below the clock of its activation.
    RefundBelowFloor,
    /// Refunds do not widen the bound of the lag.
    RefundsForgotten,
    /// A tenant held back by a cap catches up without bound.
    LagUnbounded,
    /// Newcomers without end may starve one who waits.
    NoChurnFloor,
    /// The clock of a full pool follows grants elsewhere.
    ClosedClockMoves,
    /// The tag after the request decides, not the one before it.
    FinishTagDecides,
    /// The tenants of all groups compete with one another.
    GroupsSkipped,
    /// The charge of a tenant is divided by the weight of its group.
    WrongWeight,
    /// A dear model is cheap.
    FactorDivides,
    /// A change of weight leaves the distance to the clock as it is.
    NotReweighed,
    /// A tenant takes its credit along into another group.
    CreditMovesAlong,
    /// The newest request of a tenant goes first.
    NewestFirst,
    /// A full pool holds back requests for others.
    FullPoolBlocks,
    /// A pool takes more than its cap.
    PoolCapIgnored,
    /// A tenant runs more than its cap.
    TenantCapIgnored,
    /// A key runs more than its cap.
    KeyCapIgnored,
    /// One request more than there are slots.
    SlotTooMany,
    /// A slot that is free stays so when a cap is raised.
    RaiseIgnored,
    /// A stream that outgrows its forecast is charged only at its end.
    ProgressUncharged,
    /// The forecast stands, whatever was used.
    NeverReconciled,
    /// What failed costs nothing.
    NoLeastCharge,
    /// A grant that nobody received is charged.
    UnreceivedCharged,
    /// Forecasts do not learn.
    NeverLearns,
    /// An idle tenant is forgotten although it owes.
    ForgottenTooEarly,
    /// A request is granted after its deadline.
    LateGrant,
    /// A full queue blames the lightest tenant.
    LightestBlamed,
    /// A suspended tenant's oldest request goes on waiting.
    SuspensionMisses,
}

impl GroupPlan {
    /// The one group of all, for [`Fault::GroupsSkipped`].
    pub(super) fn for_all() -> Self {
        Self { id: GroupId(Uuid::nil()), weight: Share::DEFAULT }
    }
}

impl Tenant {
    /// What its next request will add to its tag, for [`Fault::FinishTagDecides`].
    pub(super) fn span_of_next(&self) -> Tag {
        let mean = self.queued.cost / u128::from(self.queued.count.max(1));
        span(u64::try_from(mean).unwrap_or(u64::MAX), self.plan.weight)
    }
}

#[cfg(not(all(test, feature = "planted-faults")))]
pub(super) const fn planted(_fault: Fault) -> bool {
    false
}

#[cfg(all(test, feature = "planted-faults"))]
pub(super) use planting::{plant, planted};

#[cfg(all(test, feature = "planted-faults"))]
mod planting {
    use super::Fault;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Whether this fault is in the queues of this thread.
    pub(in super::super) fn planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// From now on the queues of this thread have this fault, or none.
    pub(in super::super) fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }
}
