//! The record of a request: what will be its ledger row, and its seat while it has one.
//!
//! Is: the one owner of both from authentication to the end. Dropped open, the client has left: that is one
//! of the endings. Invariant: each record is settled exactly once.

use super::arrival::Arrival;
use super::authenticate::Caller;
use super::brownout::Dimmed;
use super::ping::Early;
use super::settle::{self, Ending};
use super::timing::{Stage, Timing};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::metrics::Failure;
use crate::wire::failure::Position;
use actix_web::HttpResponse;
use actix_web::web::Data;
use obleth_actors::accounting::Written;
use obleth_actors::cache::Note;
use obleth_actors::fairshare::story::Telling;
use obleth_actors::guards::{Hold, Seat};
use obleth_actors::health::Trial;
use obleth_core::ids::RowId;
use obleth_core::ledger::{Admission, CacheState};
use obleth_core::moment::Moment;
use obleth_core::registry::Model;
use obleth_core::token_budget::Warning;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// What the request turned out to ask.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub model: Arc<Model>,
    pub stream: bool,
    /// Estimate of the prompt, in tokens.
    pub prompt_tokens: u64,
    /// Bytes of the prompt if it is text and nothing else: what its tokens teach.
    pub text_bytes: Option<u64>,
    pub bytes_in: u64,
}

/// What an MCP request turned out to ask, and of whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    /// `None`: of several, or of none that there is.
    pub server: Option<Arc<str>>,
    pub tool: Option<Arc<str>>,
    /// The answer is a stream of events.
    pub stream: bool,
    pub bytes_in: u64,
}

/// A request on its way. Large, and handed from stage to stage: always boxed.
#[derive(Debug)]
pub(super) struct Record {
    pub worker: Data<Worker>,
    /// Of its row in the ledger.
    pub id: RowId,
    pub arrival: Arrival,
    pub caller: Caller,
    pub asked: Option<Asked>,
    /// What an MCP request turned out to ask.
    pub call: Option<Box<Call>>,
    pub admission: Admission,
    /// It was in the queue, whether or not that got it a seat.
    pub stood: bool,
    /// Set where the head of the answer may leave before the answer is there.
    pub early: Option<Early>,
    /// What it has reserved of the budgets.
    pub hold: Option<Hold>,
    /// Budgets that are not hard and that it passes.
    pub warnings: Vec<Warning>,
    pub seat: Option<Seat>,
    /// The attempt that is upstream, as the breaker of its model knows it.
    pub trial: Option<Trial>,
    /// The model that was asked for, where another one serves it.
    pub fell_back: Option<Arc<Model>>,
    /// What is told of it from the scheduler on.
    pub story: Option<Telling>,
    /// Forecast of prompt and answer at the grant.
    pub estimated_tokens: u64,
    /// The highest output bound of one answer, where the gateway sets one.
    pub max_output: Option<u64>,
    /// What the response cache does for it.
    pub cache: CacheState,
    /// Others wait for its answer, too: they hear how it ended.
    pub note: Option<Note>,
    /// What a brownout did to it. Such an answer is not what was asked for: it is never kept.
    pub brownout: Option<Dimmed>,
    pub timing: Timing,
    pub target_pod: Option<Arc<str>>,
    /// The status in a head that has left already.
    pub told: Option<u16>,
    open: bool,
}

impl Record {
    pub fn open(worker: Data<Worker>, arrival: Arrival, caller: Caller) -> Box<Self> {
        worker.gateway.running.fetch_add(1, Ordering::AcqRel);
        Box::new(Self {
            worker,
            id: RowId(Uuid::now_v7()),
            timing: Timing::new(arrival.at),
            arrival,
            caller,
            asked: None,
            call: None,
            admission: Admission::None,
            stood: false,
            early: None,
            hold: None,
            warnings: Vec::new(),
            seat: None,
            trial: None,
            fell_back: None,
            story: None,
            estimated_tokens: 0,
            max_output: None,
            cache: CacheState::Off,
            note: None,
            brownout: None,
            target_pod: None,
            told: None,
            open: true,
        })
    }

    pub fn now(&self) -> Moment {
        self.worker.gateway.clock.now()
    }

    /// A stage begins: the first thing it says.
    pub fn enter(&mut self, stage: Stage) {
        self.timing.enter(stage, self.now());
    }

    /// The upstream has given what the head of the answer needs.
    pub fn ready(&mut self) {
        self.timing.ready = Some(self.now());
    }

    /// Notes the first byte of the answer, once.
    pub fn first_byte(&mut self) {
        if self.timing.first_byte.is_none() {
            self.timing.first_byte = Some(self.now());
        }
    }

    /// Lowers the output bound of each answer to `tokens`, or sets it; the client is told. Bounds from
    /// several sides: the lowest holds.
    pub fn bound_output(&mut self, tokens: u64) {
        self.max_output = Some(self.max_output.map_or(tokens, |bound| bound.min(tokens)));
    }

    /// Notes that the upstream failed it, once an attempt.
    pub fn upstream_failed(&mut self, failure: Failure) {
        let Some(trial) = self.trial.as_mut().filter(|trial| !trial.has_failed()) else { return };
        trial.failed();
        if let Some(asked) = &self.asked {
            self.worker.metrics.upstream_failed(&asked.model.name, failure);
        }
    }

    /// Estimate of the prompt, in tokens.
    pub fn prompt_tokens(&self) -> u64 {
        self.asked.as_ref().map_or(0, |asked| asked.prompt_tokens)
    }

    /// Whether the client has a head already, so that what follows must be events.
    pub fn head_is_out(&self) -> bool {
        self.early.as_ref().is_some_and(Early::is_out)
    }

    /// Ends the record. A second call does nothing. `Some`: the end of the answer is to wait for it.
    pub fn settle(&mut self, ending: &Ending) -> Option<Written> {
        if std::mem::replace(&mut self.open, false) { settle::settle(self, ending) } else { None }
    }

    /// The same, and waits for the disk where that is wanted.
    pub async fn settled(&mut self, ending: &Ending) {
        if let Some(written) = self.settle(ending) {
            self.worker.gateway.handles.accounting.durable(written).await;
        }
    }

    /// Ends the record with an error of the gateway.
    pub async fn refused(&mut self, fault: &Fault) {
        if self.timing.sent.is_none() && !matches!(fault.code.status(), 400 | 413 | 499) {
            self.admission = Admission::Rejected;
        }
        let ending = Ending::fault(fault.code, self.timing.sent.is_some());
        self.settled(&ending).await;
    }

    /// The same, and answers it.
    pub async fn refuse(mut self: Box<Self>, fault: &Fault) -> HttpResponse {
        self.refused(fault).await;
        if self.head_is_out() {
            let Arrival { route, request_id, .. } = &self.arrival;
            return HttpResponse::Ok().body(shown(fault).event(*route, Position::default(), request_id));
        }
        let mut answer = shown(fault).respond(&self.arrival.request_id);
        super::headers::decorate(&self, answer.headers_mut());
        answer
    }
}

/// A body that broke off is, as far as can be known here, a client that left; but where the chunks of one that
/// did not leave make no sense, it is told so: 499 is for the ledger only.
pub(super) fn shown(fault: &Fault) -> Cow<'_, Fault> {
    if fault.code != Code::ClientLeft {
        return Cow::Borrowed(fault);
    }
    Cow::Owned(Fault::new(Code::InvalidRequest, "the body broke off, or is not framed as HTTP/1.1 wants it"))
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.open {
            if let Some(since) = self.timing.waits_since {
                self.timing.queued += self.now().since(since);
            }
            let ending = Ending::left(self);
            self.settle(&ending);
        }
        self.worker.gateway.running.fetch_sub(1, Ordering::AcqRel);
    }
}
