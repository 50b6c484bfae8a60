//! The models a request may go to: the one it asks for, and its fallbacks while that one fails.
//!
//! Is: the order of attempts, what counts as an upstream's failure, and what is said of it to the breaker. Is
//! not: an attempt itself (budget, admission, one upstream call). Each fallback is tried once at most; fallbacks of
//! fallbacks are not looked at, so there is no cycle. A request that was refused here, whatever the reason, is
//! not an upstream's failure and does not fall back. Nothing of an answer has left when an attempt is given up.
//! Invariant: an attempt reserves at the price of its own model; what one had is given back before the next reserves.

use super::admit::Pass;
use super::forward::{Answer, forward, refuse_operator_faults};
use super::record::Record;
use super::resolve::{Target, estimate, permit};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::metrics::Failure;
use actix_web::HttpRequest;
use obleth_core::fair_queue::Spent;
use obleth_core::registry::Model;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt went.
pub(super) type Outcome = Result<Answer, Fault>;

/// Whether the model's upstream is worth a budget and the wait for a seat.
pub(super) fn look(worker: &Worker, target: &Target) -> Result<(), Fault> {
    worker.gateway.health.look(&target.model).map_err(circuit_open)
}

/// The right to send the request to the model's upstream now.
pub(super) fn begin(worker: &Worker, record: &mut Record, target: &Target) -> Result<(), Fault> {
    record.trial = Some(worker.gateway.health.attempt(&target.model).map_err(circuit_open)?);
    Ok(())
}

/// Sends the request to its model, and tells the model's breaker how that went.
pub(super) async fn attempt(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    target: &Target,
    pass: Pass,
) -> Outcome {
    let outcome = forward(worker, record, request, target, pass).await;
    match (failure(&outcome), &outcome) {
        (Some(failure), _) => record.upstream_failed(failure),
        (None, Ok(_)) => record.trial.iter_mut().for_each(|trial| trial.answered()),
        (None, Err(_)) => {}
    }
    let answer = outcome?;
    refuse_operator_faults(&target.model, &answer.response)?;
    Ok(answer)
}

fn circuit_open(wait: Duration) -> Fault {
    let message = "the upstream of this model has failed too often; it is tried again later";
    Fault::new(Code::UpstreamCircuitOpen, message).retry_after(wait)
}

/// What the outcome says against the upstream. Its own 4xx, and a 5xx that is no failure of its own (501),
/// say nothing: it works.
fn failure(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Ok(answer) => {
            matches!(answer.response.status().as_u16(), 500 | 502 | 503 | 504).then_some(Failure::Status)
        }
        Err(fault) => match fault.code {
            Code::UpstreamUnreachable => Some(Failure::Connect),
            Code::UpstreamTimeout => Some(Failure::Timeout),
            Code::UpstreamError => Some(Failure::Broken),
            _ => None,
        },
    }
}

/// The attempts of one request.
#[derive(Debug)]
pub(super) struct Attempts {
    /// The model that was asked for.
    asked: Arc<Model>,
    /// How many of its fallbacks were looked at.
    looked_at: usize,
    /// The attempt that is not judged yet.
    last: Option<Outcome>,
    /// That one was an equal request's: its upstream failed before an answer began.
    elsewhere: bool,
    /// The last attempt that failed, and its model: answered if no other model is to be had.
    kept: Option<(Arc<Model>, Outcome)>,
}

impl Attempts {
    /// Nothing was tried yet.
    pub fn of(target: &Target) -> Self {
        Self { asked: Arc::clone(&target.model), looked_at: 0, last: None, elsewhere: false, kept: None }
    }

    /// The model that was asked for had its turn.
    pub fn after(target: &Target, outcome: Outcome) -> Self {
        Self { last: Some(outcome), ..Self::of(target) }
    }

    /// The model that was asked for has failed an equal request, and so this one.
    pub fn after_another(target: &Target, fault: Fault) -> Self {
        Self { elsewhere: true, ..Self::after(target, Err(fault)) }
    }

    /// A model had its turn.
    pub fn tried(&mut self, outcome: Outcome) {
        self.last = Some(outcome);
    }

    /// What becomes of the last attempt: an answer to the request, or, with `target` and `record` turned to it,
    /// another model's attempt.
    pub fn judge(&mut self, worker: &Worker, record: &mut Record, target: &mut Target) -> Option<Outcome> {
        let outcome = self.last.take()?;
        let own = record.trial.take_if(|trial| trial.has_failed()).is_some();
        let failed = std::mem::take(&mut self.elsewhere) || own;
        let refused = outcome.as_ref().err().map(|fault| fault.code);
        if failed || (self.kept.is_none() && refused == Some(Code::UpstreamCircuitOpen)) {
            // What a brownout has changed is not what was asked for: another model would not be given it either.
            if self.asked.fallbacks.is_empty() || record.brownout.is_some() {
                return Some(outcome);
            }
            self.kept = Some((Arc::clone(&target.model), outcome));
        } else if self.kept.is_none() || !refused.is_some_and(is_of_the_model) {
            return Some(outcome);
        }
        match self.next(worker, record, target) {
            Some(model) => {
                self.turn_to(worker, record, target, &model);
                None
            }
            None => {
                let (model, outcome) = self.kept.take()?;
                self.turn_to(worker, record, target, &model);
                Some(outcome)
            }
        }
    }

    /// The next fallback that the caller may use for this request.
    fn next(&mut self, worker: &Worker, record: &Record, target: &Target) -> Option<Arc<Model>> {
        let registry = worker.gateway.registry.load();
        while let Some(name) = self.asked.fallbacks.get(self.looked_at) {
            let before = self.asked.fallbacks.get(..self.looked_at).unwrap_or_default();
            let known = |name: &str| registry.model_named(name);
            self.looked_at += 1;
            let Some(model) = known(name).filter(|model| model.id != self.asked.id) else { continue };
            // Two names may mean one model.
            let again = before.iter().any(|other| known(other).is_some_and(|other| other.id == model.id));
            if !again && permit(&record.caller, model, &target.request).is_ok() {
                return Some(Arc::clone(model));
            }
        }
        None
    }

    /// From here on the request is one of this model.
    fn turn_to(&self, worker: &Worker, record: &mut Record, target: &mut Target, model: &Arc<Model>) {
        if target.model.id != model.id {
            give_back(record);
        }
        target.model = Arc::clone(model);
        record.fell_back = (model.id != self.asked.id).then(|| Arc::clone(&self.asked));
        if let Some(asked) = &mut record.asked {
            asked.model = Arc::clone(model);
            asked.prompt_tokens = estimate(worker, &target.request, model);
        }
    }
}

/// What an attempt has of queue and budgets, and what they made of the request, is none of the next one.
fn give_back(record: &mut Record) {
    if let Some(seat) = record.seat.take() {
        seat.settle(Spent::Nothing);
    }
    record.hold = None;
    record.warnings.clear();
    record.max_output = None;
    record.brownout = None;
}

/// Whether a fallback refused the request for reasons of its own pool, price or upstream; another may take it.
const fn is_of_the_model(code: Code) -> bool {
    matches!(
        code,
        Code::UpstreamCircuitOpen
            | Code::BudgetExhausted
            | Code::BudgetReserved
            | Code::TokensPerMinute
            | Code::RequestsPerMinute
            | Code::RequestExceedsLimit
            | Code::TenantQueueFull
            | Code::AdmissionTimeout
            | Code::DeadlineUnreachable
            | Code::Overloaded
            | Code::ModelNotFound
            | Code::ModelDisabled
            | Code::ModelNotAllowed
    )
}
