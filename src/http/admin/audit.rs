//! `/audit`.

use super::access::role;
use super::usage::moment;
use super::{query, refuse, shown, window};
use crate::app::Gateway;
use crate::error::Fault;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::accounting::usage::Zone;
use obleth_actors::admin::{Role, TOKEN, Window};
use obleth_actors::shapes::{Cursor, Limit, Since};
use obleth_schema::audit::AuditFilter;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Rows of the page, 100 if it is absent.
    #[schemars(with = "Option<Limit>")]
    limit: Option<String>,
    #[schemars(with = "Option<Cursor>")]
    cursor: Option<String>,
    /// The id or the name of a token, or `root`.
    actor: Option<String>,
    /// Of what was changed: `model`, `tenant`, ...
    kind: Option<String>,
    object_id: Option<String>,
    /// From then on.
    #[schemars(with = "Option<Since>")]
    since: Option<String>,
    /// Before then.
    #[schemars(with = "Option<Since>")]
    until: Option<String>,
}

impl AuditQuery {
    fn read(request: &HttpRequest) -> Result<(AuditFilter, Window), Fault> {
        let asked: Self = query(request)?;
        let window = window(request, asked.limit.as_deref(), asked.cursor.as_deref())?;
        let filter = AuditFilter {
            actor: asked.actor,
            kind: asked.kind,
            object_id: asked.object_id,
            // Who has which token is for those alone who may list them.
            without: role(request).is_none_or(|role| role < Role::Admin).then_some(TOKEN),
            since: moment("since", asked.since.as_deref(), Zone::UTC)?,
            until: moment("until", asked.until.as_deref(), Zone::UTC)?,
        };
        Ok((filter, window))
    }
}

pub async fn list(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match AuditQuery::read(&request) {
        Ok((filter, window)) => shown(&request, gateway.handles.admin.audit(&filter, window).await),
        Err(fault) => refuse(&request, &fault),
    }
}
