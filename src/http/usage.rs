//! `GET /v1/usage`: what the calling key and its tenant have used. No ledger row.

use crate::app::Worker;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::http::budgets::BudgetsView;
use crate::pipeline::{authenticate, request_id_of};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::accounting::usage::{OwnUsage, Unread};
use obleth_actors::clock::unix_micros;
use serde::Serialize;
use uuid::Uuid;

/// The answer. What budgets have left is known in memory and not part of what is told again.
#[derive(Serialize)]
struct View<'a> {
    tenant: TenantView<'a>,
    key: KeyView,
    #[serde(flatten)]
    used: &'a OwnUsage,
    budget: BudgetsView,
}

#[derive(Serialize)]
struct TenantView<'a> {
    id: Uuid,
    name: &'a str,
}

#[derive(Serialize)]
struct KeyView {
    id: Uuid,
}

/// Usage of the caller.
pub async fn usage(worker: &Worker, request: &HttpRequest) -> HttpResponse {
    let request_id = request_id_of(request.headers());
    match read(worker, request, &request_id).await {
        Ok(answer) => answer,
        Err(fault) => fault.respond(&request_id),
    }
}

async fn read(worker: &Worker, request: &HttpRequest, request_id: &str) -> Result<HttpResponse, Fault> {
    let gateway = &worker.gateway;
    let now = unix_micros();
    let caller = authenticate(gateway, request.headers(), now)?;
    let (tenant, key) = (&caller.tenant, &caller.key);
    let used =
        gateway.handles.accounting.own_usage(tenant.id, key.id, now).await.map_err(|why| match why {
            Unread::Away => Fault::new(Code::StoreUnavailable, "the ledger cannot be read now"),
            Unread::Busy => Fault::new(Code::Overloaded, "too many ask for their usage at once"),
        })?;
    let restarted = || Fault::new(Code::Restarting, "the budgets were restarted after a fault");
    let budget = BudgetsView::of(gateway, &caller).await.ok_or_else(restarted)?;
    let view = View {
        tenant: TenantView { id: tenant.id.0, name: &tenant.name },
        key: KeyView { id: key.id.0 },
        used: &used,
        budget,
    };
    Ok(HttpResponse::Ok().insert_header((X_REQUEST_ID, request_id)).json(view))
}
