//! The per-request span of `tracing-actix-web`: off by default, see [`crate::telemetry`].

use crate::error::X_REQUEST_ID;
use crate::telemetry::REQUEST;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;
use tracing::field::Empty;
use tracing_actix_web::RootSpanBuilder;

/// Names the request by our own id, its method and path; never its query, headers or body.
#[derive(Debug)]
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        tracing::info_span!(
            target: REQUEST,
            "request",
            method = %request.method(),
            path = request.path(),
            request_id = Empty,
            tenant_id = Empty,
            model = Empty,
            status = Empty,
        )
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, actix_web::Error>) {
        let Ok(answer) = outcome else {
            return;
        };
        span.record("status", answer.status().as_u16());
        if let Some(id) = answer.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()) {
            span.record("request_id", id);
        }
    }
}
