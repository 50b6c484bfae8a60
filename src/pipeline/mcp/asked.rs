//! What a client asks: its body read once, its headers compared with it, its limits counted.

use super::headers::{media_type, mirrored, session};
use super::refusal::{HEADER_MISMATCH, Refusal};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::pipeline::body::{Held, read_body};
use crate::pipeline::record::Record;
use crate::pipeline::reserve::{fault_of, unreserved};
use crate::pipeline::timing::Stage;
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use obleth_actors::budget::NoHold;
use obleth_core::mcp::headers::{Mirror, disagreement};
use obleth_core::mcp::{Era, Kind, Message};
use std::sync::Arc;

/// Longest tool name that the ledger keeps, in bytes.
const TOOL_MAX: usize = 256;

/// Reads the body of a `POST`.
pub(super) async fn body(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    payload: Payload,
) -> Result<(Bytes, Held), Refusal> {
    record.enter(Stage::Resolve);
    let waits = record.now();
    record.timing.step_out(waits);
    let read = read_body(worker, request.headers(), payload).await;
    let came = record.now();
    record.timing.step_in(came);
    let (body, held) = read?;
    if let Some(call) = &mut record.call {
        call.bytes_in = u64::try_from(body.len()).unwrap_or(u64::MAX);
    }
    let encoded = request.headers().get_all(CONTENT_ENCODING).any(|value| value.as_bytes() != b"identity");
    if encoded {
        return Err(Fault::new(Code::InvalidRequest, "an encoded body cannot be read here").into());
    }
    Ok((body, held))
}

/// Reads the message; what its headers repeat of it must agree.
pub(super) fn message<'a>(request: &HttpRequest, body: &'a [u8]) -> Result<(Message<'a>, Era), Refusal> {
    let message = Message::read(body).map_err(|why| match Message::id_of(body) {
        Some(id) => Refusal::from(why).to(Some(id)),
        None => why.into(),
    })?;
    if !media_type(request.headers()).is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        let fault = Fault::new(Code::InvalidRequest, "content-type must be application/json");
        return Err(Refusal::from(fault).to(message.id));
    }
    let said = mirrored(request.headers());
    if let Some(header) = disagreement(&message, &said) {
        let text = format!("the header {header} does not agree with the body");
        return Err(Refusal::protocol(HEADER_MISMATCH, text).to(message.id));
    }
    let era = message.era(said.version.text());
    Ok((message, era))
}

/// The session that the request names, as the client knows it; stateless requests have none.
pub(super) fn named_session(request: &HttpRequest, era: Era) -> Result<Option<&str>, Refusal> {
    match session(request.headers()) {
        _ if era == Era::Stateless => Ok(None),
        Mirror::Absent => Ok(None),
        Mirror::Says(id) => Ok(Some(id)),
        Mirror::Unreadable => Err(no_session()),
    }
}

/// There is no such session, or it is another key's: which of both nobody is told.
pub(super) fn no_session() -> Refusal {
    Fault::new(Code::SessionNotFound, "there is no such session").into()
}

/// The tool, as the ledger keeps it.
pub(super) fn tool_for_ledger(tool: &str) -> Arc<str> {
    let end = (0..=TOOL_MAX.min(tool.len())).rev().find(|end| tool.is_char_boundary(*end)).unwrap_or(0);
    Arc::from(tool.get(..end).unwrap_or_default())
}

/// Counts a request in the limits of tenant and key a minute. Notifications and answers are free.
pub(super) async fn count(worker: &Worker, record: &mut Record, kind: Kind) -> Result<(), Fault> {
    if kind != Kind::Request {
        return Ok(());
    }
    record.enter(Stage::Reserve);
    let registry = worker.gateway.registry.load_full();
    let caller = &record.caller;
    let tenant = registry.tenant(caller.tenant.id).unwrap_or(&caller.tenant);
    let key = registry.key(caller.key.id).unwrap_or(&caller.key);
    let limited = |limit: Option<u64>| limit.is_some();
    if !limited(tenant.limits.requests_per_minute) && !limited(key.limits.requests_per_minute) {
        return Ok(());
    }
    let budget = &worker.gateway.handles.budget;
    let (of_tenant, of_key) = ((tenant.id, &tenant.limits), (key.id, &key.limits));
    let reserved = match budget.reserve_request(of_tenant, of_key) {
        Err(NoHold::Short(lacking)) => Box::pin(budget.obtain_request(of_tenant, of_key, lacking)).await,
        other => other,
    };
    match reserved {
        Ok(hold) => {
            record.hold = Some(hold);
            Ok(())
        }
        Err(NoHold::Refused(refusal)) => {
            let fault = fault_of(refusal);
            worker.metrics.budget_rejection(fault.code.name());
            Err(fault)
        }
        Err(other) => Err(unreserved(&other)),
    }
}
