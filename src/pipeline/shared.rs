//! Equal requests at the same time: one asks the upstream, all get the answer.
//!
//! Is: the way of a request that found nothing kept, as a leader or as a follower. Is not: who leads
//! (`obleth_core::response_cache`), or the buffer between them (`obleth_actors::cache`). Until it is sent the
//! leader is a request like any other: budget, queue and deadline are its own, and if it ends there the next one
//! leads. Once it is sent the call belongs to nobody's connection: it runs in a task, and the leader's client
//! reads the answer as the others do. Another model's answer is shared with nobody: where the model fails, or its
//! breaker is open, each goes on by itself, to the fallbacks that its own key may use.

use super::admit::{Pass, is_clients, limit, open};
use super::fallback::{self, Attempts};
use super::kept;
use super::lookup::Ask;
use super::record::Record;
use super::resolve::{Target, check_again};
use super::{onward, permit, straight};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::cache::{Follower, Joined, Lead, Reader, Told};
use obleth_core::ledger::CacheState;

mod fly;
mod view;

use fly::{Course, fly};
use view::{Apart, Viewer};

/// Answers a request for which nothing is kept.
pub(super) async fn answer(
    worker: Data<Worker>,
    mut record: Box<Record>,
    request: HttpRequest,
    target: Target,
    ask: Ask,
) -> HttpResponse {
    loop {
        let lead = match worker.gateway.handles.cache.join(ask.key, target.model.id) {
            Joined::Alone => return straight(worker, record, request, target).await,
            Joined::Lead(lead) => lead,
            Joined::Follow(follower) => match follow(&worker, &mut record, &target, follower).await {
                Ok(Followed::Leads(lead)) => lead,
                Ok(Followed::Reads(reader)) => {
                    return read(worker, request, Viewer::of_follower(record, reader, target)).await;
                }
                Ok(Followed::Again) => continue,
                Err(fault) => return record.refuse(&fault).await,
            },
        };
        // A flight that ended between the look and now has left its answer.
        if let Some(found) = ask.find(&worker) {
            drop(lead);
            return kept::answer(&worker, record, &target, found).await;
        }
        return ahead(worker, record, request, target, ask, lead).await;
    }
}

/// What became of a follower.
enum Followed {
    Leads(Lead),
    Reads(Reader),
    /// A contained fault: it asks once more.
    Again,
}

/// Waits until the leader's request was sent, or the lead is this one's.
async fn follow(
    worker: &Worker,
    record: &mut Record,
    target: &Target,
    mut follower: Follower,
) -> Result<Followed, Fault> {
    let gateway = &worker.gateway;
    let own = limit(worker, record);
    let until = target.by.map_or(own, |by| by.min(own));
    let now = record.now();
    record.timing.step_out(now);
    let early = |waits| record.early.iter().for_each(|early| early.wait(waits));
    record.early.iter().for_each(|early| early.expect(CacheState::Coalesced));
    early(true);
    let told = gateway.lifecycle.watch(Some(gateway.clock.instant(until)), follower.told()).await;
    early(false);
    match told {
        Ok(Some(Told::Lead(lead))) => {
            let now = record.now();
            record.timing.step_in(now);
            record.early.iter().for_each(|early| early.expect(CacheState::Miss));
            Ok(Followed::Leads(lead))
        }
        Ok(Some(Told::Sent)) => {
            check_again(worker, record, target)?;
            record.cache = CacheState::Coalesced;
            open(worker, record)?;
            Ok(Followed::Reads(follower.reader()))
        }
        Ok(None) => Ok(Followed::Again),
        Err(Interrupted::TimedOut) if is_clients(worker, record, target) => {
            let message = "the answer to an equal request was not begun before the request's own deadline";
            Err(Fault::new(Code::DeadlineUnreachable, message))
        }
        Err(Interrupted::TimedOut) => {
            Err(Fault::new(Code::AdmissionTimeout, "an equal request did not get a slot in time"))
        }
        Err(Interrupted::Cut) => Err(Fault::new(Code::Draining, "the gateway is shutting down")),
    }
}

/// Reads the answer that is shared, or goes on by itself where there is none to share.
async fn read(worker: Data<Worker>, request: HttpRequest, viewer: Viewer) -> HttpResponse {
    match viewer.answer().await {
        Ok(answer) => answer,
        Err(apart) => {
            let Apart { record, target, attempts } = *apart;
            onward(worker, record, request, target, attempts).await
        }
    }
}

/// Leads: gets the right to go upstream, sends the request, and reads its answer.
async fn ahead(
    worker: Data<Worker>,
    mut record: Box<Record>,
    request: HttpRequest,
    target: Target,
    ask: Ask,
    lead: Lead,
) -> HttpResponse {
    let pass = match permit(&worker, &mut record, &target).await {
        Ok(pass) => pass,
        Err(fault) => {
            drop(lead);
            let attempts = Attempts::after(&target, Err(fault));
            return onward(worker, record, request, target, attempts).await;
        }
    };
    if is_changed(&record, &target) {
        drop(lead);
        return alone(worker, record, request, target, pass).await;
    }
    let Some((flight, reader)) = lead.send() else {
        return alone(worker, record, request, target, pass).await;
    };
    let (viewer, leader) = Viewer::of_leader(&mut record, reader, &target);
    record.note = Some(flight.note());
    let own = (Data::clone(&worker), request.clone());
    actix_rt::spawn(fly(record, Course { worker, request, target, pass, ask, leader }, flight));
    let (worker, request) = own;
    read(worker, request, viewer).await
}

/// Whether what goes upstream is not what was asked: then nobody else is to have the answer. A bound that is the
/// model's own changes nothing.
fn is_changed(record: &Record, target: &Target) -> bool {
    let own = target.model.max_output_tokens;
    record.brownout.is_some() || record.max_output.is_some_and(|bound| own != Some(bound))
}

/// Goes upstream by itself with the right that it has.
async fn alone(
    worker: Data<Worker>,
    mut record: Box<Record>,
    request: HttpRequest,
    target: Target,
    pass: Pass,
) -> HttpResponse {
    let outcome = fallback::attempt(&worker, &mut record, &request, &target, pass).await;
    let attempts = Attempts::after(&target, outcome);
    onward(worker, record, request, target, attempts).await
}
