//! Whether an answer to the same request is kept.
//!
//! Is: the key of a request, and one look. Is not: the wait for an equal request (`shared`). What is not
//! cached passes at the price of one comparison.

use super::record::Record;
use super::resolve::{Parsed, Target};
use super::timing::Stage;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::wire::Route;
use crate::wire::multipart;
use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName};
use actix_web::web::block;
use bytes::Bytes;
use obleth_actors::cache::Entry;
use obleth_core::ledger::CacheState;
use obleth_core::response_cache::{CacheKey, Canonical, LeftOut, Material, Wish};
use std::sync::Arc;
use std::time::Duration;

const X_OBLETH_CACHE_NAMESPACE: HeaderName = HeaderName::from_static("x-obleth-cache-namespace");
/// Longest namespace.
const NAMESPACE_MAX: usize = 128;
/// A body larger than this is brought into its one form on another thread.
const LARGE: usize = 256 * 1024;

/// What the look gave.
#[derive(Debug)]
pub(super) enum Looked {
    /// The cache has nothing to do with it.
    Past,
    Hit(Found),
    /// Nothing is kept: the upstream is to be asked.
    Ask(Ask),
}

/// A kept answer.
#[derive(Debug)]
pub(super) struct Found {
    pub entry: Arc<Entry>,
    pub age: Duration,
}

/// What is looked for, and how its answer may be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub key: CacheKey,
    pub ttl: Duration,
    max_age: Option<Duration>,
    /// The answer may be a call of a tool.
    pub tools: bool,
}

impl Ask {
    /// The answer, if one is kept by now.
    pub fn find(&self, worker: &Worker) -> Option<Found> {
        let found = worker.gateway.handles.cache.find(&self.key, self.ttl, self.max_age);
        found.map(|(entry, age)| Found { entry, age })
    }
}

/// Looks for a kept answer.
pub(super) async fn lookup(
    worker: &Worker,
    record: &mut Record,
    request: &HttpRequest,
    target: &Target,
) -> Result<Looked, Fault> {
    let Some(ttl) = target.model.cache_ttl else { return Ok(Looked::Past) };
    if !worker.gateway.handles.cache.is_on() || record.arrival.route == Route::CountTokens {
        return Ok(Looked::Past);
    }
    record.enter(Stage::Lookup);
    let headers = request.headers();
    let namespace = namespace(headers)?;
    let wish = Wish::of(headers.get_all(CACHE_CONTROL).filter_map(|value| value.to_str().ok()));
    set(record, CacheState::Bypass);
    if wish.no_store {
        return Ok(Looked::Past);
    }
    let Some(body) = canonical(record.arrival.route, headers, target).await? else {
        return Ok(Looked::Past);
    };
    let material = Material {
        tenant: record.caller.tenant.id,
        namespace,
        route: &record.arrival.route.path(),
        query: request.query_string(),
        model: target.model.id,
        upstream: target.model.upstream_mark,
        stream: target.request.stream(),
        headers: &counting_headers(headers),
        body: &body.bytes,
    };
    let ask = Ask { key: material.key(), ttl, max_age: wish.max_age, tools: body.tools };
    set(record, CacheState::Miss);
    Ok(ask.find(worker).map_or(Looked::Ask(ask), Looked::Hit))
}

fn set(record: &mut Record, state: CacheState) {
    record.cache = state;
    record.early.iter().for_each(|early| early.expect(state));
}

/// The part of the tenant's cache that the client names.
fn namespace(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let mut values = headers.get_all(X_OBLETH_CACHE_NAMESPACE);
    let namespace = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
    };
    let fit = |name: &&str| {
        (1..=NAMESPACE_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let message = || format!("must be given once, 1 to {NAMESPACE_MAX} visible ASCII characters");
    let wrong =
        || Fault::new(Code::InvalidRequest, message()).at(X_OBLETH_CACHE_NAMESPACE.as_str().to_owned());
    namespace.filter(fit).map(Some).ok_or_else(wrong)
}

/// Headers that go upstream and by which the known APIs answer differently, in the order of their names.
fn counting_headers(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    let counts = |name: &str| {
        name == ACCEPT.as_str()
            || name == "accept-language"
            || name.starts_with("openai-")
            || name.starts_with("anthropic-")
    };
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut counting: Vec<_> = named.filter(|(name, _)| counts(name)).collect();
    counting.sort_by_key(|(name, _)| *name);
    counting
}

/// The body in its one form; `None` where there is none, or the answer depends on more than the body.
async fn canonical(route: Route, headers: &HeaderMap, target: &Target) -> Result<Option<Canonical>, Fault> {
    let body = Bytes::clone(&target.body);
    let content_type = match &target.request {
        Parsed::Json(_) => None,
        Parsed::Form(_) => headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned),
    };
    let large = body.len() > LARGE;
    let read = move || match content_type {
        Some(content_type) => multipart::canonical(&content_type, &body).map(|bytes| Canonical {
            bytes,
            tools: false,
            stateful: false,
        }),
        None => Canonical::of(&body, &left_out(route)).ok(),
    };
    let form = if large {
        block(read).await.map_err(|_| Fault::new(Code::Restarting, "the body could not be read"))?
    } else {
        read()
    };
    Ok(form.filter(|form| !form.stateful))
}

/// Fields that cannot change an answer on this route. `model` and `stream` count by themselves. On the
/// responses route all others are repeated in the answer.
const fn left_out(route: Route) -> LeftOut {
    let fields: &[&str] = match route {
        Route::ChatCompletions | Route::Completions => &[
            "model",
            "stream",
            "user",
            "metadata",
            "store",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "priority",
        ],
        Route::Messages => &["model", "stream", "metadata", "priority"],
        Route::Responses => &["model", "stream"],
        _ => &["model", "stream", "user", "priority"],
    };
    LeftOut { fields, include_usage: route.usage_must_be_asked() }
}
