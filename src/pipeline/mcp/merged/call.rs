//! A call on the merged endpoint, on its way to the tool's server, whichever era client and server speak.

use super::super::answer::{For, Session, answer};
use super::super::asked::tool_for_ledger;
use super::super::headers::{MCP_METHOD, MCP_NAME, MCP_PROTOCOL_VERSION, outgoing};
use super::super::lent::Lent;
use super::super::own;
use super::super::refusal::Refusal;
use super::super::source::{Manner, Source, attempt, exchange, timeout, uri};
use super::super::{find, tools};
use super::{Asked, empty, unable};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::pipeline::admit;
use crate::pipeline::record::Record;
use crate::pipeline::timing::Stage;
use crate::upstream::{Request, Response};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use obleth_actors::mcp::{Call as Running, Trial};
use obleth_core::mcp::headers::encoded;
use obleth_core::mcp::message::TOOLS_CALL;
use obleth_core::mcp::names::split;
use obleth_core::mcp::{Catalogue, Era, STATELESS};
use obleth_core::registry::{McpServer, rights};
use serde_json::value::RawValue;
use std::sync::Arc;
use tokio::time::Instant;

/// A call, taken apart.
struct To<'a> {
    server: Arc<McpServer>,
    /// As its server names it.
    tool: &'a str,
    running: Option<Running>,
}

/// Runs a call.
pub(super) async fn run(
    worker: &Data<Worker>,
    mut record: Box<Record>,
    request: &HttpRequest,
    asked: &Asked<'_>,
) -> HttpResponse {
    let name = asked.message.tool().unwrap_or_default();
    let Some((server, tool)) = split(name) else {
        return unable(record, asked, -32602, "there is no such tool").await;
    };
    if !rights(&record.caller.tenant, &record.caller.key).may_call(server, tool) {
        let fault = Fault::new(Code::ToolNotAllowed, "this key may not call this tool");
        return Refusal::from(fault).to(asked.message.id).answer(record).await;
    }
    let Ok(server) = find(worker, server) else {
        return unable(record, asked, -32602, "there is no such tool").await;
    };
    if let Some(call) = &mut record.call {
        call.server = Some(Arc::clone(&server.name));
        call.tool = Some(tool_for_ledger(tool));
    }
    let id = asked.message.id.map(RawValue::get).unwrap_or_default();
    let running = asked.session.as_ref();
    let running = running.map(|session| worker.gateway.handles.mcp.running().begin(session, id));
    match carry(worker, &mut record, request, asked, To { server, tool, running }).await {
        Ok((came, about)) => answer(record, came, about).await,
        // Nobody waits for the answer to a call that was taken back.
        Err(fault) if fault.code == Code::ClientLeft => {
            record.refused(&fault).await;
            empty(record, StatusCode::ACCEPTED).await
        }
        Err(fault) => Refusal::from(fault).to(asked.message.id).answer(record).await,
    }
}

type Came = (Response, Source);

async fn carry(
    worker: &Data<Worker>,
    record: &mut Record,
    request: &HttpRequest,
    asked: &Asked<'_>,
    to: To<'_>,
) -> Result<(Came, For), Fault> {
    let mcp = &worker.gateway.handles.mcp;
    let known = tools::at_hand(worker, &to.server).await;
    let trial = attempt(mcp, &to.server, true)?;
    let known = known
        .ok_or_else(|| Fault::new(Code::UpstreamUnreachable, "the MCP server did not say what it offers"))?;
    admit::open(worker, record)?;
    record.enter(Stage::Forward);
    record.timing.sent = Some(record.now());
    let came = match known.era {
        Era::Stateless => stateless(worker, record, request, asked, &to, (trial, &known)).await?,
        Era::Session => in_session(worker, record, request, asked, &to, (trial, &known)).await?,
    };
    let about = For {
        server: to.server,
        id: asked.message.id.map(ToOwned::to_owned),
        is_get: false,
        is_request: true,
        lists: false,
        listens: false,
        turns: asked.era == Era::Stateless && known.era == Era::Session,
        session: Session::Hidden,
        running: to.running,
    };
    Ok((came, about))
}

fn manner(worker: &Worker, asked: &Asked<'_>, server: &McpServer) -> Manner {
    Manner { runs_on: asked.era == Era::Session, timeout: timeout(worker, server) }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// To a server without sessions: name in body and header together.
async fn stateless(
    worker: &Data<Worker>,
    record: &Record,
    request: &HttpRequest,
    asked: &Asked<'_>,
    to: &To<'_>,
    (trial, known): (Trial, &Arc<Catalogue>),
) -> Result<Came, Fault> {
    let body = match asked.era {
        Era::Stateless => asked.message.renamed(to.tool),
        Era::Session => asked.message.stateless(to.tool, &own::info().to_string()),
    };
    let mut headers = outgoing(request.headers(), &record.arrival, &to.server, None);
    set(&mut headers, MCP_PROTOCOL_VERSION, STATELESS);
    set(&mut headers, MCP_METHOD, TOOLS_CALL);
    set(&mut headers, MCP_NAME, &encoded(to.tool));
    if let (Era::Session, Some(arguments)) = (asked.era, asked.message.param("arguments")) {
        for (name, value) in known.mirrored(to.tool, arguments) {
            if let Ok(name) = HeaderName::try_from(format!("mcp-param-{name}")) {
                set(&mut headers, name, &value);
            }
        }
    }
    let outgoing =
        Request { method: Method::POST, uri: uri(&to.server)?, headers, body: vec![Bytes::from(body)] };
    exchange(worker, trial, None, outgoing, manner(worker, asked, &to.server), to.running.as_ref()).await
}

/// To a server with sessions: in one of the gateway's own. One that waited may be gone by now.
async fn in_session(
    worker: &Data<Worker>,
    record: &Record,
    request: &HttpRequest,
    asked: &Asked<'_>,
    to: &To<'_>,
    (mut trial, known): (Trial, &Arc<Catalogue>),
) -> Result<Came, Fault> {
    let body = Bytes::from(asked.message.renamed(to.tool));
    let mcp = &worker.gateway.handles.mcp;
    let mut waiting = mcp.lend(&to.server, record.caller.key.id);
    loop {
        let waited = waiting.is_some();
        let ready = match waiting.take() {
            Some(ready) => ready,
            None => begin(worker, &to.server).await.inspect_err(|_| trial.failed())?,
        };
        let mut headers = outgoing(request.headers(), &record.arrival, &to.server, ready.id.as_deref());
        headers.remove(MCP_METHOD);
        headers.remove(MCP_NAME);
        let version = if ready.version.is_empty() { &known.version } else { &ready.version };
        set(&mut headers, MCP_PROTOCOL_VERSION, version);
        let mut lent = Lent::new(worker, &to.server, record.caller.key.id, ready);
        lent.call(asked.message.id.map(RawValue::get).unwrap_or_default());
        let outgoing =
            Request { method: Method::POST, uri: uri(&to.server)?, headers, body: vec![body.clone()] };
        let manner = manner(worker, asked, &to.server);
        let sent = std::mem::take(&mut trial);
        let (response, mut source) =
            exchange(worker, sent, Some(lent), outgoing, manner, to.running.as_ref()).await?;
        let gone = matches!(response.status().as_u16(), 400 | 404) && waited;
        if !gone {
            return Ok((response, source));
        }
        source.forget_session();
        trial = attempt(mcp, &to.server, false)?;
    }
}

/// Opens a session, in the time that any answer may take.
async fn begin(worker: &Worker, server: &McpServer) -> Result<obleth_core::mcp::servers::Ready, Fault> {
    let until = Instant::now() + timeout(worker, server);
    match worker.gateway.lifecycle.watch(Some(until), own::begin(worker, server)).await {
        Ok(begun) => begun,
        Err(Interrupted::TimedOut) => {
            Err(Fault::new(Code::UpstreamTimeout, "the MCP server did not open a session in time"))
        }
        Err(Interrupted::Cut) => Err(Fault::new(Code::Draining, "the gateway is shutting down")),
    }
}
