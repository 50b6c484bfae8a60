//! `/models`.

use super::{listed, paging, shown, write, write_body};
use crate::app::Gateway;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::Write;

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let admin = &gateway.handles.admin;
    listed(&request, paging(&request), |window| admin.models(window)).await
}

pub async fn one(gateway: Data<Gateway>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    shown(&request, gateway.handles.admin.model(&name).await)
}

pub async fn create(gateway: Data<Gateway>, request: HttpRequest, payload: Payload) -> HttpResponse {
    write_body(&gateway, &request, payload, Write::CreateModel, StatusCode::CREATED).await
}

pub async fn patch(
    gateway: Data<Gateway>,
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::PatchModel(name.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::OK).await
}

pub async fn delete(gateway: Data<Gateway>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    write(&gateway, &request, Write::DeleteModel(name.into_inner()), StatusCode::NO_CONTENT).await
}

pub async fn put(
    gateway: Data<Gateway>,
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::PutModel(name.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::OK).await
}
