//! Which headers pass, in both directions (contract §2).

use super::rates;
use super::record::Record;
use super::timing::{SERVER_TIMING, Timing};
use crate::app::Settings;
use crate::error::X_REQUEST_ID;
use crate::traces::Context;
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use obleth_core::ledger::{Admission, CacheState};
use obleth_core::moment::Moment;
use obleth_core::registry::Model;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use secrecy::ExposeSecret;

const X_OBLETH_ADMISSION: HeaderName = HeaderName::from_static("x-obleth-admission");
const X_OBLETH_QUEUE_MS: HeaderName = HeaderName::from_static("x-obleth-queue-ms");
const X_OBLETH_MAX_TOKENS: HeaderName = HeaderName::from_static("x-obleth-max-tokens");
const X_OBLETH_BROWNOUT: HeaderName = HeaderName::from_static("x-obleth-brownout");
const X_OBLETH_MODEL: HeaderName = HeaderName::from_static("x-obleth-model");
const X_OBLETH_CACHE: HeaderName = HeaderName::from_static("x-obleth-cache");

/// Headers that concern one connection only (RFC 9110 §7.6.1), or the framing of a message.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
    )
}

/// Headers of a client that never reach an upstream: those above, our credentials, what steers an Aibrix
/// gateway, and what the client cannot know (the answer must be readable here, so no compression).
fn is_kept_from_upstream(name: &str) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name,
            "host"
                | "expect"
                | "accept-encoding"
                | "authorization"
                | "x-api-key"
                | "x-request-id"
                | "x-session-id"
                | "user"
                | "routing-strategy"
                | "config-profile"
                | "external-filter"
                | "x-aibrix-session-key"
                | "model"
                | "target-pod"
        )
        || name.starts_with("x-obleth-")
}

/// Headers of an upstream that never reach a client.
fn is_kept_from_client(name: &str) -> bool {
    is_hop_by_hop(name)
        || name == "x-request-id"
        || ["target-pod", "x-error-", "x-went-into-", "x-update-", "x-obleth-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Names listed in `Connection`: they too concern one connection only.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(CONNECTION).filter_map(|value| value.to_str().ok());
    let names = lists.flat_map(|list| list.split(',')).map(str::trim);
    names
        .filter(|name| !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .collect()
}

/// What any upstream gets of a client's headers, and which request this is.
pub(super) fn passed_on(client: &HeaderMap, request_id: &str, trace: Option<&Context>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(client.len() + 2);
    let dropped = named_by_connection(client);
    for (name, value) in client {
        if !is_kept_from_upstream(name.as_str()) && !dropped.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    if let Some(trace) = trace {
        trace.pass_on(&mut headers);
    }
    headers
}

/// The headers of the request upstream.
pub(crate) fn upstream_headers(
    settings: &Settings,
    client: &HeaderMap,
    model: &Model,
    request_id: &str,
    trace: Option<&Context>,
) -> HeaderMap {
    let mut headers = passed_on(client, request_id, trace);
    match &model.api_key {
        Some(key) => {
            if let Ok(value) = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())) {
                headers.insert(AUTHORIZATION, value);
            }
        }
        None if settings.upstream.forward_authorization => {
            if let Some(value) = client.get(AUTHORIZATION) {
                headers.insert(AUTHORIZATION, value.clone());
            }
        }
        None => {}
    }
    for (name, value) in &model.upstream_headers {
        let name = HeaderName::try_from(&**name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.expose_secret())) {
            headers.insert(name, value);
        }
    }
    headers
}

/// Copies what passes of an upstream's headers.
pub(super) fn client_headers(upstream: &HeaderMap, client: &mut HeaderMap) {
    let dropped = named_by_connection(upstream);
    for (name, value) in upstream {
        if !is_kept_from_client(name.as_str()) && !dropped.contains(name) {
            client.append(name.clone(), value.clone());
        }
    }
}

/// Adds what the gateway says of a request that needs no seat.
pub(super) fn decorate_plain(record: &Record, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&record.arrival.request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    rates::tell(record, headers);
    time(&record.timing, record.now(), headers);
}

/// Adds what the gateway says of a request.
pub(super) fn decorate(record: &Record, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&record.arrival.request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    // A request that the queue refused in the end was queued all the same.
    let admission = match record.admission {
        Admission::Rejected | Admission::None if record.stood => Admission::Queued,
        admission => admission,
    };
    if matches!(admission, Admission::Fast | Admission::Queued | Admission::Brownout) {
        headers.insert(X_OBLETH_ADMISSION, HeaderValue::from_static(admission.as_str()));
    }
    if let Some(dimmed) = record.brownout {
        headers.insert(X_OBLETH_BROWNOUT, dimmed.header());
    }
    if let Some(asked) = record.asked.as_ref().filter(|_| record.fell_back.is_some()) {
        let name = utf8_percent_encode(&asked.model.name, CONTROLS).to_string();
        if let Ok(value) = HeaderValue::try_from(name) {
            headers.insert(X_OBLETH_MODEL, value);
        }
    }
    let queued = u64::try_from(record.timing.queued.as_millis()).unwrap_or(u64::MAX);
    headers.insert(X_OBLETH_QUEUE_MS, HeaderValue::from(queued));
    if let Some(bound) = record.max_output {
        headers.insert(X_OBLETH_MAX_TOKENS, HeaderValue::from(bound));
    }
    headers.insert(X_OBLETH_CACHE, HeaderValue::from_static(record.cache.as_str()));
    rates::tell(record, headers);
    time(&record.timing, record.now(), headers);
}

/// Says how long the stages took. An upstream's own times stay beside it.
pub(super) fn time(timing: &Timing, now: Moment, headers: &mut HeaderMap) {
    if let Some(value) = timing.header(now) {
        headers.append(SERVER_TIMING, value);
    }
}

/// The head of a stream that leaves while its request is in the queue: what is known by then.
pub(super) fn decorate_early(request_id: &str, cache: CacheState, headers: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_OBLETH_ADMISSION, HeaderValue::from_static(Admission::Queued.as_str()));
    headers.insert(X_OBLETH_CACHE, HeaderValue::from_static(cache.as_str()));
}
