//! From a settled request to its spans: one for the whole, one for each stage it reached.
//!
//! `obleth.*` and `http.*` stand on the span of the whole, `gen_ai.*` (semantic conventions of OpenTelemetry) on
//! that of the upstream call; tenant, key and request on both. Never a prompt, an answer or a key.

use super::Ended;
use crate::pipeline::Stage;
use crate::wire::Route;
use obleth_core::ledger::{LedgerRow, UsageSource};
use obleth_core::moment::Moment;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use url::Url;

/// Makes spans.
pub(super) struct Maker {
    scope: InstrumentationScope,
    ids: RandomIdGenerator,
    /// Base of models that name none.
    upstream: Arc<str>,
}

/// What differs from span to span of one request.
struct Shape {
    id: SpanId,
    parent: SpanId,
    kind: SpanKind,
    name: Cow<'static, str>,
    begin: Moment,
    end: Moment,
    attributes: Vec<KeyValue>,
    status: Status,
}

fn text(key: &'static str, value: &Arc<str>) -> KeyValue {
    KeyValue::new(key, Value::String(StringValue::from(Arc::clone(value))))
}

fn number(key: &'static str, value: u64) -> KeyValue {
    KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX))
}

impl Maker {
    pub fn new(upstream: &str) -> Self {
        let scope = InstrumentationScope::builder("obleth").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { scope, ids: RandomIdGenerator::default(), upstream: Arc::from(upstream) }
    }

    /// All spans of a request.
    pub fn spans(&self, ended: &Ended) -> Vec<SpanData> {
        let state = ended.context.state.as_ref().and_then(|value| value.to_str().ok());
        let state = state.and_then(|text| TraceState::from_str(text).ok()).unwrap_or_default();
        let mut spans = vec![self.span(ended, &state, root(ended))];
        let stages: Vec<_> = ended.timing.stages(ended.end).collect();
        // Where it was refused or failed: the last stage before it was settled.
        let last = stages.iter().map(|(stage, ..)| *stage).rfind(|stage| *stage != Stage::Settle);
        for (stage, begin, end) in stages {
            let is_call = stage == Stage::Forward;
            let faulty = ended.error_code.filter(|_| is_call || Some(stage) == last);
            let mut attributes = attributes_of(stage, ended);
            if is_call {
                attributes.extend(self.address(ended));
            }
            attributes.extend(faulty.map(|code| KeyValue::new("error.type", code)));
            let shape = Shape {
                id: if is_call { ended.context.call } else { self.ids.new_span_id() },
                parent: ended.context.span,
                kind: if is_call { SpanKind::Client } else { SpanKind::Internal },
                name: Cow::Borrowed(stage.name()),
                begin,
                end,
                attributes,
                status: faulty.map_or(Status::Unset, |code| status(ended.status, code)),
            };
            spans.push(self.span(ended, &state, shape));
        }
        spans
    }

    fn span(&self, ended: &Ended, state: &TraceState, shape: Shape) -> SpanData {
        let Shape { id, parent, kind, name, begin, end, attributes, status } = shape;
        let context = &ended.context;
        SpanData {
            span_context: SpanContext::new(context.trace, id, context.flags, false, state.clone()),
            parent_span_id: parent,
            parent_span_is_remote: id == context.span && context.parent.is_some(),
            span_kind: kind,
            name,
            start_time: time(ended, begin),
            end_time: time(ended, end),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// Where the call goes: host and port alone.
    fn address(&self, ended: &Ended) -> Vec<KeyValue> {
        if ended.route == Route::Mcp {
            return Vec::new();
        }
        let base = ended.model.as_ref().and_then(|model| model.api_base.as_deref());
        let Ok(url) = Url::parse(base.unwrap_or(&self.upstream)) else {
            return Vec::new();
        };
        let host = url.host_str().map(|host| KeyValue::new("server.address", host.to_owned()));
        let port = url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port)));
        host.into_iter().chain(port).collect()
    }
}

/// Wall-clock time of a moment of this request.
fn time(ended: &Ended, at: Moment) -> SystemTime {
    let arrival = ended.timing.begun(Stage::Authenticate).unwrap_or(at);
    UNIX_EPOCH + Duration::from_micros(u64::try_from(ended.unix_micros).unwrap_or(0)) + at.since(arrival)
}

/// An error is what neither the client nor the tenant can mend.
fn status(status: u16, code: &'static str) -> Status {
    if status >= 500 { Status::error(code) } else { Status::Unset }
}

/// The span of the whole.
fn root(ended: &Ended) -> Shape {
    let route = ended.route.label();
    let mut attributes = vec![
        KeyValue::new("http.request.method", ended.verb.name()),
        KeyValue::new("http.route", route),
        KeyValue::new("url.scheme", "http"),
        KeyValue::new("obleth.status", i64::from(ended.status)),
    ];
    if ended.route != Route::Mcp {
        attributes.push(KeyValue::new("url.path", ended.route.path()));
    }
    attributes.extend(ended.told.map(|told| KeyValue::new("http.response.status_code", i64::from(told))));
    attributes.extend(who(ended));
    if let Some(code) = ended.error_code {
        attributes.extend([KeyValue::new("obleth.error_code", code), KeyValue::new("error.type", code)]);
    }
    if let Some(row) = &ended.row {
        attributes.extend(told(row));
        if ended.timing.begun(Stage::Forward).is_none() {
            // Nothing was called, so nothing else says what was asked.
            attributes.extend(generation(ended, row));
        }
    }
    Shape {
        id: ended.context.span,
        parent: ended.context.parent.unwrap_or(SpanId::INVALID),
        kind: SpanKind::Server,
        name: Cow::Owned(format!("{} {route}", ended.verb.name())),
        begin: ended.timing.begun(Stage::Authenticate).unwrap_or_default(),
        end: ended.end,
        attributes,
        status: ended.error_code.map_or(Status::Unset, |code| status(ended.status, code)),
    }
}

/// Whose request it is.
fn who(ended: &Ended) -> Vec<KeyValue> {
    let mut attributes = vec![text("obleth.request_id", &ended.request_id)];
    if let Some(row) = &ended.row {
        attributes.push(KeyValue::new("obleth.tenant_id", row.tenant.to_string()));
        attributes.push(KeyValue::new("obleth.key_id", row.key.to_string()));
    }
    attributes
}

/// What the ledger says of it.
fn told(row: &LedgerRow) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("obleth.model", &row.model),
        KeyValue::new("obleth.stream", row.stream),
        KeyValue::new("obleth.admission", row.admission.as_str()),
        number("obleth.queue_ms", row.queue_ms),
        KeyValue::new("obleth.cache", row.cache.as_str()),
        KeyValue::new("obleth.cost_usd", row.cost.total().to_string()),
        KeyValue::new("obleth.usage_source", row.usage.source.as_str()),
        number("obleth.estimated_tokens", row.estimated_tokens),
    ];
    attributes.extend(row.mcp_server.as_ref().map(|server| text("obleth.mcp_server", server)));
    attributes.extend(row.ttft_ms.map(|ttft| number("obleth.ttft_ms", ttft)));
    attributes
}

/// What only one stage has to say.
fn attributes_of(stage: Stage, ended: &Ended) -> Vec<KeyValue> {
    let Some(row) = &ended.row else {
        return Vec::new();
    };
    match stage {
        Stage::Lookup => vec![KeyValue::new("obleth.cache", row.cache.as_str())],
        Stage::Admit => vec![
            KeyValue::new("obleth.admission", row.admission.as_str()),
            number("obleth.queue_ms", row.queue_ms),
        ],
        Stage::Forward => {
            let mut attributes = generation(ended, row);
            attributes.extend(who(ended));
            attributes.push(KeyValue::new("http.request.method", ended.verb.name()));
            attributes.extend(row.target_pod.as_ref().map(|pod| text("obleth.target_pod", pod)));
            attributes
        }
        _ => Vec::new(),
    }
}

/// `gen_ai.*`.
fn generation(ended: &Ended, row: &LedgerRow) -> Vec<KeyValue> {
    if ended.route == Route::Mcp {
        return tool_call(row);
    }
    let (operation, provider) = kind(ended.route);
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", operation),
        KeyValue::new("gen_ai.provider.name", provider),
    ];
    if row.model.is_empty() {
        return attributes;
    }
    attributes.push(text("gen_ai.request.model", &row.model));
    attributes.push(KeyValue::new("gen_ai.request.stream", row.stream));
    if row.status < 300 {
        attributes.push(text("gen_ai.response.model", &row.upstream_model));
    }
    let usage = &row.usage;
    if usage.source != UsageSource::None {
        attributes.push(number("gen_ai.usage.input_tokens", usage.input));
        attributes.push(number("gen_ai.usage.output_tokens", usage.output));
        let some = |key, tokens| (tokens > 0).then(|| number(key, tokens));
        attributes.extend(some("gen_ai.usage.cache_read.input_tokens", usage.cached_input));
        attributes.extend(some("gen_ai.usage.reasoning.output_tokens", usage.reasoning));
    }
    let first = ended.timing.first_byte.zip(ended.timing.sent).filter(|_| row.stream);
    attributes.extend(first.map(|(first, sent)| {
        KeyValue::new("gen_ai.response.time_to_first_chunk", first.since(sent).as_secs_f64())
    }));
    attributes
}

/// `gen_ai.*` of a tool's call; its arguments and results are nowhere.
fn tool_call(row: &LedgerRow) -> Vec<KeyValue> {
    let Some(tool) = &row.mcp_tool else { return Vec::new() };
    vec![KeyValue::new("gen_ai.operation.name", "execute_tool"), text("gen_ai.tool.name", tool)]
}

/// Operation and provider (the format spoken, not who runs the model) of a route.
const fn kind(route: Route) -> (&'static str, &'static str) {
    match route {
        Route::ChatCompletions | Route::Responses => ("chat", "openai"),
        Route::Messages => ("chat", "anthropic"),
        Route::CountTokens => ("count_tokens", "anthropic"),
        Route::Completions => ("text_completion", "openai"),
        Route::Embeddings => ("embeddings", "openai"),
        Route::Rerank => ("rerank", "openai"),
        Route::Score => ("score", "openai"),
        Route::Moderations => ("moderation", "openai"),
        Route::Audio(_) => ("audio", "openai"),
        Route::Images(_) => ("image", "openai"),
        Route::Mcp => ("execute_tool", "mcp"),
    }
}
