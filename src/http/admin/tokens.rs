//! `/admin-tokens`.

use super::{listed, paging, write, write_body};
use crate::app::Gateway;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::Write;

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let admin = &gateway.handles.admin;
    listed(&request, paging(&request), |window| admin.tokens(window)).await
}

pub async fn create(gateway: Data<Gateway>, request: HttpRequest, payload: Payload) -> HttpResponse {
    write_body(&gateway, &request, payload, Write::CreateAdminToken, StatusCode::CREATED).await
}

pub async fn delete(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    write(&gateway, &request, Write::DeleteAdminToken(id.into_inner()), StatusCode::NO_CONTENT).await
}
