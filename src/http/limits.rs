//! `GET /v1/limits`: what the calling key may do now, and where its tenant stands in the queue.

use crate::app::Worker;
use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::http::budgets::BudgetsView;
use crate::http::number::Number;
use crate::pipeline::{Caller, authenticate, request_id_of};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::clock::unix_micros;
use obleth_actors::fairshare::Levels;
use obleth_core::brownout::{Pool, Step};
use obleth_core::fair_queue::Standing;
use obleth_core::registry::{Registry, may_use};
use obleth_core::units::Portion;
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

#[derive(Serialize)]
struct View<'a> {
    tenant: TenantView<'a>,
    entitled_share: Number<Portion>,
    actual_share: Number<Portion>,
    in_flight: u32,
    max_in_flight: Option<u32>,
    queued: u32,
    max_queued: u32,
    oldest_wait_ms: Option<u64>,
    estimated_wait_ms: Option<u64>,
    key: KeyView,
    models: Vec<ModelView<'a>>,
    /// Null without a policy.
    brownout: Option<BrownoutView<'a>>,
    /// Limits a minute and budgets of the tenant, and of the key.
    budget: BudgetsView,
}

#[derive(Serialize)]
struct TenantView<'a> {
    id: Uuid,
    name: &'a str,
    weight: u32,
    group: &'a str,
}

#[derive(Serialize)]
struct KeyView {
    id: Uuid,
    max_in_flight: Option<u32>,
    /// Counted only for a key with a cap.
    in_flight: Option<u32>,
    queued: Option<u32>,
}

#[derive(Serialize)]
struct ModelView<'a> {
    model: &'a str,
    in_flight: u32,
    queued: u32,
    estimated_wait_ms: Option<u64>,
}

/// What the tenant's policy does now.
#[derive(Serialize)]
struct BrownoutView<'a> {
    wait_ms: u128,
    max_tokens: u64,
    steps: Vec<Step>,
    in_force: Vec<InForceView<'a>>,
}

#[derive(Serialize)]
struct InForceView<'a> {
    /// Null: on every model.
    model: Option<&'a str>,
    steps: Vec<Step>,
}

/// Limits and standing of the caller.
pub async fn limits(worker: &Worker, request: &HttpRequest) -> HttpResponse {
    let request_id = request_id_of(request.headers());
    match read(worker, request, &request_id).await {
        Ok(answer) => answer,
        Err(fault) => fault.respond(&request_id),
    }
}

async fn read(worker: &Worker, request: &HttpRequest, request_id: &str) -> Result<HttpResponse, Fault> {
    let gateway = &worker.gateway;
    let caller = authenticate(gateway, request.headers(), unix_micros())?;
    let registry = gateway.registry.load();
    let restarted = || Fault::new(Code::Restarting, "the scheduler was restarted after a fault");
    let plan = gateway.settings.plans.tenant(&registry, &caller.tenant).ok_or_else(restarted)?;
    let standing = gateway.handles.fairshare.standing(&plan, Some(caller.key.id)).ok_or_else(restarted)?;
    let brownout = BrownoutView::of(&registry, &caller, &gateway.handles.fairshare.brownout());
    let budget = BudgetsView::of(gateway, &caller).await.ok_or_else(restarted)?;
    let view = View { brownout, ..View::of(&registry, &caller, &standing, budget) };
    Ok(HttpResponse::Ok().insert_header((X_REQUEST_ID, request_id)).json(view))
}

impl<'a> View<'a> {
    fn of(registry: &'a Registry, caller: &'a Caller, standing: &Standing, budget: BudgetsView) -> Self {
        let Caller { tenant, key } = caller;
        let capped = key.max_in_flight.map(|_| standing.key.unwrap_or_default());
        let models = standing.models.iter().filter_map(|on| {
            Some(ModelView {
                model: &registry.model(on.id)?.name,
                in_flight: on.in_flight,
                queued: on.queued,
                estimated_wait_ms: on.estimated_wait.map(millis),
            })
        });
        Self {
            tenant: TenantView {
                id: tenant.id.0,
                name: &tenant.name,
                weight: tenant.weight.get(),
                group: registry.group(tenant.group).map_or("", |group| &group.name),
            },
            entitled_share: Number(standing.entitled),
            actual_share: Number(standing.actual),
            in_flight: standing.in_flight,
            max_in_flight: tenant.max_in_flight,
            queued: standing.queued,
            max_queued: standing.max_queued,
            oldest_wait_ms: standing.oldest_wait.map(millis),
            estimated_wait_ms: standing.estimated_wait.map(millis),
            key: KeyView {
                id: key.id.0,
                max_in_flight: key.max_in_flight,
                in_flight: capped.map(|(in_flight, _)| in_flight),
                queued: capped.map(|(_, queued)| queued),
            },
            models: models.collect(),
            brownout: None,
            budget,
        }
    }
}

impl<'a> BrownoutView<'a> {
    /// Of models that the caller may not use nothing is told.
    fn of(registry: &'a Registry, caller: &Caller, levels: &Levels) -> Option<Self> {
        let policy = caller.tenant.brownout?;
        let rows = levels.rows.iter().filter(|row| row.policy == policy && row.level > 0);
        let in_force = rows.filter_map(|row| {
            let model = match row.pool {
                Pool::Slots => None,
                Pool::Model(id) => {
                    let named = registry.model(id).map(|model| &*model.name);
                    Some(named.filter(|name| may_use(&caller.tenant, &caller.key, name))?)
                }
            };
            Some(InForceView { model, steps: policy.taken(row.level).collect() })
        });
        Some(Self {
            wait_ms: policy.wait().as_millis(),
            max_tokens: policy.max_tokens(),
            steps: policy.steps().collect(),
            in_force: in_force.collect(),
        })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
