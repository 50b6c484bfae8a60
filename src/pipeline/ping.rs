//! Comments on a stream while its request waits, so that no proxy on the way takes the silence for the end.
//!
//! Is: an answer whose head leaves before there is one to pass on, and whose body is first the rest of the
//! way of the request and then the answer's own. Is not: a task; the body owns the request, so a client that
//! leaves ends it, and nothing is made that nobody reads. Dropped before the answer begins, the client has
//! left.

use super::headers::{decorate_early, time};
use super::timing::Timing;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use obleth_core::ledger::CacheState;
use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// A comment: a line that begins with a colon, which every reader of events drops.
const PING: &[u8] = b": ping\n\n";

/// Where the head of the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It comes with the answer.
    Kept,
    /// The request is in the queue, so it may leave.
    Free,
    /// It has left: from here on every failure is an event.
    Out,
}

/// A head that may leave early. Known to the request and to the body of its answer, both on one thread.
#[derive(Clone, Debug)]
pub(super) struct Early {
    place: Rc<Cell<Place>>,
    every: Duration,
    request_id: Arc<str>,
    /// What is known of its times as it enters the queue.
    timing: Rc<Cell<Option<Timing>>>,
    /// What the response cache will do for it, as far as that is known by then.
    cache: Rc<Cell<CacheState>>,
}

impl Early {
    /// For a request that is sent a comment `every` so often.
    pub fn new(every: Duration, request_id: Arc<str>) -> Self {
        Self {
            place: Rc::new(Cell::new(Place::Kept)),
            every,
            request_id,
            timing: Rc::default(),
            cache: Rc::default(),
        }
    }

    /// Tells it how long the stages before the queue took.
    pub fn know(&self, timing: Timing) {
        self.timing.set(Some(timing));
    }

    /// Tells it what the response cache does.
    pub fn expect(&self, cache: CacheState) {
        self.cache.set(cache);
    }

    /// The request enters the queue, or is past it.
    pub fn wait(&self, waits: bool) {
        if !self.is_out() {
            self.place.set(if waits { Place::Free } else { Place::Kept });
        }
    }

    /// Whether the head has left.
    pub fn is_out(&self) -> bool {
        self.place.get() == Place::Out
    }

    /// Lets the head leave if it may.
    fn leave(&self) -> bool {
        if self.place.get() == Place::Free {
            self.place.set(Place::Out);
        }
        self.is_out()
    }
}

/// Goes the rest of the way of a request. If it still waits in the queue after the first pause, its head
/// leaves, and comments follow until the answer begins.
///
/// The rest comes boxed: it is the larger part of a request's state, which would be kept and moved twice here.
pub(super) async fn attend<F>(early: Option<Early>, mut rest: Pin<Box<F>>) -> HttpResponse
where
    F: Future<Output = HttpResponse> + 'static,
{
    let Some(early) = early else { return rest.await };
    if let Ok(answer) = timeout(early.every, &mut rest).await {
        return answer;
    }
    if !early.leave() {
        return rest.await;
    }
    let mut answer = HttpResponse::Ok();
    let mut answer = answer.body(BoxBody::new(Pinging {
        way: Way::Before(rest),
        every: early.every,
        due: Box::pin(sleep_until(Instant::now())),
    }));
    decorate_early(&early.request_id, early.cache.get(), answer.headers_mut());
    if let Some((timing, since)) = early.timing.get().and_then(|timing| Some((timing, timing.waits_since?))) {
        time(&timing, since, answer.headers_mut());
    }
    answer
}

/// What the body is at.
enum Way {
    Before(Pin<Box<dyn Future<Output = HttpResponse>>>),
    Answer(BoxBody),
}

/// The body of an answer whose head left early.
struct Pinging {
    way: Way,
    every: Duration,
    /// When the next comment leaves.
    due: Pin<Box<Sleep>>,
}

impl fmt::Debug for Pinging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinging").field("every", &self.every).finish_non_exhaustive()
    }
}

impl MessageBody for Pinging {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        loop {
            match &mut this.way {
                Way::Answer(body) => return Pin::new(body).poll_next(cx),
                Way::Before(rest) => match rest.as_mut().poll(cx) {
                    Poll::Ready(answer) => this.way = Way::Answer(answer.into_body()),
                    Poll::Pending => {
                        std::task::ready!(this.due.as_mut().poll(cx));
                        this.due.as_mut().reset(Instant::now() + this.every);
                        return Poll::Ready(Some(Ok(Bytes::from_static(PING))));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
