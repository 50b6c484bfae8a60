//! What a brownout does to one request, and how it says so.
//!
//! Is: the effects of the steps. Is not: when a step is taken (`obleth_core::brownout`), or who waits.

use super::record::Record;
use super::resolve::Target;
use crate::app::Worker;
use actix_web::http::header::HeaderValue;
use obleth_core::brownout::Step;
use obleth_core::ledger::Admission;

/// What was done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimmed {
    /// Its output bound was lowered to this.
    Shortened(u64),
    /// It was refused.
    Shed,
}

impl Dimmed {
    /// The step that did it.
    pub const fn step(self) -> Step {
        match self {
            Self::Shortened(_) => Step::CapTokens,
            Self::Shed => Step::Shed,
        }
    }

    /// The value of `x-obleth-brownout`.
    pub fn header(self) -> HeaderValue {
        match self {
            Self::Shortened(tokens) => HeaderValue::try_from(format!("max_tokens={tokens}"))
                .unwrap_or_else(|_| HeaderValue::from_static("max_tokens")),
            Self::Shed => HeaderValue::from_static("shed"),
        }
    }
}

/// Lowers the output bound of a request that has just got its slot, if its pool is under pressure and its
/// tenant's policy says so. One that is as short already is left as it is.
pub(super) fn shorten(worker: &Worker, record: &mut Record, target: &Target) {
    let tenant = record.caller.tenant.id;
    let Some(cap) = worker.gateway.handles.fairshare.output_cap(tenant, target.model.id) else { return };
    let own = record.max_output.is_some_and(|own| own <= cap);
    // What the model does not exceed anyway needs no bound.
    let short = target.request.output_bound().is_none()
        && target.model.max_output_tokens.is_some_and(|most| most <= cap);
    if own || short || !target.request.allows_more_than(cap) {
        return;
    }
    record.bound_output(cap);
    record.brownout = Some(Dimmed::Shortened(cap));
    record.admission = Admission::Brownout;
}

/// The forecast of the answers, no longer than they may be now.
pub(super) fn forecast(record: &Record, target: &Target, forecast: u64) -> u64 {
    match record.brownout {
        Some(Dimmed::Shortened(cap)) => forecast.min(cap.saturating_mul(target.request.answers())),
        _ => forecast,
    }
}
