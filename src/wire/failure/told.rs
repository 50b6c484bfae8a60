//! What an upstream's error says of itself, in whichever envelope it came.

use super::{Failure, Source};
use serde_json::Value;

/// The words of an error: those of `{"error": {...}}`, or of the object itself where there is no such field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

impl Told {
    /// Reads the body of an error. What is no JSON, or no error in JSON, tells nothing.
    pub fn of(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Self::default();
        };
        let error = body.get("error").unwrap_or(&body);
        let text = |name: &str| match error.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let message =
            text("message").or_else(|| text("detail")).or_else(|| error.as_str().map(str::to_owned));
        Self { message, kind: text("type"), code: text("code"), param: text("param") }
    }

    /// The failure it is; `otherwise` are the message and the code of one that tells none.
    pub fn failure<'a>(&'a self, otherwise: (&'a str, &'a str), request_id: &'a str) -> Failure<'a> {
        Failure {
            code: self.code.as_deref().unwrap_or(otherwise.1),
            kind: self.kind.as_deref().unwrap_or("upstream_error"),
            message: self.message.as_deref().unwrap_or(otherwise.0),
            param: self.param.as_deref(),
            source: Source::Upstream,
            request_id,
        }
    }
}
