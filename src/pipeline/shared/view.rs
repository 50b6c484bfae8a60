//! One client's view of an answer that several wait for: its own headers, its own error events, its own row.

use super::super::fallback::Attempts;
use super::super::headers::decorate;
use super::super::kept::lines;
use super::super::meter::{no_stream, told};
use super::super::ping::Early;
use super::super::record::{Record, shown};
use super::super::resolve::Target;
use super::super::settle::Ending;
use super::super::stream::Broken;
use super::fly::fault_of;
use crate::error::{Code, Fault};
use crate::pipeline::Arrival;
use crate::wire::failure::Position;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use bytes::Bytes;
use obleth_actors::accounting::Accounting;
use obleth_actors::cache::{Failure, Got, Head, Outcome, Reader};
use obleth_core::ledger::CacheState;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A request whose answer is not shared after all: it goes on by itself.
pub(super) struct Apart {
    pub record: Box<Record>,
    pub target: Target,
    pub attempts: Attempts,
}

/// What the call leaves for the client whose request it is.
#[derive(Default)]
pub(super) struct Left {
    /// The headers that the gateway adds to its answer, once they are known.
    pub headers: RefCell<Option<HeaderMap>>,
    /// The request itself, if the upstream failed it.
    pub apart: Cell<Option<Box<Apart>>>,
}

/// A client that waits for the answer.
pub(super) struct Viewer {
    arrival: Arrival,
    early: Option<Early>,
    /// A follower's own record; the leader's is with the call.
    record: Option<Box<Record>>,
    /// A follower's own, until an answer begins.
    target: Option<Target>,
    left: Rc<Left>,
    reader: Reader,
    /// Without the chunk that brings nothing but the usage.
    plain: bool,
}

impl Viewer {
    /// The client whose request is sent.
    pub fn of_leader(record: &mut Record, reader: Reader, target: &Target) -> (Self, Rc<Left>) {
        let left = Rc::<Left>::default();
        let viewer = Self {
            arrival: record.arrival.clone(),
            early: record.early.take(),
            record: None,
            target: None,
            left: Rc::clone(&left),
            reader,
            plain: !target.request.asked_for_usage(),
        };
        (viewer, left)
    }

    /// A client whose request is the same.
    pub fn of_follower(record: Box<Record>, reader: Reader, target: Target) -> Self {
        Self {
            arrival: record.arrival.clone(),
            early: record.early.clone(),
            record: Some(record),
            plain: !target.request.asked_for_usage(),
            target: Some(target),
            left: Rc::default(),
            reader,
        }
    }

    /// Waits for the head, and answers. `Err`: the upstream has failed, and each goes on by itself.
    pub async fn answer(mut self) -> Result<HttpResponse, Box<Apart>> {
        let head = poll_fn(|cx| self.reader.poll_head(cx)).await;
        if let Some(record) = &mut self.record {
            let now = record.now();
            record.timing.step_in(now);
        }
        if let Err(failure) = &head
            && let Some(apart) = self.apart(failure)
        {
            return Err(apart);
        }
        self.target = None;
        if let Some(record) = &mut self.record {
            record.timing.answered = Some(record.now());
        }
        Ok(match head {
            Err(failure) => self.refuse(&fault_of(&failure).0).await,
            Ok(head) if head.whole => self.whole(&head).await,
            Ok(head) if self.head_is_out() && !head.events => self.refuse(&no_stream()).await,
            Ok(head) => {
                let answer = self.begun(&head);
                answer.set_body(BoxBody::new(Viewed::new(self, &head)))
            }
        })
    }

    /// The request itself, if the failure is one of the upstream, after which other models may be tried.
    fn apart(&mut self, failure: &Failure) -> Option<Box<Apart>> {
        if !failure.unanswered {
            return None;
        }
        let Some((mut record, target)) = self.record.take().zip(self.target.take()) else {
            let mut apart = self.left.apart.take()?;
            apart.record.early = self.early.take();
            return Some(apart);
        };
        record.cache = CacheState::Miss;
        record.early.iter().for_each(|early| early.expect(CacheState::Miss));
        let attempts = Attempts::after_another(&target, fault_of(failure).0);
        Some(Box::new(Apart { record, target, attempts }))
    }

    fn head_is_out(&self) -> bool {
        self.early.as_ref().is_some_and(Early::is_out)
    }

    /// An answer that comes as a whole.
    async fn whole(mut self, head: &Head) -> HttpResponse {
        let body = match poll_fn(|cx| self.reader.poll_piece(cx, self.plain)).await {
            Got::Piece { bytes, .. } => bytes,
            Got::End => Bytes::new(),
            Got::Failed(failure) => return self.refuse(&fault_of(&failure).0).await,
            Got::Cut => return self.refuse(&too_slow()).await,
        };
        let status = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
        if self.head_is_out() && status.is_success() {
            return self.refuse(&no_stream()).await;
        }
        let outcome = self.reader.outcome();
        if let Some(record) = &mut self.record {
            record.first_byte();
            record.settled(&ending(outcome, head.status, body.len())).await;
        }
        if self.head_is_out() {
            let code = outcome.and_then(|outcome| outcome.error_code).and_then(Code::named);
            let event = told(&self.arrival, status, code.unwrap_or(Code::UpstreamError), &body);
            return HttpResponse::Ok().body(event);
        }
        self.begun(head).set_body(BoxBody::new(body))
    }

    /// Answers with an error.
    async fn refuse(self, fault: &Fault) -> HttpResponse {
        let Arrival { route, request_id, .. } = &self.arrival;
        match self.record {
            Some(record) => record.refuse(fault).await,
            None if self.early.as_ref().is_some_and(Early::is_out) => {
                HttpResponse::Ok().body(shown(fault).event(*route, Position::default(), request_id))
            }
            None => {
                let mut answer = shown(fault).respond(request_id);
                self.dress(answer.headers_mut());
                answer
            }
        }
    }

    /// The head of the answer to this client.
    fn begun(&self, head: &Head) -> HttpResponse {
        let status = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut answer = HttpResponse::new(status);
        let headers = answer.headers_mut();
        lines(head, self.record.is_none(), headers);
        match &self.record {
            Some(record) => decorate(record, headers),
            None => self.dress(headers),
        }
        if matches!(head.status, 429 | 503) && !headers.contains_key(RETRY_AFTER) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

impl Viewer {
    /// Adds what the gateway says of the leader's request.
    fn dress(&self, headers: &mut HeaderMap) {
        for (name, value) in self.left.headers.borrow().iter().flatten() {
            if *name == super::super::timing::SERVER_TIMING {
                // An upstream's own times stay beside it.
                headers.append(name.clone(), value.clone());
            } else {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

fn too_slow() -> Fault {
    Fault::new(Code::Overloaded, "others waited too long for this client to take its answer")
}

/// How a follower's answer ended: as the leader's did, for nothing.
fn ending(outcome: Option<Outcome>, status: u16, bytes: usize) -> Ending {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    let Some(outcome) = outcome else {
        return Ending::answered(status, obleth_core::ledger::Usage::default(), bytes);
    };
    let ending = Ending::answered(outcome.status, outcome.usage, bytes);
    match outcome.error_code {
        Some(code) => ending.because(outcome.status, code),
        None => ending,
    }
}

/// Where the body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
    Broken,
}

/// The body of an answer that leaves as it comes.
struct Viewed {
    viewer: Viewer,
    status: u16,
    events: bool,
    length: Option<usize>,
    passed: usize,
    /// Waits for the disk to have the row, as `held` of a body of one's own.
    held: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Leaves after that.
    next: Option<Bytes>,
    state: State,
}

impl Viewed {
    fn new(viewer: Viewer, head: &Head) -> Self {
        let Head { status, events, length, .. } = *head;
        Self { viewer, status, events, length, passed: 0, held: None, next: None, state: State::Flowing }
    }

    fn settle(&mut self, ending: &Ending) {
        let Some(record) = &mut self.viewer.record else { return };
        let Some(written) = record.settle(ending) else { return };
        let accounting: Accounting = record.worker.gateway.handles.accounting.clone();
        self.held = Some(Box::pin(async move { accounting.durable(written).await }));
    }

    /// Settles a whole answer, of which `more` bytes are about to leave.
    fn settle_whole(&mut self, more: usize) {
        let ending = ending(self.viewer.reader.outcome(), self.status, self.passed + more);
        self.settle(&ending);
    }

    /// Ends the answer with an error: as an event where there are events, else by breaking the connection.
    fn fail(&mut self, fault: &Fault, position: Position) {
        let outcome = self.viewer.reader.outcome();
        let usage = outcome.map(|outcome| outcome.usage).unwrap_or_default();
        let passed = u64::try_from(self.passed).unwrap_or(u64::MAX);
        let ending = Ending::answered(self.status, usage, passed);
        self.settle(&ending.because(fault.code.status(), fault.code.name()));
        if !self.events {
            self.state = State::Broken;
            return;
        }
        let Arrival { route, request_id, .. } = &self.viewer.arrival;
        self.next = Some(fault.event(*route, position, request_id));
        self.state = State::Ended;
    }

    fn take(&mut self, got: Got) {
        match got {
            Got::Piece { bytes, ends } => {
                if let Some(record) = &mut self.viewer.record {
                    record.first_byte();
                }
                if ends {
                    self.settle_whole(bytes.len());
                }
                self.next = Some(bytes);
            }
            Got::End => {
                self.settle_whole(0);
                self.state = State::Ended;
            }
            Got::Failed(failure) => {
                let (fault, position) = fault_of(&failure);
                self.fail(&fault, position);
            }
            Got::Cut => self.fail(&too_slow(), Position { mid_event: true, ..Position::default() }),
        }
    }
}

impl MessageBody for Viewed {
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
            if let Some(piece) = this.next.take().filter(|piece| !piece.is_empty()) {
                this.passed += piece.len();
                return Poll::Ready(Some(Ok(piece)));
            }
            match this.state {
                State::Ended => return Poll::Ready(None),
                State::Broken => return Poll::Ready(Some(Err(Broken))),
                State::Flowing => {
                    let got = ready!(this.viewer.reader.poll_piece(cx, this.viewer.plain));
                    this.take(got);
                }
            }
        }
    }
}

impl Drop for Viewed {
    fn drop(&mut self) {
        // No-op after a settled end; otherwise the client left in the middle.
        if self.state == State::Flowing {
            let passed = u64::try_from(self.passed).unwrap_or(u64::MAX);
            let left = Ending { bytes_out: passed, ..Ending::fault(Code::ClientLeft, true) };
            self.settle(&left);
        }
    }
}
