//! Calls that the gateway makes itself: what a server offers, and sessions for the calls of the merged endpoint.
//!
//! Is: a client of a few methods, on the worker's own HTTP client, so that the rules of where connections may go
//! hold here too. Is not: on behalf of a tenant: these calls have no row.

use super::answer::is_events;
use super::headers::{MCP_METHOD, MCP_SESSION_ID, own};
use super::source::{attempt, timeout, uri};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::upstream::{Request, Response};
use actix_http::HttpMessage;
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use bytes::Bytes;
use futures_util::StreamExt;
use obleth_core::mcp::catalogue::Page;
use obleth_core::mcp::events::{EVENT_MAX, Events, data};
use obleth_core::mcp::servers::Ready;
use obleth_core::mcp::{Catalogue, Era, Object, STATELESS, WITH_SESSIONS};
use obleth_core::registry::McpServer;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Pages of one list.
const PAGES: usize = 64;
/// Longest time for what a server offers.
const DISCOVERY: Duration = Duration::from_secs(30);
/// Longest time to say good-bye to a server.
const FAREWELL: Duration = Duration::from_secs(10);

/// How the gateway names itself.
pub(super) fn info() -> Value {
    json!({"name": "obleth", "version": env!("CARGO_PKG_VERSION")})
}

/// The answer to one of the gateway's requests.
struct Reply {
    status: u16,
    session: Option<String>,
    /// The JSON-RPC response, if there is one.
    message: Option<String>,
}

impl Reply {
    /// A member of the result.
    fn result(&self) -> Option<&str> {
        let message = Object::read(self.message.as_deref()?)?;
        message.get("result").map(serde_json::value::RawValue::get)
    }
}

/// Reads what a server offers.
pub(super) async fn discover(worker: &Worker, server: &McpServer) -> Result<Catalogue, Fault> {
    let mut trial = attempt(&worker.gateway.handles.mcp, server, false)?;
    let limit = timeout(worker, server).min(DISCOVERY);
    match worker.gateway.lifecycle.watch(Some(Instant::now() + limit), ask(worker, server)).await {
        Ok(Ok(catalogue)) => {
            trial.answered();
            Ok(catalogue)
        }
        Ok(Err(fault)) => {
            trial.failed();
            Err(fault)
        }
        Err(_) => {
            trial.failed();
            Err(Fault::new(Code::UpstreamTimeout, "the MCP server did not say in time what it offers"))
        }
    }
}

async fn ask(worker: &Worker, server: &McpServer) -> Result<Catalogue, Fault> {
    if is_stateless(worker, server).await? {
        let mut catalogue = Catalogue::new(Era::Stateless, STATELESS);
        let none = Ready { id: None, version: STATELESS.into() };
        list(worker, server, &none, &mut catalogue).await?;
        return Ok(catalogue);
    }
    let session = begin(worker, server).await?;
    let mut catalogue = Catalogue::new(Era::Session, &session.version);
    let listed = list(worker, server, &session, &mut catalogue).await;
    end(worker, server, &session).await;
    listed.map(|()| catalogue)
}

/// Whether the server speaks the revision without sessions.
async fn is_stateless(worker: &Worker, server: &McpServer) -> Result<bool, Fault> {
    let none = Ready { id: None, version: STATELESS.into() };
    let reply = call(worker, server, &none, "server/discover", json!({})).await?;
    let versions = reply.result().and_then(|result| {
        let list = Object::read(result)?.get("supportedVersions")?.get();
        serde_json::from_str::<Vec<String>>(list).ok()
    });
    Ok(versions.is_some_and(|versions| versions.iter().any(|version| version == STATELESS)))
}

/// Opens a session.
pub(super) async fn begin(worker: &Worker, server: &McpServer) -> Result<Ready, Fault> {
    let [newest, ..] = WITH_SESSIONS;
    let offer = Ready { id: None, version: newest.into() };
    let params = json!({"protocolVersion": newest, "capabilities": {}, "clientInfo": info()});
    let reply = call(worker, server, &offer, "initialize", params).await?;
    let result = reply.result().and_then(Object::read).ok_or_else(|| refused(&reply))?;
    let version = result.text("protocolVersion").unwrap_or_default();
    let ready = Ready { id: reply.session.as_deref().map(Arc::from), version: version.as_ref().into() };
    notify(worker, server, &ready, "notifications/initialized", None).await?;
    Ok(ready)
}

fn refused(reply: &Reply) -> Fault {
    if matches!(reply.status, 401 | 403) {
        return Fault::new(Code::UpstreamAuth, "the MCP server refused the operator's credentials");
    }
    Fault::new(Code::UpstreamError, "the MCP server did not answer as the protocol wants it")
}

/// Reads all pages of a server's tools.
async fn list(
    worker: &Worker,
    server: &McpServer,
    session: &Ready,
    catalogue: &mut Catalogue,
) -> Result<(), Fault> {
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES {
        let params = cursor.as_ref().map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        let reply = call(worker, server, session, "tools/list", params).await?;
        let page = reply.result().and_then(|result| Page::read(result).ok());
        let page = page.ok_or_else(|| refused(&reply))?;
        let next = page.next.clone();
        if !catalogue.add(page) || next == cursor {
            break;
        }
        cursor = next;
    }
    Ok(())
}

/// Ends a session. A server may not want that, or not know it any more.
pub(super) async fn end(worker: &Worker, server: &McpServer, session: &Ready) {
    let (Some(id), Ok(uri)) = (session.id.as_deref(), uri(server)) else { return };
    let headers = own(server, Some(id), &session.version);
    let request = Request { method: Method::DELETE, uri, headers, body: Vec::new() };
    let until = Some(Instant::now() + FAREWELL);
    let ended = async { worker.upstream.send(request).await.map(|_| ()) };
    let _ = worker.gateway.lifecycle.watch(until, ended).await;
}

/// Says that a call is not wanted any more.
pub(super) async fn cancel(worker: &Worker, server: &McpServer, session: &Ready, id: &str) {
    let Ok(id) = serde_json::from_str::<Value>(id) else { return };
    let params = json!({"requestId": id, "reason": "the client has left"});
    let told = notify(worker, server, session, "notifications/cancelled", Some(params));
    let _ = worker.gateway.lifecycle.watch(Some(Instant::now() + FAREWELL), told).await;
}

async fn notify(
    worker: &Worker,
    server: &McpServer,
    session: &Ready,
    method: &str,
    params: Option<Value>,
) -> Result<(), Fault> {
    let mut message = json!({"jsonrpc": "2.0", "method": method});
    if let (Some(params), Some(message)) = (params, message.as_object_mut()) {
        message.insert("params".to_owned(), params);
    }
    post(worker, server, session, method, &message).await.map(|_| ())
}

async fn call(
    worker: &Worker,
    server: &McpServer,
    session: &Ready,
    method: &str,
    mut params: Value,
) -> Result<Reply, Fault> {
    if let (STATELESS, Some(params)) = (&*session.version, params.as_object_mut()) {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": info(),
        });
        params.insert("_meta".to_owned(), meta);
    }
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut response = post(worker, server, session, method, &message).await?;
    let session = response.headers().get(MCP_SESSION_ID).and_then(|value| value.to_str().ok());
    Ok(Reply {
        status: response.status().as_u16(),
        session: session.map(str::to_owned),
        message: read(&mut response).await,
    })
}

async fn post(
    worker: &Worker,
    server: &McpServer,
    session: &Ready,
    method: &str,
    message: &Value,
) -> Result<Response, Fault> {
    let mut headers = own(server, session.id.as_deref(), &session.version);
    if let Ok(value) = HeaderValue::from_str(method) {
        headers.insert(MCP_METHOD, value);
    }
    let body = vec![Bytes::from(message.to_string())];
    worker.upstream.send(Request { method: Method::POST, uri: uri(server)?, headers, body }).await
}

/// The JSON-RPC response in an answer: its body, or the first event that is one.
async fn read(response: &mut Response) -> Option<String> {
    let in_events = is_events(response.headers());
    let mut body = response.take_payload();
    let (mut whole, mut events, mut found) = (Vec::new(), Events::default(), None);
    while let Some(piece) = body.next().await {
        let piece = piece.ok()?;
        if in_events {
            let fed = events.feed(&piece, |event| {
                found = found.take().or_else(|| {
                    data(event).map(|data| data.into_owned()).filter(|message| is_response(message))
                });
            });
            fed.ok()?;
            if found.is_some() {
                return found;
            }
        } else {
            whole.extend_from_slice(&piece);
            if whole.len() > EVENT_MAX {
                return None;
            }
        }
    }
    String::from_utf8(whole).ok().filter(|message| is_response(message))
}

fn is_response(message: &str) -> bool {
    let answers = |object: Object<'_>| object.get("result").is_some() || object.get("error").is_some();
    Object::read(message).is_some_and(answers)
}
