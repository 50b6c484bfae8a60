//! `/mcp`: the tools of all servers that the caller may use, as one server.
//!
//! Is: a server of both eras for the few methods that concern several servers, and a way to one of them for the
//! rest, which is calls of tools. Is not: for prompts, resources, sampling or elicitation in sessions: those are
//! between one client and one server, on the server's own endpoint. It has no state of its own: its session ids
//! say whose they are.

use super::asked::{self, message, named_session, no_session};
use super::own::info;
use super::refusal::{HEADER_MISMATCH, METHOD_NOT_FOUND, Refusal};
use super::tools;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::pipeline::headers::decorate_plain;
use crate::pipeline::record::Record;
use crate::pipeline::settle::Ending;
use actix_web::dev::Payload;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::future::join_all;
use obleth_core::ledger::Usage;
use obleth_core::mcp::catalogue::{USUAL, listed};
use obleth_core::mcp::headers::Mirror;
use obleth_core::mcp::message::{CANCELLED, INITIALIZE, TOOLS_CALL, TOOLS_LIST};
use obleth_core::mcp::{Catalogue, Era, Kind, Message, STATELESS, WITH_SESSIONS};
use obleth_core::registry::{McpServer, rights};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;

mod call;

/// All revisions, the newest first.
const VERSIONS: [&str; 4] = {
    let [a, b, c] = WITH_SESSIONS;
    [STATELESS, a, b, c]
};

/// A list that lacks a server's tools is asked for again soon.
const SOON_MS: u64 = 5_000;

/// What is said to a request.
pub(super) struct Asked<'a> {
    pub message: &'a Message<'a>,
    pub era: Era,
    /// Which session of the client, if it has one.
    pub session: Option<String>,
}

/// Runs one request on the merged endpoint.
pub(super) async fn run(
    worker: &Data<Worker>,
    mut record: Box<Record>,
    request: &HttpRequest,
    payload: Payload,
) -> HttpResponse {
    if *request.method() == Method::GET {
        let fault = Fault::new(Code::MethodNotAllowed, "this endpoint has no stream of its own");
        let mut answer = Refusal::from(fault).answer(record).await;
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
        return answer;
    }
    if *request.method() == Method::DELETE {
        return match session(worker, &record, request, Era::Session) {
            Ok(Some(_)) => empty(record, StatusCode::NO_CONTENT).await,
            Ok(None) => {
                let fault = Fault::new(Code::InvalidRequest, "Mcp-Session-Id must name the session");
                Refusal::from(fault).answer(record).await
            }
            Err(refusal) => refusal.answer(record).await,
        };
    }
    let (body, held) = match asked::body(worker, &mut record, request, payload).await {
        Ok(read) => read,
        Err(refusal) => return refusal.answer(record).await,
    };
    let (message, era) = match message(request, &body) {
        Ok(read) => read,
        Err(refusal) => return refusal.answer(record).await,
    };
    let checked = check(request, &message, era).and_then(|()| session(worker, &record, request, era));
    let answer = match checked {
        Ok(session) => {
            let asked = Asked { message: &message, era, session };
            Box::pin(say(worker, record, request, &asked)).await
        }
        Err(refusal) => refusal.to(message.id).answer(record).await,
    };
    drop(held);
    answer
}

/// What each request of its era must have.
fn check(request: &HttpRequest, message: &Message<'_>, era: Era) -> Result<(), Refusal> {
    let said = super::headers::mirrored(request.headers());
    let version = said.version.text();
    if let Some(unknown) = version.filter(|version| !VERSIONS.contains(version)) {
        return Err(Refusal::version(&VERSIONS, unknown));
    }
    if era == Era::Session || message.kind != Kind::Request {
        return Ok(());
    }
    if !message.has_envelope() {
        let text = "params._meta must have the protocol version and the client's capabilities";
        return Err(Refusal::protocol(-32602, text));
    }
    let nameless = message.name.is_some() && said.name == Mirror::Absent;
    if said.version == Mirror::Absent || said.method == Mirror::Absent || nameless {
        let text = "the headers MCP-Protocol-Version, Mcp-Method and, of a call, Mcp-Name must be there";
        return Err(Refusal::protocol(HEADER_MISMATCH, text));
    }
    let version = message.version.as_deref().unwrap_or_default();
    if version == STATELESS { Ok(()) } else { Err(Refusal::version(&VERSIONS, version)) }
}

/// Which session the request is in; a client may do without.
fn session(
    worker: &Worker,
    record: &Record,
    request: &HttpRequest,
    era: Era,
) -> Result<Option<String>, Refusal> {
    let Some(sealed) = named_session(request, era)? else { return Ok(None) };
    let mcp = &worker.gateway.handles.mcp;
    mcp.open_merged(record.caller.key.id, sealed).map(Some).ok_or_else(no_session)
}

async fn say(
    worker: &Data<Worker>,
    mut record: Box<Record>,
    request: &HttpRequest,
    asked: &Asked<'_>,
) -> HttpResponse {
    let message = asked.message;
    if message.kind != Kind::Request {
        if let (CANCELLED, Some(session)) = (&*message.method, &asked.session)
            && let Some(id) = message.param("requestId")
        {
            worker.gateway.handles.mcp.running().cancel(session, id.get());
        }
        return empty(record, StatusCode::ACCEPTED).await;
    }
    if let Err(fault) = asked::count(worker, &mut record, message.kind).await {
        return Refusal::from(fault).to(message.id).answer(record).await;
    }
    match (&*message.method, asked.era) {
        (INITIALIZE, _) => initialize(worker, record, message).await,
        ("ping", Era::Session) => reply(record, message.id, "{}").await,
        ("server/discover", Era::Stateless) => {
            let result = json!({
                "resultType": "complete", "supportedVersions": VERSIONS, "capabilities": {"tools": {}},
                "ttlMs": 3_600_000, "cacheScope": "public", "_meta": server_info(),
            });
            reply(record, message.id, &result.to_string()).await
        }
        (TOOLS_LIST, era) if message.param("cursor").is_none() => {
            let result = list(worker, &record, era).await;
            reply(record, message.id, &result).await
        }
        (TOOLS_LIST, _) => unable(record, asked, -32602, "this list has one page").await,
        (TOOLS_CALL, _) => call::run(worker, record, request, asked).await,
        _ => unable(record, asked, METHOD_NOT_FOUND, "this endpoint has tools and nothing else").await,
    }
}

fn server_info() -> serde_json::Value {
    json!({"io.modelcontextprotocol/serverInfo": info()})
}

async fn initialize(worker: &Worker, record: Box<Record>, message: &Message<'_>) -> HttpResponse {
    let wanted = message.param("protocolVersion").and_then(|value| serde_json::from_str(value.get()).ok());
    let wanted: String = wanted.unwrap_or_default();
    let [newest, ..] = WITH_SESSIONS;
    let version = WITH_SESSIONS.into_iter().find(|known| *known == wanted).unwrap_or(newest);
    let result = json!({
        "protocolVersion": version, "capabilities": {"tools": {"listChanged": false}}, "serverInfo": info(),
    });
    let sealed = worker.gateway.handles.mcp.seal_merged(record.caller.key.id);
    let mut answer = reply(record, message.id, &result.to_string()).await;
    if let Some(value) = sealed.and_then(|sealed| HeaderValue::try_from(sealed).ok()) {
        answer.headers_mut().insert(super::headers::MCP_SESSION_ID, value);
    }
    answer
}

/// The result of `tools/list`.
async fn list(worker: &Data<Worker>, record: &Record, era: Era) -> String {
    let registry = worker.gateway.registry.load_full();
    let rights = rights(&record.caller.tenant, &record.caller.key);
    let usable = |server: &&Arc<McpServer>| server.enabled && rights.may_reach(&server.name);
    let servers: Vec<&Arc<McpServer>> = registry.mcp_servers().filter(usable).collect();
    let found = join_all(servers.iter().map(|server| tools::catalogue(worker, server))).await;
    let complete = found.iter().all(Option::is_some);
    let pairs: Vec<(&str, Arc<Catalogue>)> =
        servers.iter().zip(found).filter_map(|(server, found)| Some((&*server.name, found?))).collect();
    let tools = listed(pairs.iter().map(|(name, catalogue)| (*name, &**catalogue)), &rights);
    if era == Era::Session {
        return format!(r#"{{"tools":{tools}}}"#);
    }
    let ttl = pairs.iter().map(|(_, catalogue)| catalogue.ttl).min().unwrap_or(USUAL);
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let ttl = if complete { ttl } else { ttl.min(SOON_MS) };
    let limited = rights.tenant.is_some() || rights.key.is_some();
    let public = !limited && pairs.iter().all(|(_, catalogue)| catalogue.public);
    let scope = if public { "public" } else { "private" };
    let meta = server_info();
    format!(
        r#"{{"resultType":"complete","tools":{tools},"ttlMs":{ttl},"cacheScope":"{scope}","_meta":{meta}}}"#
    )
}

/// Ends a request that the gateway answers itself.
async fn finish(record: &mut Record, status: StatusCode, code: Option<Code>, size: usize) {
    record.ready();
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let mut ending = Ending::answered(status.as_u16(), Usage::default(), size);
    if let Some(code) = code {
        ending = ending.because(status.as_u16(), code.name());
    }
    record.settled(&ending).await;
}

/// No more than a status.
async fn empty(mut record: Box<Record>, status: StatusCode) -> HttpResponse {
    finish(&mut record, status, None, 0).await;
    let mut answer = HttpResponse::new(status);
    decorate_plain(&record, answer.headers_mut());
    answer
}

async fn reply(record: Box<Record>, id: Option<&RawValue>, result: &str) -> HttpResponse {
    let id = id.map_or("null", RawValue::get);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    told(record, StatusCode::OK, None, body).await
}

/// An error of the protocol. In a session it has status 200: a client takes 404 for the end of its session.
async fn unable(record: Box<Record>, asked: &Asked<'_>, code: i64, message: &str) -> HttpResponse {
    let id = asked.message.id.map_or("null", RawValue::get);
    let error = json!({"code": code, "message": message});
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    let status = match (asked.era, code) {
        (Era::Session, _) => StatusCode::OK,
        (Era::Stateless, METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
        (Era::Stateless, _) => StatusCode::BAD_REQUEST,
    };
    told(record, status, Some(Code::InvalidRequest), body).await
}

async fn told(mut record: Box<Record>, status: StatusCode, code: Option<Code>, body: String) -> HttpResponse {
    finish(&mut record, status, code, body.len()).await;
    let mut answer = HttpResponse::new(status);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    decorate_plain(&record, headers);
    answer.set_body(actix_web::body::BoxBody::new(body))
}
