//! The way of a request to MCP servers: `/mcp/{server}` and, all of them together, `/mcp`.
//!
//! Is: identity, rights, limits and one row in the ledger around messages that pass as they came. Is not: an MCP
//! server, but for the few methods of the merged endpoint that no server can answer.
//! [`one`] is the transparent endpoint; [`merged`] speaks for several servers.

use super::arrival::Arrival;
use super::authenticate::authenticate;
use super::record::Record;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::wire::Route;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use obleth_core::registry::McpServer;
use std::sync::Arc;

mod answer;
mod asked;
mod headers;
mod lent;
mod merged;
mod one;
mod own;
mod refusal;
mod source;
mod stream;
mod tools;

pub(crate) use lent::janitor;
use refusal::Refusal;

/// What both endpoints answer.
const METHODS: &str = "GET, POST, DELETE";

/// Runs one request; `name`: of the server, or all of them. Every ending after authentication leaves one row.
pub(crate) async fn run(
    worker: Data<Worker>,
    request: HttpRequest,
    payload: Payload,
    name: Option<&str>,
) -> HttpResponse {
    let arrival = Arrival::of(&worker, &request, Route::Mcp);
    if ![Method::GET, Method::POST, Method::DELETE].contains(request.method()) {
        let fault = Fault::new(Code::MethodNotAllowed, format!("this route answers {METHODS}"));
        let mut answer = arrival.refuse(&worker, &fault);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
        return answer;
    }
    let caller = match authenticate(&worker.gateway, request.headers(), arrival.unix_micros) {
        Ok(caller) => caller,
        Err(fault) => {
            let mut answer = arrival.refuse(&worker, &fault);
            if fault.code == Code::InvalidApiKey {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            return answer;
        }
    };
    tracing::Span::current().record("tenant_id", tracing::field::display(caller.tenant.id));
    let mut record = Record::open(Data::clone(&worker), arrival, caller);
    record.call = Some(Box::default());
    if let Err(refusal) = check_origin(&worker, &request) {
        return refusal.answer(record).await;
    }
    match name {
        Some(name) => Box::pin(one::run(&worker, record, &request, payload, name)).await,
        None => Box::pin(merged::run(&worker, record, &request, payload)).await,
    }
}

/// A web page may call only if the operator knows it: else any page that a user opens could.
fn check_origin(worker: &Worker, request: &HttpRequest) -> Result<(), Refusal> {
    let allowed = &worker.gateway.settings.origins;
    let fit = |value: &HeaderValue| value.to_str().is_ok_and(|origin| allowed.allow(origin));
    if request.headers().get_all(ORIGIN).all(fit) {
        return Ok(());
    }
    Err(Fault::new(Code::OriginNotAllowed, "pages of this origin may not call MCP servers").into())
}

/// The server of this name, if it is there for anybody.
fn find(worker: &Worker, name: &str) -> Result<Arc<McpServer>, Refusal> {
    let registry = worker.gateway.registry.load();
    let server = registry.mcp_server(name).filter(|server| server.enabled);
    server
        .map(Arc::clone)
        .ok_or_else(|| Fault::new(Code::McpServerNotFound, "there is no such MCP server").into())
}
