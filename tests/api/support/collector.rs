//! A stand-in for an OTLP collector: it takes `POST /v1/traces` and decodes the protobuf.

use super::upstream::{Step, Upstream, json};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The collector. It ends with the runtime that started it.
pub struct Collector {
    pub server: Upstream,
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct Spanned {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for the first of a trace.
    pub parent: String,
    pub state: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// 0 unset, 1 ok, 2 error.
    pub status: i32,
    pub begin: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, Value>,
}

impl Spanned {
    pub fn attribute(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain(attributes: &[KeyValue]) -> BTreeMap<String, Value> {
    let one = |pair: &KeyValue| {
        let value = match pair.value.as_ref()?.value.as_ref()? {
            Any::StringValue(text) => json!(text),
            Any::IntValue(number) => json!(number),
            Any::DoubleValue(number) => json!(number),
            Any::BoolValue(flag) => json!(flag),
            other => json!(format!("{other:?}")),
        };
        Some((pair.key.clone(), value))
    };
    attributes.iter().filter_map(one).collect()
}

fn spanned(span: &Span) -> Spanned {
    Spanned {
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state.clone(),
        kind: span.kind,
        status: span.status.as_ref().map_or(0, |status| status.code),
        begin: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: plain(&span.attributes),
    }
}

impl Collector {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::playing(vec![Step::Send(json(200, ""))]).await
    }

    /// One that answers each request so.
    pub async fn playing(steps: Vec<Step>) -> Self {
        Self { server: Upstream::start(move |_| steps.clone()).await }
    }

    /// The base, for `OBLETH_OTEL_ENDPOINT`.
    pub fn base(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// All requests so far, decoded.
    fn exports(&self) -> Vec<ExportTraceServiceRequest> {
        let decode = |seen: super::Seen| {
            assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/traces"));
            assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
            ExportTraceServiceRequest::decode(seen.body).expect("the protobuf of OTLP")
        };
        self.server.seen().into_iter().map(decode).collect()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Spanned> {
        let exports = self.exports();
        let scopes =
            exports.iter().flat_map(|export| &export.resource_spans).flat_map(|one| &one.scope_spans);
        scopes.flat_map(|scope| &scope.spans).map(spanned).collect()
    }

    /// Who sent them; all the same.
    pub fn resource(&self) -> BTreeMap<String, Value> {
        let exports = self.exports();
        let resources = exports.iter().flat_map(|export| &export.resource_spans);
        let mut all: Vec<_> =
            resources.map(|one| plain(&one.resource.as_ref().unwrap().attributes)).collect();
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// The bytes of all requests so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.server.seen().into_iter().flat_map(|seen| seen.body.to_vec()).collect()
    }
}
