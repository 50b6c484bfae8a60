//! The management API, `/api/v1/...`: its routing table, its access, and how results become answers.

use super::data::method_not_allowed;
use crate::app::Gateway;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::pipeline::request_id_of;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::guard::Post;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, Data, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Resource, Route};
use bytes::Bytes;
use health::with_health;
use obleth_actors::admin::{AdminError, Page, Window, Write, Written};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::ready;
use subtle::ConstantTimeEq;

mod budgets;
mod cache;
mod check;
mod fairshare;
mod groups;
mod health;
mod keys;
mod models;
mod stats;
mod tenants;
mod usage;

/// Largest body of a management call.
const BODY_MAX: usize = 1 << 20;

/// All routes.
pub fn routes(config: &mut ServiceConfig) {
    let api = web::scope("/api/v1")
        .wrap(from_fn(guard))
        .service(resource(
            "/models",
            "GET, POST",
            [web::get().to(models::list), web::post().to(models::create)],
        ))
        .service(
            // A model's name may end in `/check`: only a POST is meant here.
            resource("/models/{name:.+}/check", "POST", [web::post().to(check::check)]).guard(Post()),
        )
        .service(resource(
            "/models/{name:.+}",
            "GET, PATCH, PUT, DELETE",
            [
                web::get().to(models::one),
                web::patch().to(models::patch),
                web::put().to(models::put),
                web::delete().to(models::delete),
            ],
        ))
        .service(resource(
            "/tenants",
            "GET, POST",
            [web::get().to(tenants::list), web::post().to(tenants::create)],
        ))
        .service(resource(
            "/tenants/{id}/keys",
            "GET, POST",
            [web::get().to(keys::of_tenant), web::post().to(keys::create)],
        ))
        .service(resource("/tenants/{id}/budget", "GET", [web::get().to(budgets::of_tenant)]))
        .service(resource("/keys/{id}/budget", "GET", [web::get().to(budgets::of_key)]))
        .service(resource(
            "/tenants/{id}",
            "GET, PATCH, DELETE",
            [web::get().to(tenants::one), web::patch().to(tenants::patch), web::delete().to(tenants::delete)],
        ))
        .service(resource("/keys", "GET", [web::get().to(keys::list)]))
        .service(resource("/keys/{id}/rotate", "POST", [web::post().to(keys::rotate)]))
        .service(resource(
            "/keys/{id}",
            "GET, PATCH, DELETE",
            [web::get().to(keys::one), web::patch().to(keys::patch), web::delete().to(keys::delete)],
        ))
        .service(resource(
            "/groups",
            "GET, POST",
            [web::get().to(groups::list), web::post().to(groups::create)],
        ))
        .service(resource(
            "/groups/{name:.+}",
            "GET, PATCH, DELETE",
            [web::get().to(groups::one), web::patch().to(groups::patch), web::delete().to(groups::delete)],
        ))
        .service(resource("/fairshare/live", "GET", [web::get().to(fairshare::live)]))
        .service(resource("/fairshare/explain/{request_id:.+}", "GET", [web::get().to(fairshare::explain)]))
        .service(resource("/cache", "DELETE", [web::delete().to(cache::purge)]))
        .service(resource("/cache/stats", "GET", [web::get().to(cache::stats)]))
        .service(resource(
            "/capacity",
            "GET, PUT",
            [web::get().to(fairshare::capacity), web::put().to(fairshare::set_capacity)],
        ))
        .service(resource("/usage/summary", "GET", [web::get().to(usage::summary)]))
        .service(resource("/usage/series", "GET", [web::get().to(usage::series)]))
        .service(resource("/usage/statement", "GET", [web::get().to(usage::statement)]))
        .service(resource("/usage/export.csv", "GET", [web::get().to(usage::export)]))
        .service(resource("/usage/logs", "GET", [web::get().to(usage::logs)]))
        .service(resource("/usage/logs/{request_id:.+}", "GET", [web::get().to(usage::log)]))
        .service(resource("/stats", "GET", [web::get().to(stats::stats)]))
        .service(resource("/version", "GET", [web::get().to(version)]))
        .default_service(web::to(not_found));
    config.service(api);
}

/// A resource with these routes, whose methods are `allowed`; another method is a 405 in our envelope.
pub fn resource(
    path: &'static str,
    allowed: &'static str,
    routes: impl IntoIterator<Item = Route>,
) -> Resource {
    let resource = routes.into_iter().fold(web::resource(path), Resource::route);
    let refuse = move |request: HttpRequest| ready(method_not_allowed(&request, allowed));
    resource.default_service(web::to(refuse))
}

/// Any path that is not ours.
pub async fn not_found(request: HttpRequest) -> HttpResponse {
    refuse(&request, &Fault::new(Code::NotFound, "there is no such route"))
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

async fn version(request: HttpRequest) -> HttpResponse {
    ok(&request, &Version { version: env!("CARGO_PKG_VERSION") })
}

/// Lets only the holder of the admin token in.
async fn guard(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let allowed = request.app_data::<Data<Gateway>>().is_some_and(|gateway| {
        let expected = gateway.settings.admin_token.expose_secret().as_bytes();
        let given = crate::pipeline::bearer(request.headers()).unwrap_or_default();
        bool::from(given.as_bytes().ct_eq(expected))
    });
    if allowed && request.path().contains("%00") {
        // No name and no id has one, and PostgreSQL takes none.
        let fault = Fault::new(Code::NotFound, "there is nothing of this name");
        let answer = refuse(request.request(), &fault);
        return Ok(request.into_response(answer));
    }
    if allowed {
        return next.call(request).await;
    }
    let fault = Fault::new(Code::Unauthorized, "an admin token is required: Authorization: Bearer ...");
    tracing::warn!(target: "obleth::admin", "a management call without a valid token was refused");
    let mut answer = refuse(request.request(), &fault);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Ok(request.into_response(answer))
}

/// The body of a management call.
pub(super) async fn body(request: &HttpRequest, payload: Payload) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::new(Code::BodyTooLarge, format!("the body is larger than {BODY_MAX} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse().ok()).is_some_and(|length: usize| length > BODY_MAX) {
        return Err(too_large());
    }
    match payload.to_bytes_limited(BODY_MAX).await {
        Ok(Ok(bytes)) => Ok(Bytes::into(bytes)),
        Ok(Err(_)) => Err(Fault::new(Code::InvalidRequest, "the body was cut off")),
        Err(_) => Err(too_large()),
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
        // "unknown field `x`, expected …", "duplicate field `x`".
        let field = text.contains(" field `").then(|| text.split('`').nth(1).map(str::to_owned)).flatten();
        let fault = Fault::new(Code::InvalidRequest, text);
        field.into_iter().fold(fault, Fault::at)
    })
}

/// `limit` and `cursor`.
pub(super) fn window(limit: Option<&str>, cursor: Option<&str>) -> Result<Window, Fault> {
    Window::new(limit, cursor).map_err(|error| fault_of(&error.into()))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Paging {
    limit: Option<String>,
    cursor: Option<String>,
}

/// The window of a list that takes no filters.
pub(super) fn paging(request: &HttpRequest) -> Result<Window, Fault> {
    let paging: Paging = query(request)?;
    window(paging.limit.as_deref(), paging.cursor.as_deref())
}

/// An admin error as a fault.
pub(super) fn fault_of(error: &AdminError) -> Fault {
    let text = error.to_string();
    match error {
        AdminError::Invalid(field) if field.field.is_empty() => Fault::new(Code::InvalidRequest, text),
        AdminError::Invalid(field) => Fault::new(Code::InvalidRequest, text).at(field.field.clone()),
        AdminError::NotFound(_) => Fault::new(Code::NotFound, text),
        AdminError::Conflict(field, _) => Fault::new(Code::Conflict, text).at(*field),
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
    match gateway.handles.admin.write(write).await {
        Ok(Written::Model(view)) => json(request, success, &with_health(gateway, *view)),
        Ok(Written::ModelCreated(view)) => json(request, StatusCode::CREATED, &with_health(gateway, *view)),
        Ok(Written::Tenant(view)) => json(request, success, &view),
        Ok(Written::Key(view)) => json(request, success, &view),
        Ok(Written::KeyWithSecret(view)) => json(request, success, &view),
        Ok(Written::Group(view)) => json(request, success, &view),
        Ok(Written::Capacity(view)) => json(request, success, &view),
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
