//! A body with some fields changed in place: slices of the original around the new values.
//!
//! Invariant: every byte that is not part of a changed value, or of an inserted field, is the client's own.

use super::request::{Shape, StreamOptions};
use bytes::Bytes;
use std::ops::Range;

/// What to change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite<'a> {
    /// The model's name upstream, when it is another one.
    pub upstream_model: Option<&'a str>,
    /// Ask for the usage of a stream. Without effect where it comes unasked or the answer is no stream.
    pub ask_usage: bool,
    /// The highest output bound: larger ones are lowered, a missing one is set. Without effect on routes
    /// that have none.
    pub max_output: Option<u64>,
}

/// A body in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    pub pieces: Vec<Bytes>,
    /// Bytes in all.
    pub len: usize,
}

impl Spliced {
    /// The pieces as one; no copy when there is only one.
    pub fn into_bytes(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([whole]) => whole,
            Err(pieces) => pieces.concat().into(),
        }
    }
}

impl Rewrite<'_> {
    /// Changes `body`, of which `shape` was read.
    pub fn apply(&self, body: &Bytes, shape: &Shape) -> Spliced {
        let mut edits = Edits::default();
        if let Some(model) = self.upstream_model.filter(|m| *m != shape.model) {
            edits.replace(shape.model_span.clone(), quoted(model));
        }
        if self.ask_usage && shape.stream && shape.route.usage_must_be_asked() {
            ask_usage(&mut edits, &shape.stream_options);
        }
        if let Some(cap) = self.max_output {
            bound_output(&mut edits, shape, cap);
        }
        edits.apply(body)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn ask_usage(edits: &mut Edits, options: &StreamOptions) {
    match options {
        StreamOptions::Absent => edits.add_field("stream_options", r#"{"include_usage":true}"#),
        StreamOptions::Null { span } => edits.replace(span.clone(), r#"{"include_usage":true}"#.to_owned()),
        StreamOptions::Object { include_usage: Some((true, _)), .. } => {}
        StreamOptions::Object { include_usage: Some((false, span)), .. } => {
            edits.replace(span.clone(), "true".to_owned());
        }
        StreamOptions::Object { include_usage: None, open, empty } => {
            let comma = if *empty { "" } else { "," };
            edits.replace(*open..*open, format!(r#""include_usage":true{comma}"#));
        }
    }
}

fn bound_output(edits: &mut Edits, shape: &Shape, cap: u64) {
    let Some(field) = shape.route.output_fields().last() else { return };
    let text = || itoa::Buffer::new().format(cap).to_owned();
    let given = shape.bounds.iter().any(|b| b.tokens.is_some());
    let null = shape.bounds.first().filter(|_| !given);
    for bound in shape.bounds.iter().filter(|b| b.tokens.is_some_and(|t| t > cap)) {
        edits.replace(bound.span.clone(), text());
    }
    match null {
        Some(null) => edits.replace(null.span.clone(), text()),
        None if given => {}
        None => edits.add_field(field.name(), &text()),
    }
}

/// Changes to a body.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Fields to put first in the object, each with a comma after it.
    fields: String,
    /// Spans and what replaces them; they do not overlap.
    spans: Vec<(Range<usize>, Bytes)>,
}

impl Edits {
    pub fn replace(&mut self, span: Range<usize>, with: String) {
        self.spans.push((span, Bytes::from(with)));
    }

    fn add_field(&mut self, name: &str, json: &str) {
        for part in ["\"", name, "\":", json, ","] {
            self.fields.push_str(part);
        }
    }

    pub fn apply(mut self, body: &Bytes) -> Spliced {
        if !self.fields.is_empty() {
            let open = memchr::memchr(b'{', body).map_or(0, |at| at + 1);
            self.spans.push((open..open, Bytes::from(self.fields)));
        }
        self.spans.sort_by_key(|(span, _)| span.start);
        let mut pieces = Vec::with_capacity(2 * self.spans.len() + 1);
        let mut done = 0;
        for (span, with) in self.spans {
            // Spans come from a reading of this very body; of another one nothing is cut out of range.
            if span.start < done || span.end > body.len() {
                continue;
            }
            pieces.push(body.slice(done..span.start));
            pieces.push(with);
            done = span.end;
        }
        pieces.push(body.slice(done..));
        pieces.retain(|piece| !piece.is_empty());
        let len = pieces.iter().map(Bytes::len).sum();
        Spliced { pieces, len }
    }
}

#[cfg(test)]
mod tests;
