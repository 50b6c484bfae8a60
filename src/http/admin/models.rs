//! `/models`.

use super::health::{page_with_health, with_health};
use super::{listed, paging, shown, write, write_body};
use crate::app::Gateway;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::Write;

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let read = async |window| {
        let page = gateway.handles.admin.models(window).await?;
        Ok(page_with_health(&gateway, page))
    };
    listed(&request, paging(&request), read).await
}

pub async fn one(gateway: Data<Gateway>, request: HttpRequest, name: Path<String>) -> HttpResponse {
    let model = gateway.handles.admin.model(&name).await;
    shown(&request, model.map(|model| with_health(&gateway, model)))
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
