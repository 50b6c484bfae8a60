//! The answer on its way to the client: counted, untouched.
//!
//! A stream leaves as it comes ([`super::stream`]); any other answer is collected up to 1 MiB first.

use super::arrival::Arrival;
use super::collect::{Collected, Next, collect, next};
use super::forward::Answer;
use super::headers::{client_headers, decorate};
use super::record::Record;
use super::settle::Ending;
use super::stream::{Asked, Flow, Metered};
use super::timing::Stage;
use crate::error::{Code, Fault};
use crate::upstream::{Body, truncated};
use crate::wire::Route;
use crate::wire::failure::{Position, Told};
use crate::wire::usage::{answer_text_bytes, usage_of_answer};
use actix_http::HttpMessage;
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING,
};
use bytes::Bytes;
use obleth_core::ledger::{Usage, UsageSource};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Answers up to this size are collected before their head is sent.
const COLLECTED: usize = 1 << 20;

/// What the head of an answer says of its body.
pub(super) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub length: Option<usize>,
    pub chunked: bool,
}

impl Head {
    fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn is_event_stream(&self) -> bool {
        let kind = self.content_type().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/event-stream")
    }

    /// Whether the body is JSON or a text, or an error: small, as a rule.
    fn is_collected(&self) -> bool {
        let kind = self.content_type().trim().to_ascii_lowercase();
        let small = kind.is_empty() || kind.contains("json") || kind.starts_with("text/");
        !self.status.is_success() || (small && !self.is_event_stream())
    }

    pub fn is_encoded(&self) -> bool {
        self.headers.get(CONTENT_ENCODING).is_some_and(|value| value.as_bytes() != b"identity")
    }
}

/// What the upstream says, as far as the head of an answer needs it.
pub(super) enum Read {
    /// All of it is here, and settled.
    Whole { record: Box<Record>, head: Head, told: (StatusCode, Code), body: Bytes },
    /// It leaves as it comes.
    Flow { head: Head, metered: Box<Metered> },
    /// It is no answer.
    Refused(Box<Record>, Fault),
}

/// Answers the client with what the upstream says.
pub(super) async fn meter(record: Box<Record>, answer: Answer) -> HttpResponse {
    let asked = if answer.asked_for_usage { Asked::Yes } else { Asked::No };
    match read(record, answer, asked).await {
        Read::Whole { record, told: (status, code), body, .. } if record.head_is_out() => {
            HttpResponse::Ok().body(told(&record.arrival, status, code, &body))
        }
        Read::Whole { record, head, told: (status, _), body } => {
            begun(&record, &head, status).set_body(BoxBody::new(body))
        }
        Read::Flow { head, metered } => {
            let answer = begun(metered.record(), &head, head.status);
            answer.set_body(BoxBody::new(metered.leave()))
        }
        Read::Refused(record, fault) => record.refuse(&fault).await,
    }
}

/// Reads the beginning of an answer, or all of one that is small. `asked`: who wants the usage of a stream.
pub(super) async fn read(mut record: Box<Record>, answer: Answer, asked: Asked) -> Read {
    record.enter(Stage::Meter);
    let Answer { mut response, .. } = answer;
    let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let head = Head {
        status: response.status(),
        length: text(CONTENT_LENGTH).and_then(|text| text.trim().parse().ok()),
        chunked: text(TRANSFER_ENCODING).is_some_and(|text| text.to_ascii_lowercase().contains("chunked")),
        headers: response.headers().clone(),
    };
    let mut body = response.take_payload();
    let outcome = if head.is_event_stream() && head.status.is_success() && !head.is_encoded() {
        begin_stream(&mut record, &mut body).await.map(|first| (Flow::Events, first))
    } else if head.status.is_success() && record.head_is_out() {
        Err(no_stream())
    } else if head.is_collected() {
        match collect(&mut record, &mut body, head.length, head.chunked, COLLECTED).await {
            Ok(Collected::Whole(whole)) => {
                record.ready();
                return whole_answer(record, head, whole).await;
            }
            Ok(Collected::Begun(_)) if record.head_is_out() => Err(no_stream()),
            Ok(Collected::Begun(first)) => Ok((Flow::Bytes, first)),
            Err(fault) => Err(fault),
        }
    } else {
        Ok((Flow::Bytes, Vec::new()))
    };
    match outcome {
        Ok((flow, first)) => {
            record.ready();
            let metered = Box::new(Metered::new(record, flow, body, first, &head, asked));
            Read::Flow { head, metered }
        }
        Err(fault) => Read::Refused(record, fault),
    }
}

/// Waits for the first piece of a stream: until then a failure is an answer of its own.
async fn begin_stream(record: &mut Record, body: &mut Body) -> Result<Vec<Bytes>, Fault> {
    match next(record, body).await? {
        Next::Chunk(chunk) => {
            record.first_byte();
            Ok(vec![chunk])
        }
        Next::End { .. } => Err(truncated()),
    }
}

/// An answer that is here as a whole.
async fn whole_answer(mut record: Box<Record>, head: Head, body: Bytes) -> Read {
    let route = record.arrival.route;
    let mut status = head.status;
    if status.is_success() && is_json_route(route) && !head.is_encoded() && !is_json(&body) {
        let fault = Fault::new(Code::UpstreamError, "the upstream's answer is not JSON");
        return Read::Refused(record, fault);
    }
    let mut code = Code::UpstreamError;
    if status.is_client_error() && names_missing_model(&body) {
        (status, code) = (StatusCode::NOT_FOUND, Code::ModelNotFound);
    }
    let bytes_out = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let usage = if status.is_success() { usage_of(&record, &head, &body) } else { Usage::default() };
    let mut ending = Ending::answered(status.as_u16(), usage, bytes_out);
    if !status.is_success() {
        ending = ending.because(status.as_u16(), code.name());
    }
    record.settled(&ending).await;
    Read::Whole { record, head, told: (status, code), body }
}

/// An answer that cannot follow a head that has left already.
pub(super) fn no_stream() -> Fault {
    Fault::new(Code::UpstreamError, "the upstream did not answer with a stream")
}

/// An upstream's error as the last event of a stream whose head has left already.
pub(super) fn told(arrival: &Arrival, status: StatusCode, code: Code, body: &[u8]) -> Bytes {
    let Arrival { route, request_id, .. } = arrival;
    let silent = format!("the upstream answered {}", status.as_u16());
    Told::of(body).failure((&silent, code.name()), request_id).event(*route, Position::default())
}

/// The head of the answer to the client.
fn begun(record: &Record, head: &Head, status: StatusCode) -> HttpResponse {
    let mut answer = HttpResponse::new(status);
    client_headers(&head.headers, answer.headers_mut());
    decorate(record, answer.headers_mut());
    if matches!(status.as_u16(), 429 | 503) && !head.headers.contains_key(RETRY_AFTER) {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// What the answer cost in tokens: as the upstream says, or else counted from its text.
fn usage_of(record: &Record, head: &Head, body: &[u8]) -> Usage {
    let route = record.arrival.route;
    if route == Route::CountTokens {
        return Usage::default();
    }
    let input = record.prompt_tokens();
    if head.is_encoded() {
        return estimated(record);
    }
    if let Some(usage) = usage_of_answer(route, body) {
        return usage;
    }
    counted(input, answer_text_bytes(route, body).div_ceil(4))
}

/// The forecast, for an answer that cannot be read here.
pub(super) fn estimated(record: &Record) -> Usage {
    let input = record.prompt_tokens();
    let output = record.estimated_tokens.saturating_sub(input);
    Usage { input, output, source: UsageSource::Estimated, ..Usage::default() }
}

/// Tokens counted from text; none at all when there was no text on either side.
pub(super) fn counted(input: u64, output: u64) -> Usage {
    let source = if input == 0 && output == 0 { UsageSource::None } else { UsageSource::Counted };
    Usage { input, output, source, ..Usage::default() }
}

/// Routes whose answer, when it is no stream, is JSON.
const fn is_json_route(route: Route) -> bool {
    !matches!(route, Route::Audio(_) | Route::Images(_))
}

fn is_json(body: &[u8]) -> bool {
    let looks = body.trim_ascii().starts_with(b"{") || body.trim_ascii().starts_with(b"[");
    looks && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Whether an error says `model_not_found`, in either of the two shapes in use.
pub(crate) fn names_missing_model(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        error: Option<Inner>,
        code: Option<IgnoredOr>,
    }
    #[derive(Deserialize)]
    struct Inner {
        code: Option<IgnoredOr>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IgnoredOr {
        Text(String),
        Other(IgnoredAny),
    }
    let is_it =
        |code: Option<IgnoredOr>| matches!(code, Some(IgnoredOr::Text(text)) if text == "model_not_found");
    match serde_json::from_slice::<Envelope>(body) {
        Ok(Envelope { error: Some(inner), .. }) => is_it(inner.code),
        Ok(Envelope { code, .. }) => is_it(code),
        Err(_) => false,
    }
}
