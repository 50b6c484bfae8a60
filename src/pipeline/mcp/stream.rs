//! An answer that leaves as it comes, its connection open until one side ends it.
//!
//! Is: the body of the answer to the client, which polls the server's. It settles before the last event that
//! matters leaves, which is the response to the request: clients leave once they have it, often before the stream
//! has ended. Is not: a buffer, but where lists are cut; then one event is held until it is whole.
//! Dropped before its end, the client has left.

use super::answer::{For, ending, unclear};
use super::source::Source;
use crate::error::{Code, Fault};
use crate::lifecycle::{Phase, TICK};
use crate::pipeline::collect::idle;
use crate::pipeline::record::Record;
use crate::upstream::{ended_by_close, truncated, watch_reads};
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use obleth_actors::clock::unix_micros;
use obleth_actors::mcp::Call as Running;
use obleth_core::mcp::events::{data, with_data};
use obleth_core::registry::McpServer;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

mod look;

pub(super) use look::{Change, Look};

/// A stream that is meant to stay open may be silent for so long.
const LISTEN_SILENCE: Duration = Duration::from_secs(3600);

/// Why the body ends without its end: the client sees the connection break.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the MCP server's answer was cut off")
    }
}

impl std::error::Error for Broken {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    /// What is in `out` is the rest.
    Ended,
    /// After `out` the connection breaks: once what has left is on its way.
    Breaking,
    Broken,
}

/// See the module head.
pub(super) struct Flowing {
    record: Box<Record>,
    source: Source,
    look: Look,
    server: Arc<McpServer>,
    out: VecDeque<Bytes>,
    state: State,
    /// The response has passed: whatever the server does now, the answer is whole.
    whole: bool,
    status: u16,
    length: Option<usize>,
    chunked: bool,
    bytes_in: usize,
    bytes_out: u64,
    listens: bool,
    /// The gateway is the server here: a stream without the response is cut.
    owes: bool,
    /// Since when the server has been silent; `None` while it is not waited for.
    silent_since: Option<Instant>,
    tick: Pin<Box<Sleep>>,
    /// The client takes its call back by another request.
    cancelled: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// What is in `out` waits for the disk to have the row (`OBLETH_LEDGER_SYNC=always`).
    held: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Ready once the client takes its call back; until then, and as long as this is kept, it may.
fn taken_back(running: Running) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move { running.cancelled().notified().await })
}

impl Flowing {
    /// `head`: status, length and whether it is chunked.
    pub fn new(
        record: Box<Record>,
        source: Source,
        look: Look,
        head: (u16, Option<usize>, bool),
        about: For,
    ) -> Self {
        let (status, length, chunked) = head;
        Self {
            owes: about.owes() && !matches!(look, Look::Nowhere),
            record,
            source,
            look,
            server: about.server,
            out: VecDeque::new(),
            state: State::Flowing,
            whole: false,
            status,
            length,
            chunked,
            bytes_in: 0,
            bytes_out: 0,
            listens: about.listens,
            silent_since: None,
            tick: Box::pin(sleep_until(Instant::now() + TICK)),
            cancelled: about.running.map(taken_back),
            held: None,
        }
    }

    /// With what was read already.
    pub fn with(mut self, first: Vec<Bytes>) -> Self {
        first.into_iter().for_each(|piece| self.take(piece));
        self
    }

    fn take(&mut self, piece: Bytes) {
        self.record.first_byte();
        self.bytes_in += piece.len();
        let answered = match &mut self.look {
            Look::Nowhere => false,
            Look::Response(scan) => scan.feed(&piece),
            Look::Changes(_, _, scan) => scan.as_mut().is_some_and(|scan| scan.feed(&piece)),
        };
        if let Look::Changes(..) = &self.look {
            if let Err(fault) = self.change(&piece) {
                self.fail(&fault);
                return;
            }
        } else {
            self.out.push_back(piece);
        }
        if answered || self.length.is_some_and(|length| self.bytes_in >= length) {
            self.settle_whole();
        }
    }

    /// Passes the events that are whole now, changed where they are to be.
    fn change(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let Look::Changes(events, change, _) = &mut self.look else { return Ok(()) };
        let registry = self.record.worker.gateway.registry.load();
        let caller = self.record.caller.again(&registry, unix_micros())?;
        let server = &self.server.name;
        let (out, mut clear) = (&mut self.out, true);
        let fed = events.feed(piece, |event| {
            if std::str::from_utf8(event).is_err() {
                clear = false;
                return;
            }
            let told = data(event).filter(|data| !data.trim().is_empty());
            match told.map(|data| change.of(&data, &caller, server)).transpose() {
                Ok(None | Some(None)) => out.push_back(Bytes::copy_from_slice(event)),
                Ok(Some(Some(data))) => out.push_back(with_data(event, &data).into()),
                Err(_) => clear = false,
            }
        });
        if clear && fed.is_ok() { Ok(()) } else { Err(unclear()) }
    }

    /// The server's body is over; `by_close`: with its connection.
    fn end(&mut self, by_close: bool) {
        let cut = match self.length {
            Some(length) => self.bytes_in < length,
            None => by_close && self.chunked,
        };
        let cut = cut || self.owes;
        if cut && !self.whole {
            self.fail(&truncated());
            return;
        }
        self.settle_whole();
        self.state = State::Ended;
    }

    /// The connection to the client breaks: what came so far is no answer.
    fn fail(&mut self, fault: &Fault) {
        if self.whole {
            self.state = State::Ended;
            return;
        }
        if matches!(fault.code, Code::UpstreamTruncated | Code::UpstreamTimeout) {
            self.source.fail();
        } else {
            self.source.cancel();
        }
        self.settle(Some(fault.code));
        self.state = State::Breaking;
    }

    /// A stream that stays open ends because the gateway wants it to: the client opens another.
    fn close(&mut self) {
        self.source.cancel();
        self.settle(None);
        self.state = State::Ended;
    }

    fn settle_whole(&mut self) {
        if !std::mem::replace(&mut self.whole, true) {
            // The client has all there is; the server has a moment to end in good order.
            self.tick.as_mut().reset(Instant::now() + TICK);
            self.source.end();
        }
        self.settle(None);
    }

    fn settle(&mut self, code: Option<Code>) {
        let waiting: usize = self.out.iter().map(Bytes::len).sum();
        let mut ending = ending(self.status, self.bytes_out + u64::try_from(waiting).unwrap_or(0));
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
        self.tick.as_mut().reset(now + TICK);
        let silence = if self.listens { LISTEN_SILENCE } else { self.source.timeout() };
        let gateway = &self.record.worker.gateway;
        let revoked = || self.record.caller.again(&gateway.registry.load(), unix_micros()).is_err();
        if gateway.lifecycle.is_cut() {
            self.fail(&Fault::new(Code::Draining, "the gateway is shutting down"));
        } else if self.listens && (gateway.lifecycle.phase() >= Phase::Draining || revoked()) {
            self.close();
        } else if self.silent_since.is_some_and(|since| now >= since + silence) {
            self.fail(&idle());
        }
    }

    fn poll_server(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
            self.source.cancel();
            self.settle(Some(Code::ClientLeft));
            self.state = State::Ended;
            return Poll::Ready(());
        }
        watch_reads();
        match self.source.poll(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.silent_since = None;
                self.take(piece);
            }
            Poll::Ready(Some(Err(_))) => self.fail(&truncated()),
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

impl MessageBody for Flowing {
    type Error = Broken;

    fn size(&self) -> BodySize {
        match self.length {
            Some(length) => BodySize::Sized(u64::try_from(length).unwrap_or(u64::MAX)),
            None => BodySize::Stream,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let this = self.get_mut();
        loop {
            if let Some(held) = &mut this.held {
                ready!(held.as_mut().poll(cx));
                this.held = None;
            }
            if let Some(piece) = this.out.pop_front() {
                if piece.is_empty() {
                    continue;
                }
                this.bytes_out += u64::try_from(piece.len()).unwrap_or(0);
                return Poll::Ready(Some(Ok(piece)));
            }
            match this.state {
                State::Ended => return Poll::Ready(None),
                State::Breaking => {
                    // The server below gives up what it has not written yet when a body fails.
                    this.state = State::Broken;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                State::Broken => return Poll::Ready(Some(Err(Broken))),
                State::Flowing => ready!(this.poll_server(cx)),
            }
        }
    }
}

impl Drop for Flowing {
    fn drop(&mut self) {
        // No-op after a settled end; otherwise the client left in the middle.
        if self.state == State::Flowing {
            let code = if self.listens { None } else { Some(Code::ClientLeft) };
            self.settle(code);
        }
    }
}
