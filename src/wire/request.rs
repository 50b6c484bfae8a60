//! What a JSON request body asks, read shallowly.
//!
//! serde_json walks the body once and proves that it is JSON; then a cursor takes the values of the fields the
//! gateway reads and skips everything else, whatever it is. Invariant: what is read is what any upstream
//! reads: a field read here may occur only once, under any spelling of its escapes.

use super::field::Field;
use super::route::Route;
use super::weight::Weight;
use draft::Draft;
use std::ops::Range;

mod draft;

/// How deep containers may nest, the body's own braces included.
pub const MAX_DEPTH: usize = 128;
/// The largest `n` and `best_of`.
pub const MAX_CHOICES: u64 = 128;

/// Why a request body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is empty")]
    Empty,
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is not valid JSON (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error("the body must be a JSON object")]
    NotObject,
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("`model` is required")]
    ModelMissing,
    #[error("`{field}` has a wrong type or is out of range")]
    WrongType { field: &'static str },
    #[error("`{field}` occurs more than once")]
    DuplicateField { field: &'static str },
    #[error("the form is malformed: {0}")]
    Form(#[from] super::multipart::FormFault),
}

impl BodyError {
    /// The field to name as `param`.
    pub const fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelMissing => Some("model"),
            Self::WrongType { field } | Self::DuplicateField { field } => Some(field),
            _ => None,
        }
    }
}

/// An output bound as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub field: Field,
    /// Where its value stands.
    pub span: Range<usize>,
    /// `None` for `null`, and on chat for zero.
    pub tokens: Option<u64>,
}

/// `stream_options` as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamOptions {
    #[default]
    Absent,
    Null {
        span: Range<usize>,
    },
    Object {
        /// After its brace.
        open: usize,
        empty: bool,
        /// `include_usage` and where its value stands.
        include_usage: Option<(bool, Range<usize>)>,
    },
}

impl StreamOptions {
    /// Whether the client asked for usage itself.
    pub const fn includes_usage(&self) -> bool {
        matches!(self, Self::Object { include_usage: Some((true, _)), .. })
    }
}

/// What a request asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub route: Route,
    pub model: String,
    /// Where the value of `model` stands, quotes included.
    pub model_span: Range<usize>,
    pub stream: bool,
    pub stream_options: StreamOptions,
    /// The output bounds that occur, at most one a name.
    pub bounds: Vec<Bound>,
    /// Answers for each prompt that the upstream makes: the larger of `n` and `best_of`.
    pub choices: u64,
    /// Prompts of a completions request; 1 elsewhere.
    pub prompts: u64,
    /// Texts that the upstream reads one by one, each within its window: prompts, inputs, pairs of query and document.
    pub inputs: u64,
    /// Bytes of the body that it reads once more: a query is read with each document.
    pub again: u64,
    /// Items of `messages`, or of `input` on the responses route.
    pub messages: u64,
    pub weight: Weight,
}

impl Shape {
    /// Reads the body of a request on `route`.
    pub fn read(route: Route, body: &[u8]) -> Result<Self, BodyError> {
        let text = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
        let first = text.trim_ascii_start().as_bytes().first().ok_or(BodyError::Empty)?;
        // Walks without recursing, whatever the depth.
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            return Err(BodyError::NotJson { line: error.line(), column: error.column() });
        }
        if *first == b'{' { Draft::new(route, text).read() } else { Err(BodyError::NotObject) }
    }

    /// The bound on the tokens of one answer that the upstream will obey.
    pub fn output_bound(&self) -> Option<u64> {
        let mut by_rank = self.route.output_fields().iter();
        by_rank.find_map(|f| self.bounds.iter().find(|b| b.field == *f).and_then(|b| b.tokens))
    }

    /// Whether an answer may be longer than this: the route has an output bound, and it is higher or not set.
    pub fn allows_more_than(&self, tokens: u64) -> bool {
        let mut given = self.bounds.iter().filter_map(|bound| bound.tokens).peekable();
        !self.route.output_fields().is_empty()
            && (given.peek().is_none() || given.any(|bound| bound > tokens))
    }

    /// How many answers the request makes the upstream write.
    pub const fn sequences(&self) -> u64 {
        self.choices.saturating_mul(self.prompts)
    }
}

#[cfg(test)]
mod tests;
