//! The desk's side of the exchange with other replicas.

use super::desk::Desk;
use obleth_core::fair_queue::{Subject, SubjectPlan, Told};
use obleth_core::fleet::{Answer, Ask, Contact, Replica};
use obleth_core::moment::Moment;
use std::sync::Arc;

/// What is heard of a replica's tags is taken in while the lock is held once.
const PIECE: usize = 64;

/// How this replica stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetState {
    /// Replicas that lived when the store last answered, this one included.
    pub members: u32,
    /// Slots that requests may hold here.
    pub slots: u32,
    /// The store has answered within the lease.
    pub near: bool,
    /// Requests can run here, now or when others have given slots back.
    pub ready: bool,
}

/// What was heard of one subject: from whom, of what, its plan, and the tag.
pub(crate) type Heard = (u64, Subject, SubjectPlan, Told);

impl Desk {
    /// Shares its slots from here on.
    pub(crate) fn join_fleet(&self, replica: &Replica) {
        for _ in 0..3 {
            if self.cell.with(|floor| floor.join(replica.clone())).is_ok() {
                return;
            }
        }
    }

    /// Waits until the fleet is to be asked.
    pub(crate) async fn bell(&self) {
        self.bell.notified().await;
    }

    /// The next question; `None`: after a contained fault, or slots are not shared.
    pub(crate) fn ask_fleet(self: &Arc<Self>, fresh: impl Fn() -> String) -> Option<Ask> {
        let now = self.now();
        let asked = self.cell.with(|floor| {
            let ask = floor.fleet.as_mut().map(|fleet| fleet.ask(now, &mut floor.queue, &fresh));
            (ask, floor.answers(now))
        });
        let (ask, answers) = asked.ok()?;
        self.hand_over(answers);
        ask
    }

    /// Takes an answer to a question that was sent at `sent`. Whether the store was away for longer than a lease.
    pub(crate) fn hear_fleet(self: &Arc<Self>, sent: Moment, answer: Answer) -> bool {
        let now = self.now();
        let heard = self.cell.with(|floor| {
            let mut returned = false;
            if let Some(fleet) = floor.fleet.as_mut() {
                returned = fleet.contact(now) == Contact::Lost;
                fleet.hear(now, sent, &mut floor.queue, answer);
            }
            (returned, floor.answers(now))
        });
        let Ok((returned, answers)) = heard else { return false };
        self.hand_over(answers);
        if returned {
            self.tell_anew();
        }
        returned
    }

    /// A question was not answered.
    pub(crate) fn unheard_by_fleet(self: &Arc<Self>) {
        let now = self.now();
        let unheard = self.cell.with(|floor| {
            if let Some(fleet) = floor.fleet.as_mut() {
                fleet.unheard(now, &mut floor.queue);
            }
            floor.answers(now)
        });
        if let Ok(answers) = unheard {
            self.hand_over(answers);
        }
    }

    /// Takes nothing more from the fleet.
    pub(crate) fn leave_fleet(&self) {
        let _ = self.cell.with(|floor| floor.fleet.as_mut().map(Replica::leave));
    }

    pub(crate) fn tell_fleet(&self, most: usize) -> Vec<(Subject, Told)> {
        self.cell.with(|floor| floor.queue.tell(most)).unwrap_or_default()
    }

    /// From now on totals count from the tags as they are, among those who are there.
    pub(crate) fn begin_generation(&self, generation: u64) {
        let now = self.now();
        let _ = self.cell.with(|floor| floor.queue.begin_generation(now, generation));
    }

    pub(crate) fn tell_anew(&self) {
        let _ = self.cell.with(|floor| floor.queue.tell_anew());
    }

    pub(crate) fn hear_of_fleet(self: &Arc<Self>, all: Vec<Heard>) {
        for piece in all.chunks(PIECE) {
            let now = self.now();
            let answers = self.cell.with(|floor| {
                floor.look(now);
                for (from, subject, plan, told) in piece {
                    floor.queue.hear(now, *from, *subject, *plan, *told);
                }
                floor.answers(now)
            });
            if let Ok(answers) = answers {
                self.hand_over(answers);
            }
        }
    }

    pub(crate) fn bound_debts(self: &Arc<Self>) {
        let now = self.now();
        let answers = self.cell.with(|floor| {
            floor.queue.bound_debts(now);
            floor.answers(now)
        });
        if let Ok(answers) = answers {
            self.hand_over(answers);
        }
    }

    /// How it stands among the others; `None`: slots are not shared, or after a contained fault.
    pub(crate) fn fleet_state(&self) -> Option<FleetState> {
        let now = self.now();
        let state = self.cell.with(|floor| {
            let fleet = floor.fleet.as_ref()?;
            Some(FleetState {
                members: fleet.members(),
                slots: floor.queue.leased_slots().unwrap_or_default(),
                near: fleet.contact(now) == Contact::Near,
                ready: fleet.is_ready(now, &floor.queue),
            })
        });
        state.ok().flatten()
    }
}
