//! `GET /stats`: live percentiles of this process.

use super::{ok, query, refuse};
use crate::app::Gateway;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Figures of the last 1, 5 and 15 minutes.
pub async fn stats(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match query::<Nothing>(&request) {
        Ok(Nothing {}) => ok(&request, &gateway.metrics.percentiles(gateway.clock.now())),
        Err(fault) => refuse(&request, &fault),
    }
}
