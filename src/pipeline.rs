//! The way of a request on a model route, as a list of stages. Each takes the proof of the one before, so
//! that none can be skipped: `Caller` → `Target` → `Looked` → `Reserved` → `Pass` → `Answer` → the answer to the
//! client. A fallback goes the way from `Reserved` on once more.

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
mod fallback;
mod forward;
mod headers;
mod kept;
mod lookup;
mod mcp;
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
pub use arrival::{Arrival, Verb, request_id_of};
pub use authenticate::{Caller, authenticate, bearer};
use fallback::{Attempts, Outcome};
pub(crate) use headers::upstream_headers;
use lookup::Looked;
pub(crate) use mcp::{janitor, run as mcp};
pub(crate) use meter::names_missing_model;
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
    mut record: Box<Record>,
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
    record: Box<Record>,
    request: HttpRequest,
    target: Target,
) -> HttpResponse {
    let attempts = Attempts::of(&target);
    onward(worker, record, request, target, attempts).await
}

/// From what was tried so far to the answer: other models take their turns while one fails.
async fn onward(
    worker: Data<Worker>,
    mut record: Box<Record>,
    request: HttpRequest,
    mut target: Target,
    mut attempts: Attempts,
) -> HttpResponse {
    let outcome = loop {
        if let Some(outcome) = attempts.judge(&worker, &mut record, &mut target) {
            break outcome;
        }
        attempts.tried(attempt(&worker, &mut record, &request, &target).await);
    };
    match outcome {
        Ok(answer) => meter::meter(record, answer).await,
        Err(fault) => record.refuse(&fault).await,
    }
}

/// One model's turn.
async fn attempt(worker: &Worker, record: &mut Record, request: &HttpRequest, target: &Target) -> Outcome {
    let pass = permit(worker, record, target).await?;
    fallback::attempt(worker, record, request, target, pass).await
}

/// The right to go upstream.
async fn permit(worker: &Worker, record: &mut Record, target: &Target) -> Result<Pass, Fault> {
    fallback::look(worker, target)?;
    let reserved = reserve::reserve(worker, record, target).await?;
    let pass = admit::admit(worker, record, target, reserved).await?;
    // Asked again: it may have opened while the request waited. The seat then goes back untouched.
    fallback::begin(worker, record, target)?;
    Ok(pass)
}
