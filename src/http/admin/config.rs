//! `/config/...`: the registry as one document.

use super::{body_up_to, query, refuse, write};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::{Import, Role, Trust, Write};
use schemars::JsonSchema;
use serde::Deserialize;

/// Largest document.
pub const DOCUMENT_MAX: usize = 64 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// Only say what would be done.
    #[schemars(with = "Option<bool>")]
    dry_run: Option<String>,
    /// Delete what a section of the document does not name.
    #[schemars(with = "Option<bool>")]
    prune: Option<String>,
}

/// `true` or `false`.
pub(super) fn flag(name: &'static str, text: Option<&str>) -> Result<bool, Fault> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Fault::new(Code::InvalidRequest, format!("{name} must be true or false")).at(name)),
    }
}

/// How the caller wants it, as far as its role goes.
fn how(request: &HttpRequest) -> Result<Import, Fault> {
    let asked: ImportQuery = query(request)?;
    // Who may only write must not read the environment through a model's key.
    let trust = match super::access::role(request) {
        Some(Role::Admin) => Trust::Environment,
        _ => Trust::Named,
    };
    Ok(Import {
        dry_run: flag("dry_run", asked.dry_run.as_deref())?,
        prune: flag("prune", asked.prune.as_deref())?,
        trust,
    })
}

pub async fn export(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    write(&gateway, &request, Write::Export, StatusCode::OK).await
}

pub async fn import(gateway: Data<Gateway>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let how = match how(&request) {
        Ok(how) => how,
        Err(fault) => return refuse(&request, &fault),
    };
    match body_up_to(DOCUMENT_MAX, &request, payload).await {
        Ok(body) => write(&gateway, &request, Write::Import(body, how), StatusCode::OK).await,
        Err(fault) => refuse(&request, &fault),
    }
}
