//! A seat: at once, after a wait in the fair queue, or a typed refusal.

use super::brownout::{self, Dimmed};
use super::record::Record;
use super::reserve::Reserved;
use super::resolve::{Target, check_again};
use super::settle::interrupted;
use super::timing::Stage;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::wire::Route;
use obleth_actors::cell::Contained;
use obleth_actors::fairshare::NoSeat;
use obleth_actors::fairshare::story::About;
use obleth_actors::guards::Seat;
use obleth_core::fair_queue::{Demand, NO_CAP, Refusal};
use obleth_core::ledger::Admission;
use obleth_core::moment::Moment;
use std::sync::Arc;

/// The right to go upstream.
#[derive(Debug)]
pub(super) enum Pass {
    Seated(Seat),
    /// The route costs the upstream nothing worth a seat.
    Free,
}

/// Waits for a seat.
pub(super) async fn admit(
    worker: &Worker,
    record: &mut Record,
    target: &Target,
    _reserved: Reserved,
) -> Result<Pass, Fault> {
    record.enter(Stage::Admit);
    let gateway = &worker.gateway;
    has_room(worker)?;
    if record.arrival.route == Route::CountTokens {
        open(worker, record)?;
        return Ok(Pass::Free);
    }
    let demand = demand(worker, record, target)?;
    let asked = record.now();
    record.story = Some(gateway.handles.fairshare.tell(about(record, target, asked)));
    if target.by.is_some_and(|by| by <= asked) {
        return Err(Fault::new(Code::DeadlineUnreachable, "the request's own deadline passed on its way in"));
    }
    record.timing.waits_since = Some(asked);
    let admitted = wait(worker, record, demand, target.by).await;
    record.timing.waits_since = None;
    match admitted {
        Ok(Ok(seat)) => {
            // A request that falls back may have waited for another model before.
            record.timing.queued += seat.waited();
            // One that met others on their way to the actor goes there too, and may find a slot free.
            record.stood |= seat.queued() && !seat.waited().is_zero();
            if seat.queued() {
                check_again(worker, record, target)?;
            }
            record.admission = if record.stood { Admission::Queued } else { Admission::Fast };
            brownout::shorten(worker, record, target);
            let forecast = brownout::forecast(record, target, seat.forecast_tokens());
            record.estimated_tokens = record.prompt_tokens().saturating_add(forecast);
            open(worker, record)?;
            Ok(Pass::Seated(seat))
        }
        Ok(Err(refused)) => {
            let waited = matches!(
                refused,
                NoSeat::Refused(
                    Refusal::Timeout { .. }
                        | Refusal::Suspended
                        | Refusal::Shed { .. }
                        | Refusal::StoreAway { queued: true }
                )
            );
            if matches!(refused, NoSeat::Shed { .. } | NoSeat::Refused(Refusal::Shed { .. })) {
                record.brownout = Some(Dimmed::Shed);
            }
            if waited {
                record.stood = true;
                record.timing.queued += record.now().since(asked);
            }
            if refused == NoSeat::Refused(Refusal::Suspended) {
                // Of the tenant, its key or the model: the registry says which.
                check_again(worker, record, target)?;
            }
            Err(fault_of(refused, is_clients(worker, record, target)))
        }
        Err(Interrupted::Cut | Interrupted::TimedOut) => {
            record.timing.queued += record.now().since(asked);
            record.stood = true;
            Err(Fault::new(Code::Draining, "the gateway is shutting down"))
        }
    }
}

/// Whether the ledger can take one more.
pub(super) fn has_room(worker: &Worker) -> Result<(), Fault> {
    match worker.gateway.handles.accounting.has_room() {
        Ok(true) => Ok(()),
        Ok(false) => Err(no_room()),
        Err(Contained(_)) => Err(ledger_restarted()),
    }
}

/// Notes in the ledger that the request goes upstream, and sets room aside for its row.
pub(super) fn open(worker: &Worker, record: &Record) -> Result<(), Fault> {
    match worker.gateway.handles.accounting.open(&interrupted(record)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_full)) => Err(no_room()),
        Err(Contained(_)) => Err(ledger_restarted()),
    }
}

fn no_room() -> Fault {
    Fault::new(Code::StoreUnavailable, "the ledger cannot take more requests now")
}

fn ledger_restarted() -> Fault {
    Fault::new(Code::Restarting, "the ledger was restarted after a fault")
}

fn about(record: &Record, target: &Target, at: Moment) -> About {
    About {
        request_id: Arc::clone(&record.arrival.request_id),
        tenant: record.caller.tenant.id,
        model: target.model.id,
        at,
        unix_micros: record.arrival.unix_micros,
        prompt_tokens: record.prompt_tokens(),
    }
}

/// Waits in the queue, during which a head may leave early.
async fn wait(
    worker: &Worker,
    record: &Record,
    demand: Demand,
    by: Option<Moment>,
) -> Result<Result<Seat, NoSeat>, Interrupted> {
    let gateway = &worker.gateway;
    let wait = |waits| record.early.iter().for_each(|early| early.wait(waits));
    record.early.iter().for_each(|early| early.know(record.timing));
    wait(true);
    let admission = gateway.handles.fairshare.admit_by(demand, by, record.story.as_ref());
    let admitted = gateway.lifecycle.watch(None, admission).await;
    wait(false);
    admitted
}

/// When the gateway itself gives up.
pub(super) fn limit(worker: &Worker, record: &Record) -> Moment {
    record.arrival.at + worker.gateway.settings.admission_timeout
}

/// Whether the client's own deadline is the earlier one.
pub(super) fn is_clients(worker: &Worker, record: &Record, target: &Target) -> bool {
    target.by.is_some_and(|by| by <= limit(worker, record))
}

fn demand(worker: &Worker, record: &Record, target: &Target) -> Result<Demand, Fault> {
    let gateway = &worker.gateway;
    let registry = gateway.registry.load();
    let tenant = gateway.settings.plans.tenant(&registry, &record.caller.tenant);
    let key = &record.caller.key;
    let limit = limit(worker, record);
    Ok(Demand {
        tenant: tenant.ok_or_else(|| Fault::new(Code::Restarting, "the tenant's group is not known"))?,
        model: gateway.settings.plans.model(&target.model),
        // Also without a cap: one that is set later holds for what waits and runs by then.
        key: Some((key.id, key.max_in_flight.unwrap_or(NO_CAP))),
        prompt_tokens: record.prompt_tokens(),
        max_output_tokens: target.output_bound(record),
        answers: target.answers(),
        deadline: Some(target.by.map_or(limit, |by| by.min(limit))),
    })
}

/// The refusal as the client hears it; `own`: the deadline was its own.
fn fault_of(refused: NoSeat, own: bool) -> Fault {
    match refused {
        NoSeat::Refused(Refusal::TenantQueueFull { retry_after }) => {
            Fault::new(Code::TenantQueueFull, "this tenant has too many requests waiting")
                .retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::Heaviest { retry_after }) => {
            Fault::new(Code::TenantQueueFull, "the queue is full, and this tenant is the heaviest in it")
                .retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::QueueFull { retry_after }) => {
            Fault::new(Code::Overloaded, "the queue is full").retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::Timeout { retry_after }) if own => {
            Fault::new(Code::DeadlineUnreachable, "no slot became free before the request's own deadline")
                .retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::Timeout { retry_after }) => {
            Fault::new(Code::AdmissionTimeout, "no slot became free in time").retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::Suspended) => {
            Fault::new(Code::TenantSuspended, "the tenant was suspended meanwhile")
        }
        NoSeat::Shed { retry_after } | NoSeat::Refused(Refusal::Shed { retry_after }) => {
            Fault::new(Code::Overloaded, "too many requests wait, and this tenant's are refused for it")
                .retry_after(retry_after)
        }
        NoSeat::Unreachable { retry_after } => {
            Fault::new(Code::DeadlineUnreachable, "the wait would be longer than the request's own deadline")
                .retry_after(retry_after)
        }
        NoSeat::Refused(Refusal::StoreAway { .. }) => Fault::new(
            Code::StoreUnavailable,
            "Redis, by which the replicas share slots, is away, and none that this request needs is here",
        ),
        NoSeat::Overloaded => Fault::new(Code::Overloaded, "too many requests arrive at once"),
        NoSeat::Restarting => Fault::new(Code::Restarting, "the scheduler was restarted after a fault"),
    }
}
