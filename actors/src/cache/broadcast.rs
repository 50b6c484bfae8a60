//! One answer on its way to all who wait for it.
//!
//! Is: a buffer with one writer and any number of readers, each of which gets all of it from the first piece on,
//! as it comes. Is not: HTTP. While the answer is small enough to be kept, all of it is here and nobody waits
//! for anybody. Beyond that only a window is: what the slowest reader has taken is dropped, and the writer waits
//! for it; one that keeps the others waiting for too long is cut off.

use super::desk::Pool;
use super::follower::Place;
use bytes::Bytes;
use obleth_core::ledger::Usage;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes of an answer that are held once it is too large to be kept.
const WINDOW: usize = 256 * 1024;

/// A header line of an answer.
#[derive(Clone, Debug)]
pub struct Line {
    pub name: Arc<str>,
    pub value: Bytes,
    /// It is of the answer, not of this one exchange: others may have it, too.
    pub kept: bool,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub lines: Vec<Line>,
    /// The body is a stream of events.
    pub events: bool,
    /// The body is here as a whole, or comes as a whole: not an open stream.
    pub whole: bool,
    /// Bytes of the body, where they are known.
    pub length: Option<usize>,
}

impl Head {
    /// What of it is kept, in memory of its own.
    pub(super) fn kept(&self) -> Self {
        let own = |line: &Line| Line { value: Bytes::copy_from_slice(&line.value), ..line.clone() };
        let lines: Vec<Line> = self.lines.iter().filter(|line| line.kept).map(own).collect();
        Self { lines, ..*self }
    }

    pub(super) fn weight(&self) -> usize {
        let line = |line: &Line| size_of::<Line>() + line.name.len() + line.value.len() + 32;
        self.lines.iter().map(line).sum()
    }
}

/// Why an answer ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The error's code.
    pub code: &'static str,
    pub message: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// Of the upstream, before its answer began: each may go elsewhere by itself.
    pub unanswered: bool,
    /// The beginning of an event has left.
    pub mid_event: bool,
    /// The number a next event would have.
    pub sequence: u64,
}

/// How the answer ended, for the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub status: u16,
    pub error_code: Option<&'static str>,
    pub usage: Usage,
}

/// A piece of the body.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub bytes: Bytes,
    /// It brings nothing but the usage: for those who asked for it.
    pub usage_only: bool,
    /// The answer is settled: a reader settles before it passes this on.
    pub ends: bool,
}

#[derive(Debug)]
enum End {
    Whole,
    Failed(Failure),
}

/// A reader's place.
#[derive(Debug, Default)]
struct Spot {
    /// The piece it takes next.
    next: u64,
    waker: Option<Waker>,
    /// It kept the others waiting.
    cut: bool,
}

#[derive(Debug, Default)]
struct Inner {
    head: Option<Arc<Head>>,
    pieces: VecDeque<Piece>,
    /// The number of the first of them.
    first: u64,
    /// Bytes of the pieces that are held.
    held: usize,
    /// Not all of it is here any more.
    flowing: bool,
    outcome: Option<Outcome>,
    end: Option<End>,
    readers: BTreeMap<u64, Spot>,
    next_reader: u64,
    /// The reader whose request it is.
    leader: Option<u64>,
    leader_left: bool,
    writer: Option<Waker>,
}

/// The buffer.
#[derive(Debug)]
pub(super) struct Broadcast {
    inner: Mutex<Inner>,
    pool: Arc<Pool>,
    /// Bytes up to which all of it is held.
    limit: usize,
}

impl Broadcast {
    pub fn new(pool: Arc<Pool>, limit: usize) -> Self {
        Self { inner: Mutex::default(), pool, limit }
    }

    /// A reader from the first piece on.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let mut inner = self.inner.lock();
        inner.next_reader += 1;
        let id = inner.next_reader;
        inner.readers.insert(id, Spot::default());
        Reader { cast: Arc::clone(self), id, place: None }
    }

    /// The answer is to the request of this reader.
    pub fn begin(&self, leader: u64) {
        let mut inner = self.inner.lock();
        inner.leader_left = !inner.readers.contains_key(&leader);
        inner.leader = Some(leader);
    }

    pub fn leader_left(&self) -> bool {
        self.inner.lock().leader_left
    }

    pub fn is_abandoned(&self) -> bool {
        self.inner.lock().readers.is_empty()
    }

    /// Waits until nobody reads.
    pub fn poll_abandoned(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.readers.is_empty() {
            return Poll::Ready(());
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until there is room for more.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.flowing || inner.held < WINDOW || inner.readers.is_empty() {
            return Poll::Ready(());
        }
        inner.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Cuts off those that keep others waiting. Where all wait for the same nobody is cut.
    pub fn cut_slowest(&self) {
        let mut inner = self.inner.lock();
        let first = inner.first;
        if inner.readers.values().all(|spot| spot.cut || spot.next == first) {
            return;
        }
        for spot in inner.readers.values_mut().filter(|spot| spot.next == first) {
            spot.cut = true;
            wake(&mut spot.waker);
        }
        self.drop_read(&mut inner);
    }

    pub fn head(&self, head: Head) {
        let mut inner = self.inner.lock();
        inner.head = Some(Arc::new(head));
        inner.wake_readers();
    }

    /// Adds a piece. False: it is too large to be kept from here on.
    pub fn push(&self, piece: Piece) -> bool {
        let size = piece.bytes.len();
        let room = self.pool.grow(size);
        let mut inner = self.inner.lock();
        inner.held += size;
        inner.pieces.push_back(piece);
        inner.wake_readers();
        inner.flowing || (room && inner.held <= self.limit)
    }

    /// From here on only a window is held; nobody joins any more.
    pub fn flow(&self) {
        let mut inner = self.inner.lock();
        inner.flowing = true;
        self.drop_read(&mut inner);
    }

    pub fn note(&self, outcome: Outcome) {
        self.inner.lock().outcome = Some(outcome);
    }

    pub fn finish(&self, failure: Option<Failure>) {
        let mut inner = self.inner.lock();
        if inner.end.is_none() {
            inner.end = Some(failure.map_or(End::Whole, End::Failed));
            inner.wake_readers();
        }
    }

    /// The whole answer, if it is one to keep.
    pub fn whole(&self) -> Option<(Arc<Head>, Vec<Piece>, Usage)> {
        let inner = self.inner.lock();
        let outcome =
            inner.outcome.filter(|outcome| outcome.status == 200 && outcome.error_code.is_none())?;
        let head = inner.head.as_ref().filter(|head| head.status == 200)?;
        let complete = !inner.flowing && inner.end.is_none();
        complete.then(|| (Arc::clone(head), inner.pieces.iter().cloned().collect(), outcome.usage))
    }

    /// Drops what every reader has.
    fn drop_read(&self, inner: &mut Inner) {
        if !inner.flowing {
            return;
        }
        let reading = inner.readers.values().filter(|spot| !spot.cut);
        let until = reading.map(|spot| spot.next).min().unwrap_or(u64::MAX);
        let mut dropped = 0;
        while inner.first < until
            && let Some(piece) = inner.pieces.pop_front()
        {
            dropped += piece.bytes.len();
            inner.first += 1;
        }
        inner.held -= dropped;
        self.pool.shrink(dropped);
        if dropped > 0 {
            wake(&mut inner.writer);
        }
    }
}

impl Inner {
    fn wake_readers(&mut self) {
        self.readers.values_mut().for_each(|spot| wake(&mut spot.waker));
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.pool.shrink(self.inner.get_mut().held);
    }
}

/// What a reader gets next.
#[derive(Debug)]
pub enum Got {
    /// A piece; `ends`: the answer is settled, see [`Reader::outcome`].
    Piece {
        bytes: Bytes,
        ends: bool,
    },
    End,
    Failed(Failure),
    /// It was too slow, and others waited for it.
    Cut,
}

/// One who waits for the answer. Dropped it does not any more.
#[derive(Debug)]
pub struct Reader {
    cast: Arc<Broadcast>,
    id: u64,
    /// Of a follower.
    place: Option<Place>,
}

impl Reader {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// The same, of the follower at `place`.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Its request leads: there is no place to leave.
    pub(super) fn leads(&mut self) {
        if let Some(place) = self.place.take() {
            place.defuse();
        }
    }

    /// The head, or why there is none.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Arc<Head>, Failure>> {
        let mut inner = self.cast.inner.lock();
        if let Some(head) = &inner.head {
            return Poll::Ready(Ok(Arc::clone(head)));
        }
        if let Some(End::Failed(failure)) = &inner.end {
            return Poll::Ready(Err(failure.clone()));
        }
        inner.wait(self.id, cx);
        Poll::Pending
    }

    /// The next piece; `plain`: without what brings nothing but the usage.
    pub fn poll_piece(&self, cx: &mut Context<'_>, plain: bool) -> Poll<Got> {
        let mut inner = self.cast.inner.lock();
        loop {
            let first = inner.first;
            let Some(spot) = inner.readers.get_mut(&self.id) else { return Poll::Ready(Got::Cut) };
            if spot.cut {
                return Poll::Ready(Got::Cut);
            }
            let at = usize::try_from(spot.next.saturating_sub(first)).unwrap_or(usize::MAX);
            let Some(piece) = inner.pieces.get(at).cloned() else { break };
            if let Some(spot) = inner.readers.get_mut(&self.id) {
                spot.next += 1;
            }
            self.cast.drop_read(&mut inner);
            if !(plain && piece.usage_only) {
                return Poll::Ready(Got::Piece { bytes: piece.bytes, ends: piece.ends });
            }
        }
        match &inner.end {
            Some(End::Whole) => Poll::Ready(Got::End),
            Some(End::Failed(failure)) => Poll::Ready(Got::Failed(failure.clone())),
            None => {
                inner.wait(self.id, cx);
                Poll::Pending
            }
        }
    }

    /// How the answer ended; `None` before it is settled.
    pub fn outcome(&self) -> Option<Outcome> {
        self.cast.inner.lock().outcome
    }
}

impl Inner {
    fn wait(&mut self, reader: u64, cx: &Context<'_>) {
        if let Some(spot) = self.readers.get_mut(&reader) {
            spot.waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut inner = self.cast.inner.lock();
        inner.readers.remove(&self.id);
        if inner.leader == Some(self.id) {
            inner.leader_left = true;
        }
        if inner.readers.is_empty() {
            wake(&mut inner.writer);
        }
        self.cast.drop_read(&mut inner);
    }
}
