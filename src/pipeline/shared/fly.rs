//! The upstream call for all who wait: a task of its own.
//!
//! It ends when the answer does, or when nobody waits for it any more: then it is dropped where it is, and its
//! record settles as one whose client left. If the upstream fails before an answer begins and its model has
//! fallbacks, it ends there, too: each of those who wait goes on by itself, the leader's client with the record.

use super::super::admit::Pass;
use super::super::fallback::{Attempts, Outcome, attempt};
use super::super::headers::{client_headers, decorate};
use super::super::lookup::Ask;
use super::super::meter::{self, Read};
use super::super::record::Record;
use super::super::resolve::Target;
use super::super::stream::{Asked, Metered};
use super::view::{Apart, Left};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::wire::failure::Position;
use crate::wire::fit::is_fit;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::{Either, select};
use obleth_actors::cache::{Failure, Flight, Head, Line};
use obleth_actors::health::Trial;
use obleth_core::fair_queue::Spent;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

/// What the call needs.
pub(super) struct Course {
    pub worker: Data<Worker>,
    pub request: HttpRequest,
    pub target: Target,
    pub pass: Pass,
    pub ask: Ask,
    /// What the leader's client finds of it.
    pub leader: Rc<Left>,
}

/// Flies until the end.
pub(super) async fn fly(record: Box<Record>, course: Course, flight: Flight) {
    let failure = {
        let call = pin!(call(record, course, &flight));
        let abandoned = pin!(flight.abandoned());
        match select(call, abandoned).await {
            Either::Left((failure, _)) => failure,
            Either::Right(((), _)) => None,
        }
    };
    flight.end(failure);
}

async fn call(mut record: Box<Record>, course: Course, flight: &Flight) -> Option<Failure> {
    let Course { worker, request, target, pass, ask, leader } = course;
    let outcome = attempt(&worker, &mut record, &request, &target, pass).await;
    let failed = record.trial.as_ref().is_some_and(Trial::has_failed);
    if failed && !target.model.fallbacks.is_empty() {
        return Some(part(record, target, outcome, &leader));
    }
    drop(target);
    let answer = match outcome {
        Ok(answer) => answer,
        Err(fault) => return refused(record, &fault, &leader).await,
    };
    let route = record.arrival.route;
    match meter::read(record, answer, Asked::Partly).await {
        Read::Refused(record, fault) => refused(record, &fault, &leader).await,
        Read::Whole { record, head, told: (status, _), body } => {
            dress(&record, &leader);
            flight.head(Head { whole: true, ..shared_head(&head, status) });
            flight.push(body, false, true);
            flight.keep(ask.ttl, |body| !head.is_encoded() && is_fit(route, false, ask.tools, body));
            None
        }
        Read::Flow { head, metered } => {
            let metered = metered.leave();
            dress(metered.record(), &leader);
            flight.head(shared_head(&head, head.status));
            let failure = pour(metered, flight).await;
            let events = head.is_event_stream();
            flight.keep(ask.ttl, |body| !head.is_encoded() && is_fit(route, events, ask.tools, body));
            failure
        }
    }
}

/// Passes the pieces on as they come and as the readers take them.
async fn pour(mut metered: Box<Metered>, flight: &Flight) -> Option<Failure> {
    loop {
        flight.room().await;
        match poll_fn(|cx| metered.poll_piece(cx)).await {
            Some(Ok((piece, usage_only))) => flight.push(piece, usage_only, metered.is_whole()),
            Some(Err(_)) | None => break,
        }
    }
    metered.take_failure().map(|(fault, position)| failure_of(&fault, position))
}

/// The upstream has failed: hands the request back to its client, if that is still there. What the others hear.
fn part(mut record: Box<Record>, target: Target, outcome: Outcome, leader: &Left) -> Failure {
    let failure = match &outcome {
        Err(fault) => failure_of(fault, Position::default()),
        Ok(answer) => {
            let status = answer.response.status().as_u16();
            let message = format!("the upstream answered an equal request with {status}");
            failure_of(&Fault::new(Code::UpstreamError, message), Position::default())
        }
    };
    if let Some(seat) = record.seat.take() {
        seat.settle(Spent::Nothing);
    }
    record.note = None;
    let attempts = Attempts::after(&target, outcome);
    leader.apart.set(Some(Box::new(Apart { record, target, attempts })));
    Failure { unanswered: true, ..failure }
}

/// The upstream failed before a head.
async fn refused(mut record: Box<Record>, fault: &Fault, leader: &Left) -> Option<Failure> {
    record.refused(fault).await;
    dress(&record, leader);
    Some(failure_of(fault, Position::default()))
}

fn failure_of(fault: &Fault, position: Position) -> Failure {
    Failure {
        code: fault.code.name(),
        message: fault.message.clone(),
        retry_after: fault.retry_after,
        unanswered: false,
        mid_event: position.mid_event,
        sequence: position.sequence,
    }
}

/// The failure as the error it was.
pub(super) fn fault_of(failure: &Failure) -> (Fault, Position) {
    let code = Code::named(failure.code).unwrap_or(Code::Internal);
    let fault = Fault::new(code, failure.message.clone());
    let fault = match failure.retry_after {
        Some(wait) => fault.retry_after(wait),
        None => fault,
    };
    (fault, Position { mid_event: failure.mid_event, sequence: failure.sequence })
}

/// What the gateway says of the leader's request, for its client.
fn dress(record: &Record, leader: &Left) {
    let mut headers = HeaderMap::new();
    decorate(record, &mut headers);
    leader.headers.replace(Some(headers));
}

fn shared_head(head: &meter::Head, status: StatusCode) -> Head {
    let mut headers = HeaderMap::new();
    client_headers(&head.headers, &mut headers);
    let line =
        |(name, value): (&actix_web::http::header::HeaderName, &actix_web::http::header::HeaderValue)| Line {
            name: Arc::from(name.as_str()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            kept: is_of_the_answer(name.as_str()),
        };
    Head {
        status: status.as_u16(),
        lines: headers.iter().map(line).collect(),
        events: head.is_event_stream(),
        whole: false,
        length: head.length.filter(|_| !head.is_event_stream()),
    }
}

/// Headers that say something of the answer's body. All others are of one exchange with one client: cookies,
/// limits, times, names of requests.
fn is_of_the_answer(name: &str) -> bool {
    matches!(
        name,
        "content-type"
            | "content-encoding"
            | "content-disposition"
            | "content-language"
            | "cache-control"
            | "retry-after"
            | "openai-model"
            | "openai-version"
    )
}
