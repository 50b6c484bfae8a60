//! `/mcp-servers`.

use super::health::{HealthView, shown as health};
use super::{listed, paging, shown, write, write_body};
use crate::app::Gateway;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::{McpServerView, Page, Write};
use schemars::JsonSchema;
use serde::Serialize;

/// A server with its health in this process.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "McpServer")]
pub(super) struct WithHealth {
    #[serde(flatten)]
    server: McpServerView,
    health: HealthView,
}

pub(super) fn with_health(gateway: &Gateway, server: McpServerView) -> WithHealth {
    let registry = gateway.registry.load();
    let view = registry.mcp_server(server.name()).and_then(|server| gateway.handles.mcp.view(server));
    WithHealth { health: health(view, gateway.clock.now()), server }
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
