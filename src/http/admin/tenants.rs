//! `/tenants`.

use super::{listed, paging, shown, write, write_body};
use crate::app::Worker;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::Write;

pub async fn list(worker: Data<Worker>, request: HttpRequest) -> HttpResponse {
    let admin = &worker.gateway.handles.admin;
    listed(&request, paging(&request), |window| admin.tenants(window)).await
}

pub async fn one(worker: Data<Worker>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    shown(&request, worker.gateway.handles.admin.tenant(&id).await)
}

pub async fn create(worker: Data<Worker>, request: HttpRequest, payload: Payload) -> HttpResponse {
    write_body(&worker, &request, payload, Write::CreateTenant, StatusCode::CREATED).await
}

pub async fn patch(
    worker: Data<Worker>,
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::PatchTenant(id.into_inner(), body);
    write_body(&worker, &request, payload, make, StatusCode::OK).await
}

pub async fn delete(worker: Data<Worker>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    write(&worker, &request, Write::DeleteTenant(id.into_inner()), StatusCode::NO_CONTENT).await
}
