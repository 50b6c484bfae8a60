//! `/usage/...`: what the ledger says.

use super::{fault_of, query, refuse, shown, window};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::accounting::usage::{group_by, time};
use obleth_actors::admin::{AdminError, Window};
use obleth_schema::ledger::{GroupBy, LedgerFilter, SummaryFilter};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    limit: Option<String>,
    cursor: Option<String>,
    tenant_id: Option<String>,
    key_id: Option<String>,
    model: Option<String>,
    status: Option<String>,
    route: Option<String>,
    session_id: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl LogsQuery {
    fn read(request: &HttpRequest) -> Result<(LedgerFilter, Window), Fault> {
        let asked: Self = query(request)?;
        let window = window(asked.limit.as_deref(), asked.cursor.as_deref())?;
        let wrong = |_| Fault::new(Code::InvalidRequest, "status must be a whole number").at("status");
        let filter = LedgerFilter {
            tenant_id: asked.tenant_id,
            key_id: asked.key_id,
            model: asked.model,
            status: asked.status.map(|status| status.parse().map_err(wrong)).transpose()?,
            route: asked.route,
            session_id: asked.session_id,
            since: moment("since", asked.since.as_deref())?,
            until: moment("until", asked.until.as_deref())?,
        };
        Ok((filter, window))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SummaryQuery {
    group_by: Option<String>,
    tenant_id: Option<String>,
    key_id: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl SummaryQuery {
    fn read(request: &HttpRequest) -> Result<(GroupBy, SummaryFilter), Fault> {
        let asked: Self = query(request)?;
        let by = group_by(asked.group_by.as_deref()).map_err(|error| fault_of(&error.into()))?;
        let filter = SummaryFilter {
            tenant_id: asked.tenant_id,
            key_id: asked.key_id,
            since: moment("since", asked.since.as_deref())?,
            until: moment("until", asked.until.as_deref())?,
        };
        Ok((by, filter))
    }
}

fn moment(field: &str, text: Option<&str>) -> Result<Option<i64>, Fault> {
    time(field, text).map_err(|error| fault_of(&AdminError::from(error)))
}

pub async fn logs(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match LogsQuery::read(&request) {
        Ok((filter, window)) => shown(&request, gateway.handles.accounting.logs(&filter, window).await),
        Err(fault) => refuse(&request, &fault),
    }
}

pub async fn log(gateway: Data<Gateway>, request: HttpRequest, request_id: Path<String>) -> HttpResponse {
    shown(&request, gateway.handles.accounting.log(&request_id).await)
}

pub async fn summary(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match SummaryQuery::read(&request) {
        Ok((by, filter)) => shown(&request, gateway.handles.accounting.summary(by, &filter).await),
        Err(fault) => refuse(&request, &fault),
    }
}
