//! `GET /health` and `GET /ready`: without authentication, without the database.

use crate::app::Gateway;
use actix_web::HttpResponse;
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

/// The process is alive.
pub fn health() -> HttpResponse {
    HttpResponse::Ok().json(Status { status: "ok" })
}

/// New requests are welcome.
pub fn ready(gateway: &Gateway) -> HttpResponse {
    if gateway.lifecycle.is_ready() {
        HttpResponse::Ok().json(Status { status: "ready" })
    } else {
        HttpResponse::ServiceUnavailable()
            .insert_header(("retry-after", "1"))
            .json(Status { status: "not ready" })
    }
}
