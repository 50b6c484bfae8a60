//! A server's answer on its way to the client.
//!
//! A stream of events leaves as it comes ([`super::stream`]); any other answer is read up to 1 MiB first, so that a
//! cut one can be a 502. Where the caller may not use all of a server's tools, lists are cut on their way, and
//! what cannot be looked into does not pass.

use super::headers::{MCP_SESSION_ID, X_ACCEL_BUFFERING, media_type};
use super::refusal::Refusal;
use super::source::Source;
use super::stream::{Change, Flowing, Look};
use crate::error::{Code, Fault};
use crate::pipeline::collect::{Collected, collect};
use crate::pipeline::headers::{client_headers, decorate_plain};
use crate::pipeline::meter::Head;
use crate::pipeline::record::Record;
use crate::pipeline::settle::Ending;
use crate::pipeline::timing::Stage;
use crate::upstream::Response;
use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    SET_COOKIE, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use bytes::Bytes;
use obleth_actors::mcp::Call as Running;
use obleth_core::ledger::Usage;
use obleth_core::mcp::events::EVENT_MAX;
use obleth_core::mcp::{Object, text};
use obleth_core::registry::{McpServer, rights};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Answers up to this size are read before their head is sent.
const COLLECTED: usize = 1 << 20;

/// What is known of the request that the answer is for.
pub(super) struct For {
    pub server: Arc<McpServer>,
    /// Of the request; `None` where the message had none.
    pub id: Option<Box<RawValue>>,
    /// There is no message.
    pub is_get: bool,
    /// The message is a request: a response ends the exchange.
    pub is_request: bool,
    /// The answer may list tools.
    pub lists: bool,
    /// The client is stateless, and the server is not.
    pub turns: bool,
    /// It is meant to stay open.
    pub listens: bool,
    pub session: Session,
    /// The call while it runs, where the client may take it back by another request.
    pub running: Option<Running>,
}

impl For {
    /// The client waits for a response of the gateway: what the server says must be one.
    pub fn owes(&self) -> bool {
        self.is_request && matches!(self.session, Session::Hidden)
    }
}

/// Whose session the request is sent in.
pub(super) enum Session {
    /// The client's own: as the client names it, and as the server does.
    Clients(Option<(String, String)>),
    /// The gateway's: no business of the client.
    Hidden,
}

/// Answers the client.
pub(super) async fn answer(mut record: Box<Record>, came: (Response, Source), about: For) -> HttpResponse {
    record.enter(Stage::Meter);
    let (response, source) = came;
    let text = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    let head = Head {
        status: response.status(),
        length: text(CONTENT_LENGTH).and_then(|text| text.trim().parse().ok()),
        chunked: text(TRANSFER_ENCODING).is_some_and(|text| text.to_ascii_lowercase().contains("chunked")),
        headers: response.headers().clone(),
    };
    let (id, is_get) = (about.id.clone(), about.is_get);
    match carry(record, &head, source, about).await {
        Ok(answer) => answer,
        Err(failed) => {
            let (record, fault) = *failed;
            let refusal = Refusal::from(fault);
            if is_get { refusal.answer(record).await } else { refusal.to(id.as_deref()).answer(record).await }
        }
    }
}

type Failed = (Box<Record>, Fault);

async fn carry(
    mut record: Box<Record>,
    head: &Head,
    mut source: Source,
    about: For,
) -> Result<HttpResponse, Box<Failed>> {
    if let Err(fault) = refuse_operator_faults(&about, head) {
        source.end();
        return Err(Box::new((record, fault)));
    }
    let change = change(&record, head, &about);
    let is_events = head.is_event_stream() && head.status.is_success() && !head.is_encoded();
    if is_events {
        if let Some(call) = &mut record.call {
            call.stream = true;
        }
        record.ready();
        let look = Look::new(change, about.is_request);
        return Ok(flow(record, head, source, Vec::new(), look, about));
    }
    let limit = if change.is_some() { EVENT_MAX } else { COLLECTED };
    let read = match source.body() {
        Some(body) => collect(&mut record, body, head.length, head.chunked, limit).await,
        None => Ok(Collected::Whole(Bytes::new())),
    };
    match read {
        Ok(Collected::Whole(body)) => match changed(&record, &about, change, body) {
            Ok(body)
                if about.owes() && head.status.is_success() && !is_response(&body, about.id.as_deref()) =>
            {
                let text = "the MCP server did not answer this call";
                Err(Box::new((record, Fault::new(Code::UpstreamError, text))))
            }
            Ok(body) => Ok(whole(record, head, source, body, &about).await),
            // An error that is no JSON lists nothing, and is not shown.
            Err(_) if !head.status.is_success() => {
                Ok(whole(record, head, source, Bytes::new(), &about).await)
            }
            Err(fault) => Err(Box::new((record, fault))),
        },
        Ok(Collected::Begun(_)) if change.is_some() => Err(Box::new((record, unclear()))),
        Ok(Collected::Begun(first)) => {
            record.ready();
            Ok(flow(record, head, source, first, Look::Nowhere, about))
        }
        Err(fault) => {
            if fault.code != Code::Draining {
                source.fail();
            }
            Err(Box::new((record, fault)))
        }
    }
}

/// What is to be changed in the answer.
fn change(record: &Record, head: &Head, about: &For) -> Option<Change> {
    let caller = &record.caller;
    let limited = || rights(&caller.tenant, &caller.key).is_limited(&about.server.name);
    if about.turns {
        head.status.is_success().then_some(Change::Era)
    } else {
        (about.lists && limited()).then_some(Change::Lists)
    }
}

/// A body with what is to be changed in it.
fn changed(record: &Record, about: &For, change: Option<Change>, body: Bytes) -> Result<Bytes, Fault> {
    let Some(change) = change.filter(|_| !body.trim_ascii().is_empty()) else { return Ok(body) };
    let text = std::str::from_utf8(&body).map_err(|_| unclear())?;
    let changed = change.of(text, &record.caller, &about.server.name).map_err(|_| unclear())?;
    Ok(changed.map_or(body, Bytes::from))
}

/// Whether this is the response to the request of this id.
fn is_response(body: &[u8], id: Option<&RawValue>) -> bool {
    let object = std::str::from_utf8(body).ok().and_then(Object::read);
    object.is_some_and(|object| {
        let answers = object.get("result").is_some() || object.get("error").is_some();
        let same = object.get("id").is_some_and(|own| id.is_some_and(|id| same_id(own, id)));
        answers && same && object.get("method").is_none()
    })
}

/// Texts may differ in how they write a character.
fn same_id(one: &RawValue, other: &RawValue) -> bool {
    one.get() == other.get() || text(one).is_some_and(|one| Some(one) == text(other))
}

/// What cannot be changed is not passed on.
pub(super) fn unclear() -> Fault {
    Fault::new(Code::UpstreamError, "the MCP server's answer cannot be read")
}

/// What the tenant cannot mend is not passed on as if it could; least of all whom to ask for a token.
fn refuse_operator_faults(about: &For, head: &Head) -> Result<(), Fault> {
    let refused = match head.status.as_u16() {
        401 => true,
        403 => about.server.auth_header.is_some(),
        404 if matches!(about.session, Session::Hidden) => {
            // To a client it would say that its own session is gone.
            return Err(Fault::new(Code::UpstreamError, "the MCP server does not know this call"));
        }
        _ => false,
    };
    if refused {
        return Err(Fault::new(Code::UpstreamAuth, "the MCP server refused the operator's credentials"));
    }
    if head.status.is_redirection() || head.status.is_informational() {
        let text = "the MCP server answered with a redirect or an upgrade";
        return Err(Fault::new(Code::UpstreamError, text));
    }
    Ok(())
}

/// An answer that is here as a whole.
async fn whole(
    mut record: Box<Record>,
    head: &Head,
    mut source: Source,
    body: Bytes,
    about: &For,
) -> HttpResponse {
    record.ready();
    source.end();
    let bytes_out = u64::try_from(body.len()).unwrap_or(u64::MAX);
    record.settled(&ending(head.status.as_u16(), bytes_out)).await;
    let mut answer = begun(&record, head, about);
    if body.is_empty() {
        answer.headers_mut().remove(CONTENT_ENCODING);
    }
    answer.set_body(BoxBody::new(body))
}

/// How an exchange ends that the server answered with this status.
pub(super) fn ending(status: u16, bytes_out: u64) -> Ending {
    let ending = Ending::answered(status, Usage::default(), bytes_out);
    if status < 400 { ending } else { ending.because(status, Code::UpstreamError.name()) }
}

fn flow(
    mut record: Box<Record>,
    head: &Head,
    source: Source,
    first: Vec<Bytes>,
    look: Look,
    about: For,
) -> HttpResponse {
    let mut answer = begun(&record, head, &about);
    record.timing.answered = Some(record.now());
    record.told = Some(head.status.as_u16());
    let length = head.length.filter(|_| matches!(look, Look::Nowhere));
    if head.is_event_stream() {
        answer.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    let flowing = Flowing::new(record, source, look, (head.status.as_u16(), length, head.chunked), about);
    answer.set_body(BoxBody::new(flowing.with(first)))
}

/// The head of the answer to the client.
fn begun(record: &Record, head: &Head, about: &For) -> HttpResponse {
    let mut answer = HttpResponse::new(head.status);
    let headers = answer.headers_mut();
    client_headers(&head.headers, headers);
    // Whom to ask for a token, and what an operator's session is, is no business of a client.
    headers.remove(WWW_AUTHENTICATE);
    headers.remove(SET_COOKIE);
    pass_session(record, &head.headers, headers, about);
    decorate_plain(record, headers);
    if matches!(head.status.as_u16(), 429 | 503) && !head.headers.contains_key(RETRY_AFTER) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// A session is named to the client under a seal.
fn pass_session(record: &Record, server: &HeaderMap, client: &mut HeaderMap, about: &For) {
    client.remove(MCP_SESSION_ID);
    let Session::Clients(named) = &about.session else { return };
    let Some(id) = server.get(MCP_SESSION_ID).and_then(|value| value.to_str().ok()) else { return };
    let sealed = match named {
        Some((sealed, own)) if own == id => Some(sealed.clone()),
        _ => record.worker.gateway.handles.mcp.seal(&about.server, record.caller.key.id, id),
    };
    if let Some(value) = sealed.and_then(|sealed| HeaderValue::try_from(sealed).ok()) {
        client.insert(MCP_SESSION_ID, value);
    }
}

/// Whether an answer of the gateway's own call is a stream of events.
pub(super) fn is_events(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE)
        && media_type(headers).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}
