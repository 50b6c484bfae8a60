//! `/mcp-servers`.

use super::{listed, paging, shown, write, write_body};
use crate::app::Gateway;
use crate::http::budgets::rfc3339;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::{McpServerView, Page, Write};
use obleth_actors::clock::unix_micros;
use obleth_core::breaker::State;
use obleth_core::moment::Moment;
use serde::Serialize;
use std::time::Duration;

/// A server with its health in this process.
#[derive(Serialize)]
struct WithHealth {
    #[serde(flatten)]
    server: McpServerView,
    health: HealthView,
}

#[derive(Serialize)]
struct HealthView {
    state: &'static str,
    /// Null while nothing was asked of it.
    since: Option<String>,
    /// In a row.
    failures: u32,
    /// When the next probe is due; null unless it is open.
    retry_at: Option<String>,
}

fn with_health(gateway: &Gateway, server: McpServerView) -> WithHealth {
    let registry = gateway.registry.load();
    let view = registry.mcp_server(server.name()).and_then(|server| gateway.handles.mcp.view(server));
    let now = gateway.clock.now();
    let unix = |at: Moment| {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        rfc3339(unix_micros().saturating_sub(micros(now.since(at))).saturating_add(micros(at.since(now))))
    };
    let health = HealthView {
        state: view.map_or(State::Closed, |view| view.state).name(),
        since: view.map(|view| unix(view.since)),
        failures: view.map_or(0, |view| view.failures),
        retry_at: view.and_then(|view| view.retry_at).map(unix),
    };
    WithHealth { server, health }
}

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let admin = &gateway.handles.admin;
    let read = async |window| {
        let Page { data, next_cursor } = admin.mcp_servers(window).await?;
        let data = data.into_iter().map(|server| with_health(&gateway, server)).collect();
        Ok(Page { data, next_cursor })
    };
    listed(&request, paging(&request), read).await
}

pub async fn one(gateway: Data<Gateway>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    let server = gateway.handles.admin.mcp_server(&name).await;
    shown(&request, server.map(|server| with_health(&gateway, server)))
}

pub async fn create(gateway: Data<Gateway>, request: HttpRequest, payload: Payload) -> HttpResponse {
    write_body(&gateway, &request, payload, Write::CreateMcpServer, StatusCode::CREATED).await
}

pub async fn patch(
    gateway: Data<Gateway>,
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::PatchMcpServer(name.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::OK).await
}

pub async fn delete(gateway: Data<Gateway>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    write(&gateway, &request, Write::DeleteMcpServer(name.into_inner()), StatusCode::NO_CONTENT).await
}
