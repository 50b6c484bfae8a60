//! The management API, `/api/v1/...`: its routing table, its access, and how results become answers.

use super::data::method_not_allowed;
use crate::app::Gateway;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::pipeline::request_id_of;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use bytes::Bytes;
use health::with_health;
use obleth_actors::admin::{AdminError, Page, Window, Write, Written};
use obleth_actors::shapes::{Cursor, Limit};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::ready;
use std::time::Duration;
use tokio::time::timeout;

mod access;
mod audit;
mod budgets;
mod cache;
mod check;
mod config;
mod fairshare;
mod groups;
mod health;
mod keys;
mod mcp_servers;
mod models;
mod openapi;
mod place;
mod stats;
mod table;
mod tenants;
mod tokens;
mod usage;

pub use access::Failures;
pub use config::DOCUMENT_MAX;
pub use openapi::describe;
pub use place::{Entry, Place};
pub use table::TABLE;

/// The longest that the body of a management call may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Largest body of a management call.
const BODY_MAX: usize = 1 << 20;

/// All routes.
pub fn routes(config: &mut ServiceConfig) {
    let api = web::scope("/api/v1").wrap(from_fn(access::guard));
    let api = TABLE.iter().fold(api, |api, place| api.service(place.resource()));
    config.service(api.default_service(web::to(not_found)));
}

/// A resource outside of the table: no token, one handler for `GET`.
pub fn open_resource(path: &'static str, route: Route) -> Resource {
    let refuse = |request: HttpRequest| ready(method_not_allowed(&request, "GET"));
    web::resource(path).route(route).default_service(web::to(refuse))
}

/// Any path that is not ours.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    refuse(&request, &Fault::new(Code::NotFound, "there is no such route"))
}

#[derive(Serialize, JsonSchema)]
struct Version {
    version: &'static str,
}

async fn version(request: HttpRequest) -> HttpResponse {
    ok(&request, &Version { version: env!("CARGO_PKG_VERSION") })
}

/// The body of a management call.
pub(super) async fn body(request: &HttpRequest, payload: Payload) -> Result<Vec<u8>, Fault> {
    body_up_to(BODY_MAX, request, payload).await
}

/// The same, of at most `most` bytes.
pub(super) async fn body_up_to(
    most: usize,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::new(Code::BodyTooLarge, format!("the body is larger than {most} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse().ok()).is_some_and(|length: usize| length > most) {
        return Err(too_large());
    }
    match timeout(BODY_TIME, payload.to_bytes_limited(most)).await {
        Ok(Ok(Ok(bytes))) => Ok(Bytes::into(bytes)),
        Ok(Ok(Err(_))) => Err(Fault::new(Code::InvalidRequest, "the body was cut off")),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Fault::new(Code::InvalidRequest, "the body did not arrive in time")),
    }
}

/// The query's parameters; an unknown or repeated one is refused.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Fault> {
    if request.query_string().contains("%00") {
        return Err(Fault::new(Code::InvalidRequest, "the query must not contain NUL"));
    }
    let parsed = web::Query::<T>::from_query(request.query_string());
    parsed.map(web::Query::into_inner).map_err(|error| {
        let text = error.to_string();
        let text = text.trim_start_matches("Query deserialize error: ").to_owned();
        // "unknown field `x`, expected …", "duplicate field `x`".
        let field = text.contains(" field `").then(|| text.split('`').nth(1).map(str::to_owned)).flatten();
        let fault = Fault::new(Code::InvalidRequest, text);
        field.into_iter().fold(fault, Fault::at)
    })
}

/// `limit` and `cursor` of the list that `request` asks for.
pub(super) fn window(
    request: &HttpRequest,
    limit: Option<&str>,
    cursor: Option<&str>,
) -> Result<Window, Fault> {
    Window::new(request.path(), limit, cursor).map_err(|error| fault_of(&error.into()))
}

/// The query of a route that takes none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

/// The query of a list without filters.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Paging {
    /// Rows of the page, 100 if it is absent.
    #[schemars(with = "Option<Limit>")]
    limit: Option<String>,
    #[schemars(with = "Option<Cursor>")]
    cursor: Option<String>,
}

/// The window of a list that takes no filters.
pub(super) fn paging(request: &HttpRequest) -> Result<Window, Fault> {
    let paging: Paging = query(request)?;
    window(request, paging.limit.as_deref(), paging.cursor.as_deref())
}

/// An admin error as a fault.
pub(super) fn fault_of(error: &AdminError) -> Fault {
    let text = error.to_string();
    match error {
        AdminError::Invalid(field) if field.field.is_empty() => Fault::new(Code::InvalidRequest, text),
        AdminError::Invalid(field) => Fault::new(Code::InvalidRequest, text).at(field.field.clone()),
        AdminError::NotFound(_) => Fault::new(Code::NotFound, text),
        AdminError::Conflict(field, _) => Fault::new(Code::Conflict, text).at(*field),
        AdminError::ConflictAt(place, _) => Fault::new(Code::Conflict, text).at(place.clone()),
        AdminError::Stale => Fault::new(Code::StaleVersion, text).at("version"),
        AdminError::StoreAway => Fault::new(Code::StoreUnavailable, text),
        AdminError::Restarting => Fault::new(Code::Restarting, text),
        AdminError::Overloaded => Fault::new(Code::Overloaded, text),
        AdminError::Sealed(_) | AdminError::Internal => Fault::new(Code::Internal, text),
    }
}

fn refuse(request: &HttpRequest, fault: &Fault) -> HttpResponse {
    fault.respond(&request_id_of(request.headers()))
}

fn json(request: &HttpRequest, status: StatusCode, value: &impl Serialize) -> HttpResponse {
    let mut answer = HttpResponse::build(status).json(value);
    if let Ok(id) = HeaderValue::from_str(&request_id_of(request.headers())) {
        answer.headers_mut().insert(X_REQUEST_ID, id);
    }
    // What an operator reads is current, and may hold a secret that is shown once.
    answer
        .headers_mut()
        .insert(HeaderName::from_static("cache-control"), HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn ok(request: &HttpRequest, value: &impl Serialize) -> HttpResponse {
    json(request, StatusCode::OK, value)
}

/// Answers a read.
pub(super) fn shown<T: Serialize>(request: &HttpRequest, read: Result<T, AdminError>) -> HttpResponse {
    match read {
        Ok(value) => ok(request, &value),
        Err(error) => refuse(request, &fault_of(&error)),
    }
}

/// Answers a list whose window may be wrong.
pub(super) async fn listed<T: Serialize, F>(
    request: &HttpRequest,
    window: Result<Window, Fault>,
    read: impl FnOnce(Window) -> F,
) -> HttpResponse
where
    F: Future<Output = Result<Page<T>, AdminError>>,
{
    match window {
        Ok(window) => shown(request, read(window).await),
        Err(fault) => refuse(request, &fault),
    }
}

/// Does a write and answers it; `created` is the status of what it makes.
pub(super) async fn write(
    gateway: &Gateway,
    request: &HttpRequest,
    write: Write,
    success: StatusCode,
) -> HttpResponse {
    match gateway.handles.admin.write(access::origin(request), write).await {
        Ok(Written::Model(view)) => json(request, success, &with_health(gateway, *view)),
        Ok(Written::ModelCreated(view)) => json(request, StatusCode::CREATED, &with_health(gateway, *view)),
        Ok(Written::Tenant(view)) => json(request, success, &view),
        Ok(Written::Key(view)) => json(request, success, &view),
        Ok(Written::KeyWithSecret(view)) => json(request, success, &view),
        Ok(Written::Group(view)) => json(request, success, &view),
        Ok(Written::Capacity(view)) => json(request, success, &view),
        Ok(Written::TokenWithSecret(view)) => json(request, success, &view),
        Ok(Written::Exported(document)) => json(request, success, &document),
        Ok(Written::Imported(plan)) => json(request, success, &plan),
        Ok(Written::McpServer(view)) => json(request, success, &mcp_servers::with_health(gateway, *view)),
        Ok(Written::Deleted) => HttpResponse::NoContent()
            .insert_header((X_REQUEST_ID, &*request_id_of(request.headers())))
            .finish(),
        Err(error) => refuse(request, &fault_of(&error)),
    }
}

/// The same for a write with a body.
pub(super) async fn write_body(
    gateway: &Gateway,
    request: &HttpRequest,
    payload: Payload,
    make: impl FnOnce(Vec<u8>) -> Write,
    success: StatusCode,
) -> HttpResponse {
    match body(request, payload).await {
        Ok(body) => write(gateway, request, make(body), success).await,
        Err(fault) => refuse(request, &fault),
    }
}
