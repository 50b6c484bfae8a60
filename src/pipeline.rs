//! The way of a request on a model route, as a list of stages. Each takes the proof of the one before, so
//! that none can be skipped: `Caller` → `Target` → `Looked` → `Reserved` → `Pass` → `Answer` → the answer to the
//! client.

use crate::app::Worker;
use crate::error::Fault;
use crate::wire::Route;
use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

mod admit;
mod arrival;
mod authenticate;
mod body;
mod brownout;
mod collect;
mod deadline;
mod forward;
mod headers;
mod kept;
mod lookup;
mod meter;
mod ping;
mod rates;
mod record;
mod reserve;
mod resolve;
mod settle;
mod shared;
mod stream;
mod timing;

use admit::Pass;
pub use arrival::{Arrival, request_id_of};
pub use authenticate::{Caller, authenticate, bearer};
use forward::Answer;
use lookup::Looked;
use record::Record;
use resolve::Target;
pub use timing::{Stage, Timing};

/// Runs one request. Every ending after authentication leaves one row in the ledger.
pub async fn run(worker: Data<Worker>, request: HttpRequest, payload: Payload, route: Route) -> HttpResponse {
    let arrival = Arrival::of(&worker, &request, route);
    let caller = match authenticate(&worker.gateway, request.headers(), arrival.unix_micros) {
        Ok(caller) => caller,
        Err(fault) => return arrival.refuse(&worker, &fault),
    };
    tracing::Span::current().record("tenant_id", tracing::field::display(caller.tenant.id));
    let mut record = Record::open(Data::clone(&worker), arrival, caller);
    let target = match resolve::resolve(&worker, &mut record, &request, payload).await {
        Ok(target) => target,
        Err(fault) => return record.refuse(&fault).await,
    };
    ping::attend(record.early.clone(), Box::pin(answer(worker, record, request, target))).await
}

/// From the queue to the answer. A body may own this: nothing in it is borrowed.
async fn answer(
    worker: Data<Worker>,
    mut record: Record,
    request: HttpRequest,
    target: Target,
) -> HttpResponse {
    match lookup::lookup(&worker, &mut record, &request, &target).await {
        Ok(Looked::Past) => straight(worker, record, request, target).await,
        // Boxed: what is not cached need not carry the room for it.
        Ok(Looked::Hit(found)) => Box::pin(kept::answer(&worker, record, &target, found)).await,
        Ok(Looked::Ask(ask)) => Box::pin(shared::answer(worker, record, request, target, ask)).await,
        Err(fault) => record.refuse(&fault).await,
    }
}

/// By itself: nobody else waits for its answer.
async fn straight(
    worker: Data<Worker>,
    mut record: Record,
    request: HttpRequest,
    target: Target,
) -> HttpResponse {
    match send(&worker, &mut record, &request, target).await {
        Ok(answer) => meter::meter(record, answer).await,
        Err(fault) => record.refuse(&fault).await,
    }
}

/// The right to go upstream.
async fn permit(worker: &Worker, record: &mut Record, target: &Target) -> Result<Pass, Fault> {
    let reserved = reserve::reserve(worker, record, target)?;
    admit::admit(worker, record, target, reserved).await
}

async fn send(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    target: Target,
) -> Result<Answer, Fault> {
    let pass = permit(worker, record, &target).await?;
    forward::forward(worker, record, request, target, pass).await
}
