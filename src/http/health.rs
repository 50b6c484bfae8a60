//! `GET /health` and `GET /ready`: without authentication, without the database.

use crate::app::Gateway;
use crate::error::X_REQUEST_ID;
use crate::pipeline::request_id_of;
use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

fn id(request: &HttpRequest) -> (HeaderName, String) {
    (X_REQUEST_ID, request_id_of(request.headers()).to_string())
}

/// The process is alive.
pub fn health(request: &HttpRequest) -> HttpResponse {
    HttpResponse::Ok().insert_header(id(request)).json(Status { status: "ok" })
}

/// New requests are welcome.
pub fn ready(request: &HttpRequest, gateway: &Gateway) -> HttpResponse {
    if gateway.lifecycle.is_ready() {
        HttpResponse::Ok().insert_header(id(request)).json(Status { status: "ready" })
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header(id(request))
            .insert_header(("retry-after", "1"))
            .json(Status { status: "not ready" })
    }
}
