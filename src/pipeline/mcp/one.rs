//! `/mcp/{server}`: a server as it is, for those who may.
//!
//! What the client says reaches the server byte by byte, what the server says the client; but for credentials,
//! names of sessions, and tools that the caller may not know of.

use super::answer::{For, Session, answer};
use super::asked::{self, message, named_session, no_session, tool_for_ledger};
use super::find;
use super::headers::outgoing;
use super::refusal::Refusal;
use super::source::{Manner, Source, attempt, exchange, timeout, uri};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::pipeline::admit;
use crate::pipeline::record::Record;
use crate::pipeline::timing::Stage;
use crate::upstream::{Request, Response};
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use obleth_core::mcp::message::LISTEN;
use obleth_core::mcp::{Era, Kind, Message};
use obleth_core::registry::{McpServer, rights};
use std::sync::Arc;

/// Runs one request on a server's own endpoint.
pub(super) async fn run(
    worker: &Data<Worker>,
    mut record: Box<Record>,
    request: &HttpRequest,
    payload: Payload,
    name: &str,
) -> HttpResponse {
    let is_post = *request.method() == Method::POST;
    let server = match reach(worker, &mut record, name, is_post) {
        Ok(server) => server,
        Err(refusal) => return refusal.answer(record).await,
    };
    let sent = if is_post {
        post(worker, &mut record, request, payload, &server).await
    } else {
        watch(worker, &mut record, request, &server).await
    };
    match sent {
        Ok((came, about)) => answer(record, came, about).await,
        Err(refusal) => refusal.answer(record).await,
    }
}

/// The server, if it is there for this caller. Whoever sends a message is told so in the answer to it.
fn reach(worker: &Worker, record: &mut Record, name: &str, is_post: bool) -> Result<Arc<McpServer>, Refusal> {
    let server = find(worker, name)?;
    if let Some(call) = &mut record.call {
        call.server = Some(Arc::clone(&server.name));
    }
    if is_post || rights(&record.caller.tenant, &record.caller.key).may_reach(&server.name) {
        Ok(server)
    } else {
        Err(Fault::new(Code::ToolNotAllowed, "this key may use no tool of this MCP server").into())
    }
}

type Came = ((Response, Source), For);

/// A message.
async fn post(
    worker: &Data<Worker>,
    record: &mut Record,
    request: &HttpRequest,
    payload: Payload,
    server: &Arc<McpServer>,
) -> Result<Came, Refusal> {
    let (body, held) = asked::body(worker, record, request, payload).await?;
    let (message, era) = message(request, &body)?;
    let sent = carry(worker, record, request, server, (&message, era, &body)).await;
    drop(held);
    sent.map_err(|refusal| refusal.to(message.id))
}

async fn carry(
    worker: &Data<Worker>,
    record: &mut Record,
    request: &HttpRequest,
    server: &Arc<McpServer>,
    (message, era, body): (&Message<'_>, Era, &Bytes),
) -> Result<Came, Refusal> {
    if let (Some(tool), Some(call)) = (message.tool(), &mut record.call) {
        call.tool = Some(tool_for_ledger(tool));
    }
    if !message.is_allowed(&rights(&record.caller.tenant, &record.caller.key), &server.name) {
        let what = match message.tool() {
            Some(_) => "this key may not call this tool",
            None => "this key may use no tool of this MCP server",
        };
        return Err(Fault::new(Code::ToolNotAllowed, what).into());
    }
    let session = session(worker, record, server, named_session(request, era)?)?;
    asked::count(worker, record, message.kind).await?;
    let about = For {
        server: Arc::clone(server),
        id: message.id.map(ToOwned::to_owned),
        is_get: false,
        is_request: message.kind == Kind::Request,
        lists: message.tool().is_none(),
        listens: message.method == LISTEN,
        turns: false,
        session: Session::Clients(session),
        running: None,
    };
    let counts = message.kind == Kind::Request;
    let runs_on = era == Era::Session;
    send(worker, record, request, about, (vec![body.clone()], counts, runs_on)).await
}

/// The session that is named, if it is one of this key with this server.
fn session(
    worker: &Worker,
    record: &Record,
    server: &McpServer,
    named: Option<&str>,
) -> Result<Option<(String, String)>, Refusal> {
    let open = |sealed: &str| worker.gateway.handles.mcp.open(server, record.caller.key.id, sealed);
    let Some(sealed) = named else { return Ok(None) };
    let own = open(sealed).ok_or_else(no_session)?;
    Ok(Some((sealed.to_owned(), own)))
}

/// `GET`: the stream of a session; `DELETE`: its end.
async fn watch(
    worker: &Data<Worker>,
    record: &mut Record,
    request: &HttpRequest,
    server: &Arc<McpServer>,
) -> Result<Came, Refusal> {
    record.enter(Stage::Resolve);
    let named = named_session(request, Era::Session)?;
    let is_get = *request.method() == Method::GET;
    let about = For {
        server: Arc::clone(server),
        id: None,
        is_get: true,
        is_request: false,
        // A stream that is resumed may repeat the answer to any request.
        lists: is_get,
        listens: is_get,
        turns: false,
        session: Session::Clients(session(worker, record, server, named)?),
        running: None,
    };
    send(worker, record, request, about, (Vec::new(), false, !is_get)).await
}

/// Sends what the client sent. `counts`: against the server's own limit.
async fn send(
    worker: &Data<Worker>,
    record: &mut Record,
    request: &HttpRequest,
    about: For,
    (body, counts, runs_on): (Vec<Bytes>, bool, bool),
) -> Result<Came, Refusal> {
    let Session::Clients(session) = &about.session else {
        return Err(no_session());
    };
    let own = session.as_ref().map(|(_, own)| own.as_str());
    let outgoing = Request {
        method: request.method().clone(),
        uri: uri(&about.server)?,
        headers: outgoing(request.headers(), &record.arrival, &about.server, own),
        body,
    };
    let trial = attempt(&worker.gateway.handles.mcp, &about.server, counts)?;
    admit::open(worker, record)?;
    record.enter(Stage::Forward);
    record.timing.sent = Some(record.now());
    let manner = Manner { runs_on, timeout: timeout(worker, &about.server) };
    let came = exchange(worker, trial, None, outgoing, manner, None).await?;
    Ok((came, about))
}
