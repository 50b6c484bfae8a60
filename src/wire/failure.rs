//! A failure after the head of a stream has left, as an event of the route's own shape.

use super::route::{Dialect, Route};
use bytes::Bytes;
use serde::Serialize;

mod told;

pub use told::Told;

/// What went wrong, in the words of the error table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// `code`, e.g. `upstream_truncated`.
    pub code: &'a str,
    /// `type` in the OpenAI envelope.
    pub kind: &'a str,
    pub message: &'a str,
    /// The field at fault.
    pub param: Option<&'a str>,
    pub source: Source,
    pub request_id: &'a str,
}

/// Whose words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Gateway,
    Upstream,
}

/// Where in the stream the failure stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The client has the beginning of an event whose end will not come.
    pub mid_event: bool,
    /// The sequence number of this event, where events have one.
    pub sequence: u64,
}

#[derive(Serialize)]
struct ChunkEvent<'a> {
    error: Envelope<'a>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    message: &'a str,
    r#type: &'a str,
    code: &'a str,
    param: Option<&'a str>,
    source: Source,
    request_id: &'a str,
}

#[derive(Serialize)]
struct MessagesEvent<'a> {
    r#type: &'a str,
    error: MessagesError<'a>,
}

#[derive(Serialize)]
struct MessagesError<'a> {
    r#type: &'a str,
    message: &'a str,
    code: &'a str,
    source: Source,
    request_id: &'a str,
}

#[derive(Serialize)]
struct ResponsesEvent<'a> {
    r#type: &'a str,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    sequence_number: u64,
    source: Source,
    request_id: &'a str,
}

impl Failure<'_> {
    /// The event that ends a stream on `route`.
    pub fn event(&self, route: Route, at: Position) -> Bytes {
        let Self { code, kind, message, param, source, request_id } = *self;
        let (name, json) = match route.dialect() {
            Dialect::Chunks => {
                let error = Envelope { message, r#type: kind, code, param, source, request_id };
                ("", serde_json::to_string(&ChunkEvent { error }))
            }
            Dialect::Messages => {
                let r#type = if source == Source::Gateway { messages_type(code) } else { kind };
                let error = MessagesError { r#type, message, code, source, request_id };
                ("event: error\n", serde_json::to_string(&MessagesEvent { r#type: "error", error }))
            }
            Dialect::Responses => {
                let event = ResponsesEvent {
                    r#type: "error",
                    code,
                    message,
                    param,
                    sequence_number: at.sequence,
                    source,
                    request_id,
                };
                ("event: error\n", serde_json::to_string(&event))
            }
        };
        let start = if at.mid_event { "\n\n" } else { "" };
        // Writing strings and numbers to memory does not fail.
        let json = json.unwrap_or_default();
        Bytes::from([start, name, "data: ", &json, "\n\n"].concat())
    }
}

/// The error type a Messages client knows for one of our codes.
fn messages_type(code: &str) -> &'static str {
    match code {
        "overloaded" | "restarting" | "draining" | "admission_timeout" | "upstream_circuit_open" => {
            "overloaded_error"
        }
        "upstream_timeout" | "deadline_unreachable" => "timeout_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests;
