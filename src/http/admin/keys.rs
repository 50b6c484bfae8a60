//! `/keys` and `/tenants/{id}/keys`.

use super::config::flag;
use super::{listed, paging, query, refuse, shown, window, write, write_body};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::{KeySpec, Window, Write};
use obleth_actors::shapes::{Cursor, Id, Limit};
use obleth_schema::keys::KeyFilter;
use schemars::JsonSchema;
use serde::Deserialize;

/// Characters of a secret that are kept; a search by more would show a secret to whoever reads the logs.
const PREFIX_MAX: usize = 11;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysQuery {
    /// Rows of the page, 100 if it is absent.
    #[schemars(with = "Option<Limit>")]
    limit: Option<String>,
    #[schemars(with = "Option<Cursor>")]
    cursor: Option<String>,
    /// What `key_prefix` begins with.
    #[schemars(length(max = 11))]
    prefix: Option<String>,
    /// Of this tenant, which must exist.
    tenant_id: Option<String>,
    name: Option<String>,
    #[schemars(with = "Option<bool>")]
    disabled: Option<String>,
}

/// What a `PATCH` changes: a key may move, too.
#[derive(JsonSchema)]
#[schemars(rename = "KeySpec")]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct KeyPatch {
    #[schemars(flatten)]
    spec: KeySpec,
    /// The tenant that the key moves to.
    tenant_id: Id,
}

impl KeysQuery {
    fn read(request: &HttpRequest) -> Result<(KeyFilter, Window), Fault> {
        let asked: Self = query(request)?;
        let window = window(request, asked.limit.as_deref(), asked.cursor.as_deref())?;
        if asked.prefix.as_ref().is_some_and(|prefix| prefix.chars().count() > PREFIX_MAX) {
            let text = "prefix must be at most 11 characters: never send a whole secret";
            return Err(Fault::new(Code::InvalidRequest, text).at("prefix"));
        }
        let disabled = asked.disabled.as_deref().map(|text| flag("disabled", Some(text))).transpose()?;
        let filter =
            KeyFilter { tenant_id: asked.tenant_id, prefix: asked.prefix, name: asked.name, disabled };
        Ok((filter, window))
    }
}

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match KeysQuery::read(&request) {
        Ok((filter, window)) => shown(&request, gateway.handles.admin.keys(&filter, window).await),
        Err(fault) => refuse(&request, &fault),
    }
}

pub async fn of_tenant(gateway: Data<Gateway>, request: HttpRequest, tenant: Path<String>) -> HttpResponse {
    let admin = &gateway.handles.admin;
    let filter = KeyFilter { tenant_id: Some(tenant.into_inner()), ..KeyFilter::default() };
    listed(&request, paging(&request), |window| admin.keys(&filter, window)).await
}

pub async fn one(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    shown(&request, gateway.handles.admin.key(&id).await)
}

pub async fn create(
    gateway: Data<Gateway>,
    request: HttpRequest,
    tenant: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::CreateKey(tenant.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::CREATED).await
}

pub async fn patch(
    gateway: Data<Gateway>,
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::PatchKey(id.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::OK).await
}

pub async fn rotate(
    gateway: Data<Gateway>,
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> HttpResponse {
    let make = |body| Write::RotateKey(id.into_inner(), body);
    write_body(&gateway, &request, payload, make, StatusCode::OK).await
}

pub async fn delete(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    write(&gateway, &request, Write::DeleteKey(id.into_inner()), StatusCode::NO_CONTENT).await
}
