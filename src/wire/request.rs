//! What a JSON request body asks, read in one shallow pass.
//!
//! serde_json walks the body once and proves that it is JSON; the values of the fields the gateway reads are
//! kept as spans, everything else passes unread whatever it is. Invariant: what is read is what any upstream
//! reads: a field read here may occur only once, under any spelling of its escapes.

use super::field::{Field, FieldSet};
use super::json::{Cursor, within_depth};
use super::route::{Dialect, Route};
use super::weight::{TooDeep, Weight, weigh};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

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

impl From<TooDeep> for BodyError {
    fn from(TooDeep: TooDeep) -> Self {
        Self::TooDeep
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
    /// Items of `messages`, or of `input` on the responses route.
    pub messages: u64,
    pub weight: Weight,
}

impl Shape {
    /// Reads the body of a request on `route`.
    pub fn read(route: Route, body: &[u8]) -> Result<Self, BodyError> {
        let text = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
        match text.trim_ascii_start().as_bytes().first() {
            None => return Err(BodyError::Empty),
            Some(b'{') => {}
            Some(_) => return Err(not_an_object(text)),
        }
        let mut draft = Draft::new(route, text);
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_map(Members(&mut draft)).and_then(|()| json.end());
        match (draft.fault.take(), read) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(BodyError::NotJson { line: error.line(), column: error.column() }),
            (None, Ok(())) => draft.finish(),
        }
    }

    /// The bound on the tokens of one answer that the upstream will obey.
    pub fn output_bound(&self) -> Option<u64> {
        let mut by_rank = self.route.output_fields().iter();
        by_rank.find_map(|f| self.bounds.iter().find(|b| b.field == *f).and_then(|b| b.tokens))
    }

    /// How many answers the request makes the upstream write.
    pub const fn sequences(&self) -> u64 {
        self.choices.saturating_mul(self.prompts)
    }
}

fn not_an_object(text: &str) -> BodyError {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => BodyError::NotObject,
        Err(error) => BodyError::NotJson { line: error.line(), column: error.column() },
    }
}

/// A shape in the making.
struct Draft<'a> {
    body: &'a str,
    reads: FieldSet,
    seen: FieldSet,
    /// A key that differs from `model` only in case: some servers match keys so.
    model_alias: bool,
    has_model: bool,
    fault: Option<BodyError>,
    shape: Shape,
}

impl<'a> Draft<'a> {
    fn new(route: Route, body: &'a str) -> Self {
        let shape = Shape {
            route,
            model: String::new(),
            model_span: 0..0,
            stream: false,
            stream_options: StreamOptions::Absent,
            bounds: Vec::new(),
            choices: 1,
            prompts: 1,
            messages: 0,
            weight: Weight::default(),
        };
        let (reads, seen) = (route.reads(), FieldSet::default());
        Self { body, reads, seen, model_alias: false, has_model: false, fault: None, shape }
    }

    fn finish(self) -> Result<Shape, BodyError> {
        if !self.has_model {
            return Err(BodyError::ModelMissing);
        }
        if self.model_alias {
            return Err(BodyError::DuplicateField { field: Field::Model.name() });
        }
        Ok(self.shape)
    }

    /// Where in the body the slice `raw` of it stands.
    fn span(&self, raw: &str) -> Range<usize> {
        let start = raw.as_ptr().addr().saturating_sub(self.body.as_ptr().addr());
        start..start + raw.len()
    }

    fn member(&mut self, key: Key, raw: &str) -> Result<(), BodyError> {
        match key {
            Key::Known(field) if self.reads.has(field) => {
                if !self.seen.insert(field) {
                    return Err(BodyError::DuplicateField { field: field.name() });
                }
                self.field(field, raw)
            }
            Key::ModelAlias => {
                self.model_alias = true;
                unread(raw)
            }
            _ => unread(raw),
        }
    }

    fn field(&mut self, field: Field, raw: &str) -> Result<(), BodyError> {
        match field {
            Field::Model => self.model(raw)?,
            Field::Stream => self.shape.stream = flag(field.name(), raw)?,
            Field::StreamOptions => self.shape.stream_options = self.stream_options(raw)?,
            Field::N | Field::BestOf => {
                let count = count(field, raw)?.unwrap_or(1);
                if !(1..=MAX_CHOICES).contains(&count) {
                    return Err(wrong(field));
                }
                self.shape.choices = self.shape.choices.max(count);
            }
            Field::MaxTokens | Field::MaxCompletionTokens | Field::MaxOutputTokens => {
                // On chat servers take the first bound that is not zero: a zero there is no bound.
                let zero_is_none = self.shape.route == Route::ChatCompletions;
                let tokens = count(field, raw)?.filter(|tokens| *tokens > 0 || !zero_is_none);
                self.shape.bounds.push(Bound { field, span: self.span(raw), tokens });
            }
            _ => self.input(field, raw)?,
        }
        Ok(())
    }

    fn model(&mut self, raw: &str) -> Result<(), BodyError> {
        if raw == "null" {
            return Ok(());
        }
        let model = match Cursor::new(raw.as_bytes()).string() {
            Some(s) if !s.escaped => std::str::from_utf8(s.raw).ok().map(str::to_owned),
            Some(_) => serde_json::from_str::<String>(raw).ok(),
            None => None,
        };
        self.shape.model = model.filter(|m| !m.is_empty()).ok_or_else(|| wrong(Field::Model))?;
        self.shape.model_span = self.span(raw);
        self.has_model = true;
        Ok(())
    }

    fn stream_options(&self, raw: &str) -> Result<StreamOptions, BodyError> {
        const INCLUDE_USAGE: &str = "stream_options.include_usage";
        let span = self.span(raw);
        if raw == "null" {
            return Ok(StreamOptions::Null { span });
        }
        unread(raw)?;
        let mut cursor = Cursor::new(raw.as_bytes());
        if !cursor.take(b'{') {
            return Err(wrong(Field::StreamOptions));
        }
        let (mut empty, mut include_usage) = (true, None);
        while let Some(key) = cursor.next_key() {
            empty = false;
            cursor.peek();
            let start = span.start + cursor.position();
            let value = cursor.skip();
            if &*key.text() == b"include_usage" {
                if include_usage.is_some() {
                    return Err(BodyError::DuplicateField { field: INCLUDE_USAGE });
                }
                let asked = flag(INCLUDE_USAGE, std::str::from_utf8(value).unwrap_or_default())?;
                include_usage = Some((asked, start..start + value.len()));
            }
        }
        Ok(StreamOptions::Object { open: span.start + 1, empty, include_usage })
    }

    fn input(&mut self, field: Field, raw: &str) -> Result<(), BodyError> {
        let is_array = raw.starts_with('[');
        if field == Field::Messages && !is_array {
            return Err(wrong(field));
        }
        let generates = self.shape.route.generates();
        let weight = match field {
            Field::Tools | Field::Functions => {
                unread(raw)?;
                if raw == "null" { Weight::default() } else { Weight::text(raw.len()) }
            }
            _ => weigh(raw, MAX_DEPTH - 1, generates)?,
        };
        self.shape.weight.add(weight);
        match field {
            Field::Prompt if generates && is_array => self.shape.prompts = prompts(raw),
            Field::Messages => self.shape.messages = items(raw),
            Field::Input if self.shape.route.dialect() == Dialect::Responses => {
                self.shape.messages = if is_array { items(raw) } else { 1 };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Bounds the depth of a value that is not read.
fn unread(raw: &str) -> Result<(), BodyError> {
    let nested = raw.starts_with(['{', '[']);
    if nested && !within_depth(raw.as_bytes(), MAX_DEPTH - 1) { Err(BodyError::TooDeep) } else { Ok(()) }
}

const fn wrong(field: Field) -> BodyError {
    BodyError::WrongType { field: field.name() }
}

fn flag(field: &'static str, raw: &str) -> Result<bool, BodyError> {
    match raw {
        "true" => Ok(true),
        "false" | "null" => Ok(false),
        _ => Err(BodyError::WrongType { field }),
    }
}

fn count(field: Field, raw: &str) -> Result<Option<u64>, BodyError> {
    if raw == "null" {
        return Ok(None);
    }
    raw.parse().map(Some).map_err(|_| wrong(field))
}

fn items(array: &str) -> u64 {
    let mut cursor = Cursor::new(array.as_bytes());
    let mut items = 0;
    cursor.take(b'[');
    while cursor.next_item() {
        cursor.skip();
        items += 1;
    }
    items
}

/// A list of texts or of token lists is one prompt an item, a list of tokens is one prompt.
fn prompts(array: &str) -> u64 {
    let mut cursor = Cursor::new(array.as_bytes());
    cursor.take(b'[');
    match cursor.peek() {
        Some(b'"' | b'[' | b'{') => items(array),
        _ => 1,
    }
}

enum Key {
    Known(Field),
    ModelAlias,
    Other,
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        Ok(match Field::of(key) {
            Some(field) => Key::Known(field),
            None if key.eq_ignore_ascii_case("model") => Key::ModelAlias,
            None => Key::Other,
        })
    }
}

struct Members<'d, 'b>(&'d mut Draft<'b>);

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let raw: &RawValue = map.next_value()?;
            if let Err(fault) = self.0.member(key, raw.get()) {
                self.0.fault = Some(fault);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
