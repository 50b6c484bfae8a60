//! A lead, and the upstream call that it becomes.

use super::broadcast::{Broadcast, Failure, Head, Outcome, Piece, Reader};
use super::desk::Desk;
use super::entry::Entry;
use bytes::Bytes;
use obleth_core::ids::ModelId;
use obleth_core::response_cache::{CacheKey, FlightId, WaiterId};
use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a reader may keep others waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a lead and its flight are of.
#[derive(Clone)]
pub(super) struct Course {
    pub desk: Arc<Desk>,
    pub cast: Arc<Broadcast>,
    pub id: FlightId,
    pub key: CacheKey,
    pub model: ModelId,
}

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The right, and the duty, to ask the upstream. Dropped it passes on to the next follower.
#[derive(Debug)]
pub struct Lead {
    course: Course,
    waiter: WaiterId,
    held: bool,
}

impl Lead {
    pub(super) const fn new(course: Course, waiter: WaiterId) -> Self {
        Self { course, waiter, held: true }
    }

    /// The request is sent upstream from here on: the flight, and the leader's own reader. `None` after a
    /// contained fault: the request goes alone.
    pub fn send(mut self) -> Option<(Flight, Reader)> {
        let reader = self.course.cast.reader();
        self.course.cast.begin(reader.id());
        self.held = false;
        let course = self.course.clone();
        course.desk.send(course.id, self.waiter).then(|| (Flight { course, over: false }, reader))
    }
}

impl Lead {
    /// Forgets the guard; the caller passes the lead on.
    pub(super) fn defuse(mut self) -> (FlightId, WaiterId) {
        self.held = false;
        (self.course.id, self.waiter)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.held {
            self.course.desk.leave(self.course.id, self.waiter);
        }
    }
}

/// An upstream call for all who wait. Dropped before its end it has failed for them.
#[derive(Debug)]
pub struct Flight {
    course: Course,
    over: bool,
}

impl Flight {
    /// Waits until nobody waits for the answer any more. Then nobody joins either.
    pub async fn abandoned(&self) {
        loop {
            poll_fn(|cx| self.course.cast.poll_abandoned(cx)).await;
            if self.course.desk.abandon(&self.course) {
                return;
            }
        }
    }

    /// Waits until the readers have room for more. One that lets others wait for too long is cut off.
    pub async fn room(&self) {
        let room = || poll_fn(|cx| self.course.cast.poll_room(cx));
        while timeout(PATIENCE, room()).await.is_err() {
            self.course.cast.cut_slowest();
        }
    }

    /// The head is here.
    pub fn head(&self, head: Head) {
        self.course.cast.head(head);
    }

    /// A piece is here; `ends`: the answer is settled.
    pub fn push(&self, bytes: Bytes, usage_only: bool, ends: bool) {
        if !self.course.cast.push(Piece { bytes, usage_only, ends }) {
            // First nobody joins, then the first pieces go.
            self.course.desk.detach(self.course.id);
            self.course.cast.flow();
        }
    }

    /// A word of the ledger's for those who follow.
    pub fn note(&self) -> Note {
        Note(Arc::clone(&self.course.cast))
    }

    /// Keeps the answer for `ttl`, if it is whole and `is_fit`. Before [`Self::end`].
    pub fn keep(&self, ttl: Duration, is_fit: impl FnOnce(&[u8]) -> bool) {
        let Course { desk, cast, id, key, model } = &self.course;
        let Some((head, pieces, usage)) = cast.whole() else { return };
        let entry = Entry::of(&head, &pieces, usage, *model, desk.clock.now(), ttl);
        if is_fit(entry.body()) {
            desk.keep(*id, *key, entry);
        }
    }

    /// All of it is here, or it failed.
    pub fn end(mut self, failure: Option<Failure>) {
        self.over = true;
        self.course.cast.finish(failure);
        self.course.desk.finish(self.course.id);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.over {
            self.course.cast.finish(Some(Failure {
                code: "restarting",
                message: Cow::Borrowed("the upstream call of an equal request ended with its worker"),
                retry_after: None,
                unanswered: false,
                mid_event: true,
                sequence: 0,
            }));
            self.course.desk.finish(self.course.id);
        }
    }
}

/// Where the settling of the request says how its answer ended.
#[derive(Clone)]
pub struct Note(Arc<Broadcast>);

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Note")
    }
}

impl Note {
    /// The answer is settled like this.
    pub fn settled(&self, outcome: Outcome) {
        self.0.note(outcome);
    }

    /// The client whose request it is has left; others go on reading.
    pub fn leader_left(&self) -> bool {
        self.0.leader_left()
    }
}
