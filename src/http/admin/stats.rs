//! `GET /stats`: live percentiles of this process.

use super::ok;
use crate::app::Gateway;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

/// Figures of the last 1, 5 and 15 minutes.
pub async fn stats(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    ok(&request, &gateway.metrics.percentiles(gateway.clock.now()))
}
