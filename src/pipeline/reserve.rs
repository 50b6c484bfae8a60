//! The budgets: a hold over everything that limits tenant and key, or a typed refusal, before the queue.

use super::record::Record;
use super::resolve::{Target, windows};
use super::timing::Stage;
use crate::app::Worker;
use crate::error::{Code, Fault, Quantity, SpentBudget};
use crate::http::budgets::rfc3339;
use crate::wire::Route;
use obleth_actors::budget::NoHold;
use obleth_core::registry::{Prices, Registry};
use obleth_core::token_budget::{
    Demand, Exhausted, LEAST_OUTPUT, Limits, Minute, Most, Output, Refusal, UnitPrices, Warning, What,
};
use std::time::Duration;

/// Tokens that a template may put around a message, at most.
const FRAME: u64 = 64;
/// The context window of a model that names none, where the whole window counts.
const WINDOW: u64 = 131_072;
/// The output bound that is set where neither client nor model have one.
const USUAL_OUTPUT: u64 = 4096;

/// The budgets have what they need: the hold is with the record.
#[derive(Debug)]
pub(super) struct Reserved(());

/// Reserves for a request.
pub(super) async fn reserve(
    worker: &Worker,
    record: &mut Record,
    target: &Target,
) -> Result<Reserved, Fault> {
    record.enter(Stage::Reserve);
    if record.arrival.route == Route::CountTokens {
        return Ok(Reserved(()));
    }
    let budget = &worker.gateway.handles.budget;
    let registry = worker.gateway.registry.load();
    let asking = demand(worker, &registry, record, target);
    let reserved = match budget.reserve(&asking) {
        Err(NoHold::Short(lacking)) => {
            // Other replicas have a part in it, and may have to give some back.
            let registry = arc_swap::Guard::into_inner(registry);
            let asking = demand(worker, &registry, record, target);
            Box::pin(budget.obtain(&asking, lacking)).await
        }
        other => other,
    };
    match reserved {
        Ok(hold) => {
            if let Some(bound) = hold.granted().set_output {
                record.bound_output(bound);
            }
            record.warnings.clone_from(&hold.granted().warnings);
            record.hold = Some(hold);
            warn(worker, record);
            Ok(Reserved(()))
        }
        Err(NoHold::Refused(refusal)) => {
            let fault = fault_of(refusal);
            worker.metrics.budget_rejection(fault.code.name());
            Err(fault)
        }
        Err(other) => Err(unreserved(&other)),
    }
}

/// Nothing was reserved, through no fault of the tenant's.
pub(super) fn unreserved(why: &NoHold) -> Fault {
    match why {
        NoHold::Refused(refusal) => fault_of(*refusal),
        NoHold::Restarting => Fault::new(Code::Restarting, "the budgets were restarted after a fault"),
        NoHold::Away | NoHold::Short(_) => {
            Fault::new(Code::StoreUnavailable, "the budgets that replicas share cannot be reached")
        }
    }
}

/// The limits are those of now: one that was changed while the body was on its way holds.
fn demand<'a>(worker: &Worker, registry: &'a Registry, record: &'a Record, target: &Target) -> Demand<'a> {
    let caller = &record.caller;
    let tenant = registry.tenant(caller.tenant.id).unwrap_or(&caller.tenant);
    let key = registry.key(caller.key.id).unwrap_or(&caller.key);
    let (tenant_limits, key_limits) = (&tenant.limits, &key.limits);
    let prompt = record.prompt_tokens();
    let limited = !tenant_limits.is_empty() || !key_limits.is_empty();
    let forecast = if limited { prompt.saturating_add(expected(worker, record, target)) } else { prompt };
    Demand {
        tenant: tenant.id,
        tenant_limits,
        key: key.id,
        key_limits,
        arrival: record.arrival.unix_micros,
        prompt,
        forecast,
        most: most(record, target, [tenant_limits, key_limits]),
        prices: prices(&target.model.price),
        asked: false,
    }
}

/// What the scheduler expects of the answers.
fn expected(worker: &Worker, record: &Record, target: &Target) -> u64 {
    let (tenant, model) = (record.caller.tenant.id, target.model.id);
    let bound = target.output_bound(record);
    worker.gateway.handles.fairshare.expected_output(tenant, model, bound, target.answers())
}

/// The dearest that a token can be: a cached one may cost more than one that is not.
fn prices(prices: &Prices) -> UnitPrices {
    let pico = |price: obleth_core::units::Price| u64::try_from(price.pico()).unwrap_or(0);
    UnitPrices {
        prompt: prices.input.max(prices.cached_input).map_or(0, pico),
        output: prices.output.map_or(0, pico),
    }
}

/// The most that the request can use. Asked for only where a hard budget applies.
fn most(record: &Record, target: &Target, limits: [&Limits; 2]) -> Most {
    let answers = target.request.answers();
    if !limits.iter().any(|limits| limits.has_hard()) {
        return Most { prompt: 0, output: Output::Given(0), answers };
    }
    let prompt = most_prompt(target);
    let window = target.model.context_window;
    let output = match (record.arrival.route, target.request.highest_bound()) {
        (route, Some(bound)) if route.generates() => Output::Given(bound),
        (route, None) if route.generates() => Output::Open { at_most: usual_output(record, target, prompt) },
        // Sound and pictures are no text: what they count as is as unknown as for a prompt.
        (Route::Audio(_) | Route::Images(_), _) => {
            Output::Given(target.model.max_output_tokens.or(window).unwrap_or(WINDOW))
        }
        _ => Output::Given(0),
    };
    Most { prompt, output, answers }
}

/// No tokenizer makes more tokens of a text than it has bytes. What is not text may fill the whole window.
fn most_prompt(target: &Target) -> u64 {
    let window = target.model.context_window;
    let fits = |window| windows(&target.request, window);
    if target.request.has_media() || target.continues {
        return fits(window.unwrap_or(WINDOW));
    }
    let bytes = u64::try_from(target.body.len()).unwrap_or(u64::MAX);
    let frames = target.request.framed_items().max(1).saturating_mul(FRAME);
    bytes.saturating_add(target.request.again()).saturating_add(frames).min(window.map_or(u64::MAX, fits))
}

/// The output bound to set, if the budget leaves as much. Many upstreams refuse one that does not fit into the window
/// beside the prompt, so room for the prompt is left: by its estimate and a quarter, which is nearer than what it may
/// be at most.
fn usual_output(record: &Record, target: &Target, most_prompt: u64) -> u64 {
    let estimate = record.prompt_tokens();
    let prompt = estimate.saturating_add(estimate / 4).min(most_prompt);
    let room = target.model.context_window.map_or(u64::MAX, |window| window.saturating_sub(prompt));
    target.model.max_output_tokens.unwrap_or(USUAL_OUTPUT).min(room).max(LEAST_OUTPUT)
}

/// Counts warnings, and logs the first one of a period.
fn warn(worker: &Worker, record: &Record) {
    for warning in &record.warnings {
        let Warning { scope, period, what, used, limit, first } = *warning;
        worker.gateway.handles.budget.count_warning(scope, period);
        if first {
            let (tenant, key) = (record.caller.tenant.id, record.caller.key.id);
            let (scope, period) = (scope.as_str(), period.as_str());
            let unit = if what == What::Tokens { "tokens" } else { "usd" };
            let (used, limit) = (Quantity::of(what, used), Quantity::of(what, limit));
            tracing::warn!(target: "obleth::budget", %tenant, %key, scope, period, unit, %used, %limit,
                "a request may pass a budget that is not hard");
        }
    }
}

pub(super) fn fault_of(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Short => unreserved(&NoHold::Away),
        Refusal::TooLarge { scope, limit } => Fault::new(
            Code::RequestExceedsLimit,
            format!("the prompt is larger than the {limit} tokens that this {} has a minute", scope.as_str()),
        ),
        Refusal::Exhausted(exhausted) => spent(&exhausted),
        Refusal::Reserved { scope, period } => {
            let (scope, period) = (scope.as_str(), period.as_str());
            let text =
                format!("running requests have reserved what is left of the {period} budget of this {scope}");
            Fault::new(Code::BudgetReserved, text).retry_after(Duration::from_secs(1))
        }
        Refusal::Minute { scope, minute, limit, retry_after } => {
            let (code, unit) = match minute {
                Minute::Tokens => (Code::TokensPerMinute, "tokens"),
                Minute::Requests => (Code::RequestsPerMinute, "requests"),
            };
            Fault::new(code, format!("this {} has {limit} {unit} a minute", scope.as_str()))
                .retry_after(retry_after)
        }
    }
}

fn spent(exhausted: &Exhausted) -> Fault {
    let Exhausted { scope, period, what, limit, used, needed, resets_at } = *exhausted;
    let quantity = |amount| Quantity::of(what, amount);
    let budget = SpentBudget {
        scope: scope.as_str(),
        period,
        unit: if what == What::Tokens { "tokens" } else { "usd" },
        limit: quantity(limit),
        used: quantity(used),
        left: quantity(limit.saturating_sub(used)),
        needed: quantity(needed),
        resets_at: resets_at.map(rfc3339),
    };
    let (scope, period) = (scope.as_str(), period.as_str());
    let text = format!("the {period} budget of this {scope} leaves less than the request may use");
    Fault { budget: Some(Box::new(budget)), ..Fault::new(Code::BudgetExhausted, text) }
}
