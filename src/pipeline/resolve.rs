//! What is asked: the body, read once and shallowly, and the model it names.

use super::authenticate::Caller;
use super::body::{Held, read_body};
use super::deadline::deadline;
use super::ping::Early;
use super::record::{Asked, Record};
use super::timing::Stage;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::wire::multipart::{Form, is_form};
use crate::wire::splice::{Rewrite, Spliced};
use crate::wire::{BodyError, Route, Shape, Weight, goes_beyond_body, runs_in_background};
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::web::block;
use bytes::Bytes;
use obleth_actors::clock::unix_micros;
use obleth_core::moment::Moment;
use obleth_core::registry::{Model, may_use};
use obleth_core::token_budget::BytesPerToken;
use std::sync::Arc;

/// A body larger than this is read on another thread: it would hold up the worker for a millisecond.
const LARGE: usize = 256 * 1024;
/// Tokens of an image, a sound or a file: of the order of one 1024 × 1024 image in high detail.
const TOKENS_PER_MEDIA_PART: u64 = 1024;
/// No tokenizer in use puts more bytes of ordinary text into one token, on average over a prompt.
const MOST_BYTES_PER_TOKEN: u64 = 32;

/// What is asked of which model.
#[derive(Debug)]
pub(super) struct Target {
    pub model: Arc<Model>,
    pub request: Parsed,
    pub body: Bytes,
    /// When a slot is no use to the client any more, as it said itself.
    pub by: Option<Moment>,
    /// The prompt is not in the body alone: the upstream has kept some of it.
    pub continues: bool,
    /// The body counts as held until the upstream has it.
    _held: Held,
}

/// The parts of a body that matter here.
#[derive(Debug)]
pub(super) enum Parsed {
    Json(Box<Shape>),
    Form(Box<Form>),
}

impl Parsed {
    pub fn model(&self) -> &str {
        match self {
            Self::Json(shape) => &shape.model,
            Self::Form(form) => &form.model,
        }
    }

    pub const fn stream(&self) -> bool {
        match self {
            Self::Json(shape) => shape.stream,
            Self::Form(form) => form.stream,
        }
    }

    const fn weight(&self) -> &Weight {
        match self {
            Self::Json(shape) => &shape.weight,
            Self::Form(form) => &form.weight,
        }
    }

    /// Answers the upstream writes.
    pub const fn answers(&self) -> u64 {
        match self {
            Self::Json(shape) => shape.sequences(),
            Self::Form(form) => form.choices,
        }
    }

    /// The bound on one answer's tokens that the client set.
    pub fn output_bound(&self) -> Option<u64> {
        match self {
            Self::Json(shape) => shape.output_bound(),
            Self::Form(_) => None,
        }
    }

    /// Whether the client allows more output tokens than this.
    pub fn allows_more_than(&self, tokens: u64) -> bool {
        match self {
            Self::Json(shape) => shape.allows_more_than(tokens),
            Self::Form(_) => false,
        }
    }

    /// Whether the client asked for the usage of its stream itself.
    pub const fn asked_for_usage(&self) -> bool {
        match self {
            Self::Json(shape) => shape.stream_options.includes_usage(),
            Self::Form(_) => false,
        }
    }

    /// Estimate of the prompt, in tokens.
    fn prompt_tokens(&self, ratio: BytesPerToken) -> u64 {
        let weight = self.weight();
        let media = weight.media_parts.saturating_mul(TOKENS_PER_MEDIA_PART);
        ratio.tokens(weight.text_bytes).saturating_add(weight.token_ids).saturating_add(media)
    }

    /// Bytes of a prompt that is text and nothing else.
    fn text_bytes(&self) -> Option<u64> {
        let weight = self.weight();
        (weight.media_parts == 0 && weight.token_ids == 0).then_some(weight.text_bytes)
    }

    /// Whether something in the prompt is not text, or not known to be.
    pub const fn has_media(&self) -> bool {
        self.weight().unbounded
    }

    /// Items that a template may put a frame around: messages or prompts.
    pub fn framed_items(&self) -> u64 {
        match self {
            Self::Json(shape) => shape.messages.max(shape.inputs),
            Self::Form(_) => 1,
        }
    }

    /// Texts that the upstream reads one by one, each within its window.
    pub const fn inputs(&self) -> u64 {
        match self {
            Self::Json(shape) => shape.inputs,
            Self::Form(_) => 1,
        }
    }

    /// Bytes that the upstream reads more than once.
    pub const fn again(&self) -> u64 {
        match self {
            Self::Json(shape) => shape.again,
            Self::Form(_) => 0,
        }
    }

    /// The highest output bound that the client set, whichever of them the upstream obeys.
    pub fn highest_bound(&self) -> Option<u64> {
        match self {
            Self::Json(shape) => shape.bounds.iter().filter_map(|bound| bound.tokens).max(),
            Self::Form(_) => None,
        }
    }

    /// The prompt has at least this many tokens, whatever the tokenizer.
    const fn fewest_prompt_tokens(&self) -> u64 {
        let weight = self.weight();
        (weight.text_bytes / MOST_BYTES_PER_TOKEN).saturating_add(weight.token_ids)
    }

    /// The body as the upstream gets it; `max_output`: the highest output bound of one answer.
    pub fn rewritten(&self, body: &Bytes, upstream_model: &str, max_output: Option<u64>) -> Spliced {
        match self {
            Self::Json(shape) => {
                let rewrite = Rewrite { upstream_model: Some(upstream_model), ask_usage: true, max_output };
                rewrite.apply(body, shape)
            }
            Self::Form(form) => form.rewrite(body, upstream_model),
        }
    }
}

/// Reads the body and finds its model.
pub(super) async fn resolve(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    payload: Payload,
) -> Result<Target, Fault> {
    record.enter(Stage::Resolve);
    let by = deadline(request.headers(), record.arrival.at)?;
    let now = record.now();
    record.timing.step_out(now);
    let read = read_body(worker, request.headers(), payload).await;
    let now = record.now();
    record.timing.step_in(now);
    let (body, held) = read?;
    let (parsed, continues) = parse(record.arrival.route, request.headers(), &body).await?;
    let registry = worker.gateway.registry.load();
    let model = registry.model_named(parsed.model()).ok_or_else(no_such_model)?;
    record.asked = Some(Asked {
        model: Arc::clone(model),
        stream: parsed.stream(),
        prompt_tokens: estimate(worker, &parsed, model),
        text_bytes: parsed.text_bytes().filter(|_| !continues),
        bytes_in: u64::try_from(body.len()).unwrap_or(u64::MAX),
    });
    tracing::Span::current().record("model", &*model.name);
    permit(&record.caller, model, &parsed)?;
    if parsed.stream() && record.arrival.route.generates() {
        let every = worker.gateway.settings.ping_every;
        record.early = every.map(|every| Early::new(every, Arc::clone(&record.arrival.request_id)));
    }
    Ok(Target { model: Arc::clone(model), request: parsed, body, by, continues, _held: held })
}

/// The prompt in tokens, as far as can be known before the upstream says it: never more than fits.
pub(super) fn estimate(worker: &Worker, parsed: &Parsed, model: &Model) -> u64 {
    let ratio = worker.gateway.handles.budget.bytes_per_token(model.id);
    parsed.prompt_tokens(ratio).min(windows(parsed, model.context_window.unwrap_or(u64::MAX)))
}

/// What fits into the window, for all texts of a request together.
pub(super) const fn windows(parsed: &Parsed, window: u64) -> u64 {
    window.saturating_mul(parsed.inputs())
}

impl Target {
    /// The output bound of one answer, as far as it is known: the client's, the gateway's, the model's.
    pub fn output_bound(&self, record: &Record) -> Option<u64> {
        if !record.arrival.route.generates() {
            return Some(0);
        }
        let own = self.request.output_bound().or(self.model.max_output_tokens);
        own.into_iter().chain(record.max_output).min()
    }

    /// Answers that the upstream writes.
    pub fn answers(&self) -> u32 {
        u32::try_from(self.request.answers()).unwrap_or(u32::MAX)
    }
}

/// Whether the caller may use the model for this request.
pub(super) fn permit(caller: &Caller, model: &Model, request: &Parsed) -> Result<(), Fault> {
    check(caller, model)?;
    if model.context_window.is_some_and(|window| request.fewest_prompt_tokens() > windows(request, window)) {
        return Err(Fault::new(
            Code::ContextLengthExceeded,
            "the prompt is longer than the context window of this model",
        ));
    }
    Ok(())
}

/// Whether the caller may use the model.
fn check(caller: &Caller, model: &Model) -> Result<(), Fault> {
    if !may_use(&caller.tenant, &caller.key, &model.name) {
        return Err(Fault::new(Code::ModelNotAllowed, "this key may not use this model").at("model"));
    }
    if !model.enabled {
        return Err(Fault::new(Code::ModelDisabled, "this model is disabled").at("model"));
    }
    Ok(())
}

/// Caller and model once more after a wait: what was revoked meanwhile holds.
pub(super) fn check_again(worker: &Worker, record: &Record, target: &Target) -> Result<(), Fault> {
    let registry = worker.gateway.registry.load();
    let caller = record.caller.again(&registry, unix_micros())?;
    let model = registry.model(target.model.id).ok_or_else(no_such_model)?;
    check(&caller, model)
}

fn no_such_model() -> Fault {
    Fault::new(Code::ModelNotFound, "there is no model of this name").at("model")
}

/// The body, and whether the upstream makes a prompt of more than it.
async fn parse(route: Route, headers: &HeaderMap, body: &Bytes) -> Result<(Parsed, bool), Fault> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = is_form(content_type).then(|| content_type.to_owned());
    if form.is_some() && !matches!(route, Route::Audio(_) | Route::Images(_)) {
        return Err(Fault::new(Code::InvalidRequest, "the body of this route is JSON, not a form"));
    }
    let bytes = Bytes::clone(body);
    let read = move || {
        let parsed = match form {
            Some(content_type) => Form::read(route, &content_type, &bytes).map(Box::new).map(Parsed::Form),
            None => Shape::read(route, &bytes).map(Box::new).map(Parsed::Json),
        };
        parsed.map(|parsed| (parsed, goes_beyond_body(route, &bytes)))
    };
    let parsed = if body.len() > LARGE {
        block(read).await.map_err(|_| Fault::new(Code::Restarting, "the body could not be read"))?
    } else {
        read()
    };
    let parsed = parsed.map_err(|error| refused(&error))?;
    if runs_in_background(route, body) {
        // Its answer would be fetched later, on a route that there is not, and nobody would be charged for it.
        let text = "`background` is not supported: the answer comes with the request";
        return Err(Fault::new(Code::InvalidRequest, text).at("background"));
    }
    Ok(parsed)
}

fn refused(error: &BodyError) -> Fault {
    let code = match error {
        BodyError::ModelMissing => Code::ModelRequired,
        _ => Code::InvalidRequest,
    };
    let fault = Fault::new(code, error.to_string());
    match error.param() {
        Some(param) => fault.at(param),
        None => fault,
    }
}
