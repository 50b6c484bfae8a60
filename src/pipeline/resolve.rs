//! What is asked: the body, read once and shallowly, and the model it names.

use super::record::{Asked, Record};
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::wire::multipart::{Form, is_form};
use crate::wire::splice::{Rewrite, Spliced};
use crate::wire::{BodyError, Route, Shape, Weight};
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::block;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use obleth_core::registry::{Model, may_use};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Longest pause between two pieces of a request body.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// A body larger than this is read on another thread: it would hold up the worker for a millisecond.
const LARGE: usize = 256 * 1024;
/// Room made for a body before it is here: what a client announces is not yet sent.
const RESERVED: usize = 1 << 20;
/// Bytes of text that make a token, while nothing better is known.
const BYTES_PER_TOKEN: u64 = 4;
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

    /// Whether the client asked for the usage of its stream itself.
    pub const fn asked_for_usage(&self) -> bool {
        match self {
            Self::Json(shape) => shape.stream_options.includes_usage(),
            Self::Form(_) => false,
        }
    }

    /// Estimate of the prompt, in tokens.
    fn prompt_tokens(&self) -> u64 {
        let weight = self.weight();
        let media = weight.media_parts.saturating_mul(TOKENS_PER_MEDIA_PART);
        weight.text_bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(weight.token_ids).saturating_add(media)
    }

    /// The prompt has at least this many tokens, whatever the tokenizer.
    const fn fewest_prompt_tokens(&self) -> u64 {
        let weight = self.weight();
        (weight.text_bytes / MOST_BYTES_PER_TOKEN).saturating_add(weight.token_ids)
    }

    /// The body as the upstream gets it.
    pub fn rewritten(&self, body: &Bytes, upstream_model: &str) -> Spliced {
        match self {
            Self::Json(shape) => {
                let rewrite =
                    Rewrite { upstream_model: Some(upstream_model), ask_usage: true, max_output: None };
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
    let body = read_body(worker, request.headers(), payload).await?;
    let parsed = parse(record.arrival.route, request.headers(), &body).await?;
    let registry = worker.gateway.registry.load();
    let model = registry.model_named(parsed.model()).ok_or_else(no_such_model)?;
    record.asked = Some(Asked {
        model: Arc::clone(model),
        stream: parsed.stream(),
        prompt_tokens: parsed.prompt_tokens(),
        bytes_in: u64::try_from(body.len()).unwrap_or(u64::MAX),
    });
    tracing::Span::current().record("model", &*model.name);
    if !may_use(&record.caller.tenant, &record.caller.key, &model.name) {
        return Err(Fault::new(Code::ModelNotAllowed, "this key may not use this model").at("model"));
    }
    if !model.enabled {
        return Err(Fault::new(Code::ModelDisabled, "this model is disabled").at("model"));
    }
    if model.context_window.is_some_and(|window| parsed.fewest_prompt_tokens() > window) {
        return Err(Fault::new(
            Code::ContextLengthExceeded,
            "the prompt is longer than the context window of this model",
        ));
    }
    Ok(Target { model: Arc::clone(model), request: parsed, body })
}

fn no_such_model() -> Fault {
    Fault::new(Code::ModelNotFound, "there is no model of this name").at("model")
}

async fn read_body(worker: &Worker, headers: &HeaderMap, mut payload: Payload) -> Result<Bytes, Fault> {
    let limit = worker.gateway.settings.max_body_bytes;
    let too_large = || Fault::new(Code::BodyTooLarge, format!("the body is larger than {limit} bytes"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let until = Some(Instant::now() + BODY_IDLE);
        let chunk = match worker.gateway.lifecycle.watch(until, payload.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Err(Interrupted::TimedOut) => {
                return Err(Fault::new(Code::InvalidRequest, "the body did not arrive in time"));
            }
            Err(Interrupted::Cut) => return Err(Fault::new(Code::Draining, "the gateway is shutting down")),
        };
        if first.len() + rest.len() + chunk.len() > limit {
            return Err(too_large());
        }
        if first.is_empty() && rest.is_empty() {
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(0).min(RESERVED).max(first.len() + chunk.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&chunk);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// What a break in the middle of a body means: most of the time, that the client left.
fn broken(error: &PayloadError) -> Fault {
    match error {
        PayloadError::Incomplete(_) | PayloadError::Io(_) => {
            Fault::new(Code::ClientLeft, "the client left in the middle of its body")
        }
        _ => Fault::new(Code::InvalidRequest, "the body is not framed as HTTP/1.1 wants it"),
    }
}

async fn parse(route: Route, headers: &HeaderMap, body: &Bytes) -> Result<Parsed, Fault> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = is_form(content_type).then(|| content_type.to_owned());
    let bytes = Bytes::clone(body);
    let read = move || match form {
        Some(content_type) => Form::read(route, &content_type, &bytes).map(Box::new).map(Parsed::Form),
        None => Shape::read(route, &bytes).map(Box::new).map(Parsed::Json),
    };
    let parsed = if body.len() > LARGE {
        block(read).await.map_err(|_| Fault::new(Code::Restarting, "the body could not be read"))?
    } else {
        read()
    };
    parsed.map_err(|error| refused(&error))
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
