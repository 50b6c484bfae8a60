//! `GET /health` and `GET /ready`: without authentication, without the database.

use crate::app::Gateway;
use crate::error::X_REQUEST_ID;
use crate::pipeline::request_id_of;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// The process is alive.
pub fn health(request: &HttpRequest) -> HttpResponse {
    answer(request, StatusCode::OK).json(Status { status: "ok" })
}

/// New requests are welcome.
pub fn ready(request: &HttpRequest, gateway: &Gateway) -> HttpResponse {
    let stranded = gateway.handles.fairshare.fleet().is_some_and(|fleet| !fleet.ready);
    if gateway.lifecycle.is_ready() && !stranded {
        answer(request, StatusCode::OK).json(Status { status: "ready" })
    } else {
        answer(request, StatusCode::SERVICE_UNAVAILABLE)
            .insert_header((RETRY_AFTER, "1"))
            .json(Status { status: "not ready" })
    }
}

fn answer(request: &HttpRequest, status: StatusCode) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    answer.insert_header((X_REQUEST_ID, &*request_id_of(request.headers())));
    answer
}
