//! `/fairshare/...` and `/capacity`: who is served, why a request waits, how many run at once.

use super::{ok, query, refuse, shown, window, write_body};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use crate::http::number::Number;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, SecondsFormat};
use obleth_actors::admin::Write;
use obleth_actors::shapes::{Id, Limit};
use obleth_core::ids::TenantId;
use obleth_core::units::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use std::time::Duration;

mod brownout;
mod explain;
mod live;

pub(super) use explain::ExplainView;
pub(super) use live::LiveView;

/// Seconds with three decimals.
fn seconds(span: Duration) -> Number<Decimal<3>> {
    Number(Decimal(i128::try_from(span.as_millis()).unwrap_or(i128::MAX)))
}

/// Unix microseconds as RFC 3339.
pub(super) fn rfc3339(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn restarting() -> Fault {
    Fault::new(Code::Restarting, "the scheduler was restarted after a fault")
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveQuery {
    /// Tenants, groups and models that are shown, 100 each if it is absent.
    #[schemars(with = "Option<Limit>")]
    limit: Option<String>,
    /// This tenant alone.
    #[schemars(with = "Option<Id>")]
    tenant_id: Option<String>,
}

impl LiveQuery {
    fn read(request: &HttpRequest) -> Result<live::Asked, Fault> {
        let asked: Self = query(request)?;
        let limit =
            usize::try_from(window(request, asked.limit.as_deref(), None)?.limit).unwrap_or(usize::MAX);
        let wrong = |_| Fault::new(Code::InvalidRequest, "tenant_id must be a UUID").at("tenant_id");
        let tenant = asked.tenant_id.map(|id| id.parse().map(TenantId).map_err(wrong)).transpose()?;
        Ok(live::Asked { limit, tenant })
    }
}

/// `GET /fairshare/live`.
pub async fn live(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    let asked = match LiveQuery::read(&request) {
        Ok(asked) => asked,
        Err(fault) => return refuse(&request, &fault),
    };
    let picture = gateway.handles.fairshare.fleet_picture().await;
    let view = picture.ok_or_else(restarting).map(|picture| {
        let levels = gateway.handles.fairshare.brownout();
        live::view(&picture, &levels, &gateway.registry.load(), asked)
    });
    match view {
        Ok(view) => ok(&request, &view),
        Err(fault) => refuse(&request, &fault),
    }
}

/// `GET /fairshare/explain/{request_id}`.
pub async fn explain(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let fairshare = &gateway.handles.fairshare;
    match fairshare.explain(&id).map_err(explain::untold) {
        Ok((found, position)) => {
            ok(&request, &explain::view(&found, position, fairshare.now(), &gateway.registry.load()))
        }
        Err(fault) => refuse(&request, &fault),
    }
}

/// `GET /capacity`.
pub async fn capacity(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    shown(&request, gateway.handles.admin.capacity().await)
}

/// `PUT /capacity`.
pub async fn set_capacity(gateway: Data<Gateway>, request: HttpRequest, payload: Payload) -> HttpResponse {
    write_body(&gateway, &request, payload, Write::PutCapacity, StatusCode::OK).await
}
