//! An answer that leaves as it comes.
//!
//! Is: the body of the answer to the client, which polls the upstream's. It counts what passes, drops the one
//! chunk of usage the client did not ask for, settles before the last piece leaves, and turns a failure into
//! the route's own error event. Is not: a buffer; of an incomplete event at most 64 KiB are held. Dropped
//! before its end, the client has left.

use super::collect::idle;
use super::meter::Head;
use super::record::Record;
use super::settle::Ending;
use crate::error::{Code, Fault};
use crate::lifecycle::TICK;
use crate::upstream::{Body, broken_body, ended_by_close, truncated, watch_reads};
use crate::wire::failure::Position;
use crate::wire::sse::Verdict;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use futures_util::Stream;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

mod passing;

use passing::Passing;

/// Output tokens after which the scheduler hears of them.
const PROGRESS: u64 = 64;

/// Shortest pause between two looks at the time.
const SHORTEST: Duration = Duration::from_millis(1);

/// What kind of body passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Server-sent events.
    Events,
    /// Anything else: sound, or JSON over 1 MiB.
    Bytes,
}

/// Who wants the chunk of a stream that brings nothing but the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The client: it passes.
    Yes,
    /// Nobody: it is dropped.
    No,
    /// Some of several clients: it passes apart, and each is told of a failure by itself.
    Partly,
}

/// Why the body ends without its end: the client sees the connection break.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's answer was cut off")
    }
}

impl std::error::Error for Broken {}

/// Where the body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    /// What is in `out` is the rest.
    Ended,
    /// After `out` the connection breaks.
    Broken,
}

/// A metered body.
pub(super) struct Metered {
    record: Box<Record>,
    body: Body,
    passing: Passing,
    /// Pieces that may leave, and whether one brings nothing but the usage.
    out: VecDeque<(Bytes, bool)>,
    /// Empty between two calls: its room is used again.
    pieces: Vec<Bytes>,
    /// The end has passed: whatever the upstream does now, the answer is whole.
    whole: bool,
    state: State,
    /// The length the head announced; kept only where every byte passes.
    length: Option<usize>,
    chunked: bool,
    /// Since when the upstream has been silent; `None` while it is not waited for (the client may be slow).
    silent_since: Option<Instant>,
    tick: Pin<Box<Sleep>>,
    /// Output tokens the scheduler knows of.
    reported: u64,
    /// Why it ended early: for those who each tell their own client.
    failure: Option<(Fault, Position)>,
    /// What is in `out` waits for the disk to have the row (`OBLETH_LEDGER_SYNC=always`).
    held: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Metered {
    pub fn new(
        record: Box<Record>,
        flow: Flow,
        body: Body,
        first: Vec<Bytes>,
        head: &Head,
        asked: Asked,
    ) -> Self {
        let now = Instant::now();
        let passing = Passing::new(&record, flow, head, asked);
        let mut metered = Self {
            record,
            body,
            passing,
            out: VecDeque::new(),
            pieces: Vec::new(),
            whole: false,
            state: State::Flowing,
            length: head.length.filter(|_| flow == Flow::Bytes),
            chunked: head.chunked,
            silent_since: None,
            tick: Box::pin(sleep_until(now + TICK)),
            reported: 0,
            failure: None,
            held: None,
        };
        first.into_iter().for_each(|chunk| metered.take(chunk));
        metered
    }

    /// Whether the answer is settled: what still comes is its end.
    pub const fn is_whole(&self) -> bool {
        self.whole
    }

    /// The request it answers.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Why it ended early, where each client is told by itself.
    pub const fn take_failure(&mut self) -> Option<(Fault, Position)> {
        self.failure.take()
    }

    /// The head goes to the server.
    pub fn leave(mut self: Box<Self>) -> Box<Self> {
        self.record.timing.answered = Some(self.record.now());
        self.record.told = Some(self.passing.status.as_u16());
        self
    }

    /// Takes a piece from the upstream.
    fn take(&mut self, chunk: Bytes) {
        self.record.first_byte();
        self.passing.bytes_in += chunk.len();
        match self.passing.flow {
            Flow::Events => self.take_events(chunk),
            Flow::Bytes => {
                self.passing.keep_tail(&chunk);
                self.out.push_back((chunk, false));
                if self.length.is_some_and(|length| self.passing.bytes_in >= length) {
                    self.settle_whole();
                }
            }
        }
    }

    fn take_events(&mut self, chunk: Bytes) {
        let mut terminal = false;
        let mut pieces = std::mem::take(&mut self.pieces);
        let Passing { splitter, meter, asked, failed, .. } = &mut self.passing;
        splitter.feed(chunk, &mut pieces, &mut |event| {
            let note = meter.event(event);
            terminal |= note.terminal;
            if let Some(fault) = note.failed {
                *failed = Some(fault.status.unwrap_or(502));
            }
            match (note.usage_only, *asked) {
                (true, Asked::No) => Verdict::Drop,
                (true, Asked::Partly) => Verdict::Apart,
                _ => Verdict::Pass,
            }
        });
        // What is in `out` leaves only after this call, so after the row is written down.
        let apart = splitter.take_apart();
        self.out.extend(pieces.drain(..).enumerate().map(|(at, piece)| (piece, apart.contains(&at))));
        self.pieces = pieces;
        if terminal {
            self.settle_whole();
        } else {
            self.report();
        }
    }

    /// Tells the scheduler how far the answer is.
    fn report(&mut self) {
        let output = self.passing.meter.output_tokens_so_far();
        if output >= self.reported.saturating_add(PROGRESS) {
            self.reported = output;
            let prompt = self.passing.meter.input_tokens().unwrap_or_else(|| self.record.prompt_tokens());
            if let Some(seat) = &self.record.seat {
                seat.progress(prompt, output);
            }
        }
    }

    /// The upstream's body is over; `by_close`: with its connection.
    fn end(&mut self, by_close: bool) {
        let mut rest = Vec::new();
        if self.passing.flow == Flow::Events {
            let Passing { splitter, meter, .. } = &mut self.passing;
            splitter.finish(&mut rest, &mut |event| {
                meter.event(event);
                Verdict::Pass
            });
        }
        let complete = match (self.passing.flow, self.length) {
            (Flow::Events, _) => self.passing.is_complete_stream() && !(by_close && self.chunked),
            (Flow::Bytes, Some(length)) => self.passing.bytes_in >= length,
            (Flow::Bytes, None) => !(by_close && self.chunked),
        };
        if complete || self.whole {
            self.out.extend(rest.into_iter().map(|piece| (piece, false)));
            self.settle_whole();
            self.state = State::Ended;
        } else {
            self.fail(&truncated());
        }
    }

    /// Ends the answer with an error: as an event where there are events, else by breaking the connection.
    fn fail(&mut self, fault: &Fault) {
        if self.whole {
            self.state = State::Ended;
            return;
        }
        self.settle(Some(fault.code));
        if self.passing.flow == Flow::Bytes {
            self.state = State::Broken;
            self.failure = Some((fault.clone(), Position::default()));
            return;
        }
        let position = Position {
            mid_event: self.passing.splitter.is_mid_event(),
            sequence: self.passing.meter.next_sequence(),
        };
        self.state = State::Ended;
        if self.passing.asked == Asked::Partly {
            self.failure = Some((fault.clone(), position));
            return;
        }
        let arrival = &self.record.arrival;
        self.out.push_back((fault.event(arrival.route, position, &arrival.request_id), false));
    }

    /// Settles a whole answer.
    fn settle_whole(&mut self) {
        if !std::mem::replace(&mut self.whole, true) {
            // The client has all there is; the upstream has a moment to end in good order.
            self.tick.as_mut().reset(Instant::now() + TICK);
        }
        self.settle(None);
    }

    /// Settles with what has passed; `code` when the answer was cut.
    fn settle(&mut self, code: Option<Code>) {
        let usage = self.passing.usage(&self.record);
        let status = self.passing.failed.unwrap_or(self.passing.status.as_u16());
        let waiting: usize = self.out.iter().map(|(piece, _)| piece.len()).sum();
        let bytes_out = self.passing.bytes_out + u64::try_from(waiting).unwrap_or(0);
        let mut ending = Ending::answered(status, usage, bytes_out);
        if self.passing.failed.is_some() || !self.passing.status.is_success() {
            ending = ending.because(status, Code::UpstreamError.name());
        }
        if let Some(code) = code {
            ending = ending.because(code.status(), code.name());
        }
        let Some(written) = self.record.settle(&ending) else { return };
        let accounting = self.record.worker.gateway.handles.accounting.clone();
        self.held = Some(Box::pin(async move { accounting.durable(written).await }));
    }

    /// Time has passed without a piece.
    fn on_tick(&mut self) {
        if self.whole {
            self.state = State::Ended;
            return;
        }
        let now = Instant::now();
        let gateway = &self.record.worker.gateway;
        let idle_at = self.silent_since.unwrap_or(now) + gateway.settings.upstream.idle_timeout;
        self.tick.as_mut().reset((now + TICK).min(idle_at.max(now + SHORTEST)));
        if gateway.lifecycle.is_cut() {
            self.fail(&Fault::new(Code::Draining, "the gateway is shutting down"));
        } else if now >= idle_at {
            self.fail(&idle());
        }
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        watch_reads();
        match Pin::new(&mut self.body).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => {
                self.silent_since = None;
                self.take(chunk);
            }
            Poll::Ready(Some(Err(error))) => self.fail(&broken_body(&error)),
            Poll::Ready(None) => self.end(ended_by_close()),
            Poll::Pending => {
                self.silent_since.get_or_insert_with(Instant::now);
                ready!(self.tick.as_mut().poll(cx));
                self.on_tick();
            }
        }
        Poll::Ready(())
    }
}

impl MessageBody for Metered {
    type Error = Broken;

    fn size(&self) -> BodySize {
        match self.length {
            Some(length) => BodySize::Sized(u64::try_from(length).unwrap_or(u64::MAX)),
            None => BodySize::Stream,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let piece = ready!(self.get_mut().poll_piece(cx));
        Poll::Ready(piece.map(|piece| piece.map(|(bytes, _)| bytes)))
    }
}

impl Metered {
    /// The next piece, and whether it brings nothing but the usage.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Bytes, bool), Broken>>> {
        let this = self;
        loop {
            if let Some(held) = &mut this.held {
                ready!(held.as_mut().poll(cx));
                this.held = None;
            }
            if let Some((piece, usage_only)) = this.out.pop_front() {
                if piece.is_empty() {
                    continue;
                }
                this.passing.bytes_out += u64::try_from(piece.len()).unwrap_or(0);
                return Poll::Ready(Some(Ok((piece, usage_only))));
            }
            match this.state {
                State::Ended => return Poll::Ready(None),
                State::Broken => return Poll::Ready(Some(Err(Broken))),
                State::Flowing => ready!(this.poll_upstream(cx)),
            }
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // No-op after a settled end; otherwise the client left in the middle.
        if self.state == State::Flowing {
            self.settle(Some(Code::ClientLeft));
        }
    }
}
