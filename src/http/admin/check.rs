//! `POST /models/{model_name}/check`: one real, tiny call to a model's upstream.
//!
//! Is: an operator's look, whatever the breaker says; a good answer closes it. Is not: a tenant's request. It
//! takes no seat, no budget and no row in the ledger. Of the upstream's answer only its status and the name of
//! the model it says are told.

use super::{ok, query, refuse};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use crate::pipeline::{names_missing_model, request_id_of, upstream_headers};
use crate::upstream::{Request, Upstream};
use crate::wire::Route;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use obleth_core::registry::Model;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// All of it.
const LONGEST: Duration = Duration::from_secs(10);
/// An answer to one token is not larger.
const ANSWER_MAX: usize = 1 << 20;
/// Longest name of a model that is told.
const NAME_MAX: usize = 256;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckQuery {
    /// The kind of the call; a chat and then an embedding if it is absent.
    #[schemars(with = "Option<CheckRoute>")]
    route: Option<String>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum CheckRoute {
    Chat,
    Completions,
    Embeddings,
}

/// What the call gave.
#[derive(Serialize, JsonSchema)]
pub(super) struct Checked {
    model: Arc<str>,
    upstream_model: Arc<str>,
    route: &'static str,
    ok: bool,
    /// Of the upstream's answer; null when there was none.
    status: Option<u16>,
    latency_ms: u64,
    /// The model that the upstream says it is.
    model_seen: Option<String>,
    error_code: Option<&'static str>,
}

/// What came of one call.
#[derive(Default)]
struct Called {
    status: Option<u16>,
    model_seen: Option<String>,
    error: Option<Code>,
}

impl Called {
    fn failed(error: Code) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Whether another route may be the right one for the model.
    fn is_other_route(&self) -> bool {
        let refused = matches!(self.status, Some(400 | 404 | 405 | 415 | 422 | 501));
        refused && self.error != Some(Code::ModelNotFound)
    }
}

pub async fn check(
    gateway: Data<Gateway>,
    upstream: Data<Upstream>,
    request: HttpRequest,
    name: Path<String>,
) -> HttpResponse {
    let routes = match routes(&request) {
        Ok(routes) => routes,
        Err(fault) => return refuse(&request, &fault),
    };
    let registry = gateway.registry.load_full();
    let Some(model) = registry.model_named(&name).filter(|model| *model.name == **name) else {
        return refuse(&request, &Fault::new(Code::NotFound, "no such model"));
    };
    let until = tokio::time::Instant::now() + LONGEST;
    let mut told: Option<Checked> = None;
    for route in routes {
        let begun = gateway.clock.now();
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let call = call(&gateway, &upstream, model, *route, &request);
        let called = timeout(left, call).await.unwrap_or(Called::failed(Code::UpstreamTimeout));
        let another = called.is_other_route();
        let checked = Checked {
            model: Arc::clone(&model.name),
            upstream_model: Arc::clone(&model.upstream_model),
            route: route.label(),
            ok: called.error.is_none(),
            status: called.status,
            latency_ms: u64::try_from(gateway.clock.now().since(begun).as_millis()).unwrap_or(u64::MAX),
            model_seen: called.model_seen,
            error_code: called.error.map(Code::name),
        };
        // What the first route said stands unless another one answers.
        if checked.ok || told.is_none() {
            told = Some(checked);
        }
        if !another {
            break;
        }
    }
    let Some(told) = told else { return refuse(&request, &Fault::new(Code::Internal, "an internal error")) };
    if told.ok {
        gateway.health.found_well(model);
    }
    ok(&request, &told)
}

/// The routes to try, in their order.
fn routes(request: &HttpRequest) -> Result<&'static [Route], Fault> {
    let asked: CheckQuery = query(request)?;
    Ok(match asked.route.as_deref() {
        None => &[Route::ChatCompletions, Route::Embeddings],
        Some("chat") => &[Route::ChatCompletions],
        Some("completions") => &[Route::Completions],
        Some("embeddings") => &[Route::Embeddings],
        Some(_) => {
            let message = "route must be chat, completions or embeddings";
            return Err(Fault::new(Code::InvalidRequest, message).at("route"));
        }
    })
}

/// The smallest request that the route knows.
fn body(route: Route, model: &str) -> Bytes {
    let body = match route {
        Route::Embeddings => serde_json::json!({"model": model, "input": "ping"}),
        Route::Completions => serde_json::json!({"model": model, "prompt": "ping", "max_tokens": 1}),
        _ => {
            let messages = [serde_json::json!({"role": "user", "content": "ping"})];
            serde_json::json!({"model": model, "messages": messages, "max_tokens": 1})
        }
    };
    body.to_string().into()
}

async fn call(
    gateway: &Gateway,
    upstream: &Upstream,
    model: &Model,
    route: Route,
    request: &HttpRequest,
) -> Called {
    let base = model.api_base.as_deref().unwrap_or(&gateway.settings.upstream.base);
    let Ok(uri) = Uri::try_from(format!("{base}{}", route.path())) else {
        return Called::failed(Code::UpstreamUnreachable);
    };
    let id = request_id_of(request.headers());
    let mut headers = upstream_headers(&gateway.settings, &HeaderMap::new(), model, &id, None);
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let body = vec![body(route, &model.upstream_model)];
    let outgoing = Request { method: Method::POST, uri, headers, body };
    let mut response = match upstream.send(outgoing).await {
        Ok(response) => response,
        Err(fault) => return Called::failed(fault.code),
    };
    let status = response.status();
    let body = response.body().limit(ANSWER_MAX).await;
    let error = match (&body, status.as_u16()) {
        (_, 401 | 403) => Some(Code::UpstreamAuth),
        (Ok(body), 400..500) if names_missing_model(body) => Some(Code::ModelNotFound),
        (_, _) if !status.is_success() => Some(Code::UpstreamError),
        (Err(_), _) => Some(Code::UpstreamTruncated),
        (Ok(body), _) if serde_json::from_slice::<Said>(body).is_err() => Some(Code::UpstreamError),
        (Ok(_), _) => None,
    };
    let model_seen = body.ok().filter(|_| error.is_none()).and_then(|body| seen(model, &body));
    Called { status: Some(status.as_u16()), model_seen, error }
}

/// What an answer says of itself.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    model: serde_json::Value,
}

/// The name of the model in an answer, if it is one; an upstream that says our key back is not repeated.
fn seen(model: &Model, body: &[u8]) -> Option<String> {
    let said: Said = serde_json::from_slice(body).ok()?;
    let name = said.model.as_str()?;
    let fit = name.chars().count() <= NAME_MAX && !name.chars().any(char::is_control);
    let headers = model.upstream_headers.iter().map(|(_, value)| value);
    let secret = model.api_key.iter().chain(headers).any(|secret| name.contains(secret.expose_secret()));
    (fit && !secret).then(|| name.to_owned())
}
