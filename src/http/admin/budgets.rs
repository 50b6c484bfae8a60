//! `GET /tenants/{id}/budget`, `GET /keys/{id}/budget`: limits as they stand now.

use super::{fault_of, ok, refuse};
use crate::app::Gateway;
use crate::error::{Code, Fault};
use crate::http::budgets::AccountView;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::admin::AdminError;
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::token_budget::{Limits, Owner};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BudgetStanding")]
pub(super) struct View {
    tenant_id: Uuid,
    /// Only of a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<Uuid>,
    #[serde(flatten)]
    account: AccountView,
}

pub async fn of_tenant(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let registry = gateway.registry.load_full();
    let id = id.parse::<TenantId>().ok();
    let Some(tenant) = id.and_then(|id| registry.tenant(id)) else {
        return refuse(&request, &fault_of(&AdminError::NotFound("tenant")));
    };
    answer(&gateway, &request, Owner::Tenant(tenant.id), &tenant.limits).await
}

pub async fn of_key(gateway: Data<Gateway>, request: HttpRequest, id: Path<String>) -> HttpResponse {
    let registry = gateway.registry.load_full();
    let id = id.parse::<KeyId>().ok();
    let Some(key) = id.and_then(|id| registry.key(id)) else {
        return refuse(&request, &fault_of(&AdminError::NotFound("key")));
    };
    answer(&gateway, &request, Owner::Key(key.tenant, key.id), &key.limits).await
}

async fn answer(gateway: &Gateway, request: &HttpRequest, owner: Owner, limits: &Limits) -> HttpResponse {
    gateway.handles.budget.refresh(owner, limits).await;
    let Some(standing) = gateway.handles.budget.standing(owner, limits) else {
        return refuse(request, &Fault::new(Code::Restarting, "the budgets were restarted after a fault"));
    };
    let (tenant, key) = match owner {
        Owner::Tenant(tenant) => (tenant, None),
        Owner::Key(tenant, key) => (tenant, Some(key)),
    };
    let key_id = key.map(|key| key.0);
    ok(request, &View { tenant_id: tenant.0, key_id, account: AccountView::of(&standing) })
}
