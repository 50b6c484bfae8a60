//! The data plane's one entry: by raw path and method to the pipeline or a small handler.

use super::{health, limits, models, usage};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Phase;
use crate::pipeline::{self, request_id_of};
use crate::routes::DataRoute;
use actix_http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

/// Answers a request on the data plane.
pub async fn data(worker: Data<Worker>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let path = request.uri().path().to_owned();
    let route = DataRoute::of(&path);
    // HEAD is GET without the body (RFC 9110 §9.3.2).
    let method = if *request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    if let Some(allowed) = route.method().filter(|allowed| method != *allowed) {
        return method_not_allowed(&request, allowed);
    }
    let phase = worker.gateway.lifecycle.phase();
    let mut answer = match route {
        DataRoute::Health => health::health(&request),
        DataRoute::Ready => health::ready(&request, &worker.gateway),
        DataRoute::Unknown => {
            Fault::new(Code::NotFound, "there is no such route").respond(&request_id_of(request.headers()))
        }
        _ if phase >= Phase::Draining => Fault::new(Code::Draining, "the gateway is shutting down")
            .respond(&request_id_of(request.headers())),
        DataRoute::Model(route) => {
            pipeline::run(Data::clone(&worker), request, payload.into_inner(), route).await
        }
        DataRoute::Mcp(server) => {
            pipeline::mcp(Data::clone(&worker), request, payload.into_inner(), server).await
        }
        DataRoute::Models => models::list(&worker, &request),
        DataRoute::OneModel(name) => models::one(&worker, &request, name),
        DataRoute::Limits => limits::limits(&worker, &request).await,
        DataRoute::Usage => usage::usage(&worker, &request).await,
    };
    if worker.gateway.lifecycle.phase() >= Phase::Closing {
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    answer
}

/// A 405 that names the methods of the route.
pub fn method_not_allowed(request: &HttpRequest, allowed: &str) -> HttpResponse {
    let fault = Fault::new(Code::MethodNotAllowed, format!("this route answers {allowed}"));
    let mut answer = fault.respond(&request_id_of(request.headers()));
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}
