//! What is told of single requests: those that wait or run, and the last ones that ended.
//!
//! Is: bounded memory for `GET /fairshare/explain`, written by the worker that has the request and, while it
//! queues, by the actor. Is not: the ledger; what is older is found there. Each thread writes to a shelf of
//! its own, so that its lock is free nearly always; only a question walks all of them.

use crate::clock::unix_micros;
use crate::guards::Seat;
use obleth_core::fair_queue::{Position, TicketId};
use obleth_core::ids::{ModelId, TenantId};
use obleth_core::moment::Moment;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Requests that ended and are still told of, all shelves together.
const KEPT: usize = 8192;

/// A request that came to the scheduler.
#[derive(Debug)]
pub struct Story {
    pub about: About,
    told: Mutex<Told>,
}

/// What is known when it comes.
#[derive(Clone, Debug)]
pub struct About {
    pub request_id: Arc<str>,
    pub tenant: TenantId,
    pub model: ModelId,
    /// When it came to the scheduler.
    pub at: Moment,
    /// When it came to the gateway.
    pub unix_micros: i64,
    pub prompt_tokens: u64,
}

/// What became of it so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    ticket: Option<TicketId>,
    /// Where it stood when it came to the queue; `None` when it was seated at once.
    pub position: Option<Position>,
    pub seated: Option<Seated>,
    pub end: Option<(Moment, End)>,
}

/// Its seat.
#[derive(Clone, Copy, Debug)]
pub struct Seated {
    pub waited: Duration,
    pub queued: bool,
    /// Output tokens that were forecast.
    pub forecast_tokens: u64,
}

/// Its end.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Of the answer; 499 when the client left.
    pub status: u16,
    pub error_code: Option<&'static str>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Whether it went upstream.
    pub sent: bool,
}

impl Story {
    /// It is in the queue, or was refused there.
    pub(super) fn queued(&self, position: Option<Position>, ticket: Option<TicketId>) {
        let mut told = self.told.lock();
        told.ticket = ticket;
        // A request that is offered again after a fault keeps what it met first.
        told.position = told.position.or(position);
    }
}

/// The stories of all requests.
#[derive(Debug)]
pub struct Trail {
    shelves: Vec<Mutex<Shelf>>,
    /// Ended ones a shelf keeps.
    kept: usize,
}

/// The stories of one thread, or of a few.
#[derive(Debug, Default)]
struct Shelf {
    live: Vec<Option<Arc<Story>>>,
    /// Empty places of `live`.
    free: Vec<usize>,
    /// Oldest first, each with the Unix time of its end.
    ended: VecDeque<(i64, Arc<Story>)>,
    /// The end of the last one that was forgotten.
    forgotten: Option<i64>,
}

/// What was found of a request.
#[derive(Debug)]
pub struct Found {
    pub story: Arc<Story>,
    pub told: Told,
}

impl Found {
    /// Time in the queue, so far if it waits.
    pub fn waited(&self, now: Moment) -> Duration {
        let until = self.told.end.map_or(now, |(end, _)| end);
        self.told.seated.map_or_else(|| until.since(self.story.about.at), |seated| seated.waited)
    }

    /// Its ticket, when it may still be waiting.
    pub(super) fn waiting(&self) -> Option<TicketId> {
        self.told.ticket.filter(|_| self.told.seated.is_none() && self.told.end.is_none())
    }
}

/// Nothing is told of such a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untold {
    /// Unix time since which every request is told of; `None`: since the start.
    pub since: Option<i64>,
}

/// The place of the calling thread among all that ever told a story.
fn own_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    OWN.with(|number| *number)
}

impl Trail {
    /// With room for threads that write at the same time.
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self { shelves: (0..threads).map(|_| Mutex::default()).collect(), kept: KEPT.div_ceil(threads) }
    }

    /// Begins the story of a request.
    pub(super) fn begin(self: &Arc<Self>, about: About) -> Telling {
        let story = Arc::new(Story { about, told: Mutex::default() });
        let shelf = own_number() % self.shelves.len().max(1);
        let place = self.shelves.get(shelf).map_or(0, |shelf| shelf.lock().put(Arc::clone(&story)));
        Telling { trail: Arc::clone(self), story, shelf, place }
    }

    /// The request of this id; of several the one that came last.
    pub(super) fn find(&self, request_id: &str) -> Result<Found, Untold> {
        let named = |story: &&Arc<Story>| *story.about.request_id == *request_id;
        let mut since = None;
        let mut found: Option<Arc<Story>> = None;
        for shelf in &self.shelves {
            let shelf = shelf.lock();
            since = since.max(shelf.forgotten);
            let all = shelf.live.iter().flatten().chain(shelf.ended.iter().map(|(_, story)| story));
            let last = all.filter(named).chain(&found).max_by_key(|story| story.about.at).map(Arc::clone);
            found = last;
        }
        let story = found.ok_or(Untold { since })?;
        let told = *story.told.lock();
        Ok(Found { story, told })
    }
}

impl Shelf {
    fn put(&mut self, story: Arc<Story>) -> usize {
        let place = self.free.pop().unwrap_or(self.live.len());
        match self.live.get_mut(place) {
            Some(empty) => *empty = Some(story),
            None => self.live.push(Some(story)),
        }
        place
    }

    fn end(&mut self, place: usize, now: i64, kept: usize) {
        let Some(story) = self.live.get_mut(place).and_then(Option::take) else { return };
        self.free.push(place);
        while self.ended.len() >= kept
            && let Some((end, _)) = self.ended.pop_front()
        {
            self.forgotten = Some(end);
        }
        self.ended.push_back((now, story));
    }
}

/// The right to go on with a story. Dropped, the story has ended, with what was told.
#[derive(Debug)]
pub struct Telling {
    trail: Arc<Trail>,
    story: Arc<Story>,
    shelf: usize,
    place: usize,
}

impl Telling {
    /// The story, for the actor.
    pub fn share(&self) -> Arc<Story> {
        Arc::clone(&self.story)
    }

    /// A seat was given.
    pub fn seated(&self, seat: &Seat) {
        let seated =
            Seated { waited: seat.waited(), queued: seat.queued(), forecast_tokens: seat.forecast_tokens() };
        self.story.told.lock().seated = Some(seated);
    }

    /// The request has ended.
    pub fn end(self, now: Moment, end: End) {
        self.story.told.lock().end = Some((now, end));
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if let Some(shelf) = self.trail.shelves.get(self.shelf) {
            shelf.lock().end(self.place, unix_micros(), self.trail.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn about(id: &str, at: u64) -> About {
        About {
            request_id: id.into(),
            tenant: TenantId(Uuid::nil()),
            model: ModelId(Uuid::nil()),
            at: Moment::from_micros(at),
            unix_micros: 0,
            prompt_tokens: 0,
        }
    }

    #[test]
    fn the_last_request_of_an_id_is_found_whether_it_runs_or_ended() {
        let trail = Arc::new(Trail::new(3));
        let found = |id: &str| trail.find(id).map(|found| found.story.about.at.as_micros()).ok();
        assert_eq!(found("a"), None);
        let first = trail.begin(about("a", 1));
        let _other = trail.begin(about("b", 9));
        assert_eq!(found("a"), Some(1));
        let second = trail.begin(about("a", 2));
        assert_eq!(found("a"), Some(2));
        drop(second);
        drop(first);
        assert_eq!(found("a"), Some(2), "the first one ended later, and came earlier");
        let elsewhere = Arc::clone(&trail);
        std::thread::spawn(move || drop(elsewhere.begin(about("a", 3)))).join().unwrap();
        assert_eq!(found("a"), Some(3));
    }

    #[test]
    fn only_so_many_that_ended_are_kept_and_all_that_run() {
        let trail = Arc::new(Trail::new(1));
        let running = trail.begin(about("running", 0));
        assert_eq!(trail.find("0").err(), Some(Untold { since: None }));
        for number in 0..KEPT {
            drop(trail.begin(about(&number.to_string(), 1)));
        }
        assert!(trail.find("0").is_ok());
        assert_eq!(trail.find("none").err(), Some(Untold { since: None }), "nothing is forgotten yet");
        drop(trail.begin(about("last", 1)));
        assert!(trail.find("0").err().is_some_and(|untold| untold.since.is_some()));
        assert!(trail.find("1").is_ok() && trail.find("last").is_ok() && trail.find("running").is_ok());
        assert!(trail.shelves[0].lock().live.len() <= 2, "places of ended ones are used again");
        drop(running);
    }
}
