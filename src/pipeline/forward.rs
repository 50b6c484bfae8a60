//! One upstream call, to the head of its answer.

use super::admit::Pass;
use super::arrival::Arrival;
use super::headers::upstream_headers;
use super::record::Record;
use super::resolve::Target;
use super::timing::Stage;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::upstream::{Request, Response};
use actix_web::HttpRequest;
use actix_web::http::{Method, Uri};
use obleth_core::registry::Model;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The upstream's answer, its body not yet read.
#[derive(Debug)]
pub(super) struct Answer {
    pub response: Response,
    /// The client asked for the usage of its stream itself.
    pub asked_for_usage: bool,
}

/// Sends the request upstream and waits for the head of the answer.
pub(super) async fn forward(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    target: &Target,
    pass: Pass,
) -> Result<Answer, Fault> {
    record.enter(Stage::Forward);
    let gateway = &worker.gateway;
    let settings = &gateway.settings;
    let outgoing = Request {
        method: Method::POST,
        uri: uri(worker, record, &target.model, request)?,
        headers: {
            let Arrival { request_id, trace, .. } = &record.arrival;
            upstream_headers(settings, request.headers(), &target.model, request_id, trace.as_ref())
        },
        body: target.request.rewritten(&target.body, &target.model.upstream_model, record.max_output).pieces,
    };
    if let Pass::Seated(mut seat) = pass {
        seat.dispatched();
        record.seat = Some(seat);
    }
    let now = record.now();
    record.timing.sent.get_or_insert(now);
    let own = target.model.request_timeout_secs.map(|seconds| Duration::from_secs(seconds.into()));
    let until = Instant::now() + own.unwrap_or(settings.upstream.head_timeout);
    let response = match gateway.lifecycle.watch(Some(until), worker.upstream.send(outgoing)).await {
        Ok(response) => response?,
        Err(Interrupted::TimedOut) => {
            return Err(Fault::new(Code::UpstreamTimeout, "the upstream did not begin its answer in time"));
        }
        Err(Interrupted::Cut) => return Err(Fault::new(Code::Draining, "the gateway is shutting down")),
    };
    record.target_pod = pod_of(&response);
    Ok(Answer { response, asked_for_usage: target.request.asked_for_usage() })
}

/// `<base>/v1/…`, with the client's query.
fn uri(worker: &Worker, record: &Record, model: &Model, request: &HttpRequest) -> Result<Uri, Fault> {
    let base = model.api_base.as_deref().unwrap_or(&worker.gateway.settings.upstream.base);
    let path = record.arrival.route.path();
    let query = request.query_string();
    let mut text = String::with_capacity(base.len() + path.len() + query.len() + 1);
    text.push_str(base);
    text.push_str(&path);
    if !query.is_empty() {
        text.push('?');
        text.push_str(query);
    }
    Uri::try_from(text)
        .map_err(|_| Fault::new(Code::InvalidRequest, "the query is not part of a valid address"))
}

fn pod_of(response: &Response) -> Option<Arc<str>> {
    let pod = response.headers().get("target-pod")?.to_str().ok()?;
    (!pod.is_empty() && pod.len() <= 256).then(|| Arc::from(pod))
}

/// Whether the upstream was shown a key of the operator's.
fn has_operators_key(model: &Model) -> bool {
    let carries_key = |name: &str| {
        ["authorization", "x-api-key", "api-key"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    model.api_key.is_some() || model.upstream_headers.iter().any(|(name, _)| carries_key(name))
}

/// What the tenant cannot mend is not passed on as if it could.
pub(super) fn refuse_operator_faults(model: &Model, response: &Response) -> Result<(), Fault> {
    let status = response.status();
    if matches!(status.as_u16(), 401 | 403) && has_operators_key(model) {
        return Err(Fault::new(Code::UpstreamAuth, "the upstream refused the operator's key for this model"));
    }
    if status.is_redirection() || status.is_informational() {
        return Err(Fault::new(Code::UpstreamError, "the upstream answered with a redirect or an upgrade"));
    }
    Ok(())
}
