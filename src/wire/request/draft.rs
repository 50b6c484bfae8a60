//! A shape in the making, member by member.

use super::{BodyError, Bound, MAX_CHOICES, MAX_DEPTH, Shape, StreamOptions};
use crate::wire::field::{Field, FieldSet};
use crate::wire::json::Cursor;
use crate::wire::route::{Dialect, Route};
use crate::wire::weight::{Weight, weigh};
use std::ops::Range;

/// A shape in the making.
pub(super) struct Draft<'a> {
    body: &'a str,
    reads: FieldSet,
    seen: FieldSet,
    /// A key that differs from `model` only in case: some servers match keys so.
    model_alias: bool,
    has_model: bool,
    /// The two sides of a route that reads pairs.
    sides: [Side; 2],
    shape: Shape,
}

/// One side of the pairs: a query, or documents.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    items: u64,
    bytes: u64,
    weight: Weight,
}

impl<'a> Draft<'a> {
    pub fn new(route: Route, body: &'a str) -> Self {
        let shape = Shape {
            route,
            model: String::new(),
            model_span: 0..0,
            stream: false,
            stream_options: StreamOptions::Absent,
            bounds: Vec::new(),
            choices: 1,
            prompts: 1,
            inputs: 1,
            again: 0,
            messages: 0,
            weight: Weight::default(),
        };
        let (reads, seen) = (route.reads(), FieldSet::default());
        Self { body, reads, seen, model_alias: false, has_model: false, sides: Default::default(), shape }
    }

    /// Reads each member of the body, which is known to be a JSON object.
    pub fn read(mut self) -> Result<Shape, BodyError> {
        let body = self.body;
        let mut cursor = Cursor::new(body.as_bytes());
        cursor.take(b'{');
        while let Some(key) = cursor.next_key() {
            cursor.peek();
            let start = cursor.position();
            let end = start + cursor.skip().len();
            if cursor.skipped_depth() >= MAX_DEPTH {
                return Err(BodyError::TooDeep);
            }
            self.member(Key::of(&key.text()), body.get(start..end).unwrap_or_default())?;
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Shape, BodyError> {
        if !self.has_model {
            return Err(BodyError::ModelMissing);
        }
        if self.model_alias {
            return Err(BodyError::DuplicateField { field: Field::Model.name() });
        }
        self.pair();
        Ok(self.shape)
    }

    /// Each item of one side is read with each of the other; lists of the same length are read in step.
    fn pair(&mut self) {
        let [left, right] = self.sides;
        if left.items == 0 || right.items == 0 {
            return;
        }
        let in_step = left.items == right.items;
        self.shape.inputs = if in_step { left.items } else { left.items.saturating_mul(right.items) };
        if in_step {
            return;
        }
        for (side, times) in [(left, right.items), (right, left.items)] {
            let more = times.saturating_sub(1);
            self.shape.again = self.shape.again.saturating_add(side.bytes.saturating_mul(more));
            self.shape.weight.add(side.weight.times(more));
        }
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
                Ok(())
            }
            _ => Ok(()),
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
        let generates = self.shape.route.generates();
        let (weight, items) = match field {
            Field::Messages if !is_array => return Err(wrong(field)),
            Field::Tools | Field::Functions if raw == "null" => return Ok(()),
            Field::Tools | Field::Functions => (Weight::text(raw.len()), 0),
            _ => weigh(raw, generates),
        };
        self.shape.weight.add(weight);
        if matches!(self.shape.route, Route::Rerank | Route::Score) {
            let [left, right] = &mut self.sides;
            let second = matches!(field, Field::Documents | Field::Items | Field::Text2 | Field::Data2);
            let side = if second { right } else { left };
            side.items = side.items.saturating_add(if is_array { items } else { 1 });
            side.bytes = side.bytes.saturating_add(u64::try_from(raw.len()).unwrap_or(u64::MAX));
            side.weight.add(weight);
        }
        match field {
            // A list of texts or of token lists is one prompt an item, a list of tokens is one prompt.
            Field::Prompt if generates && is_array && !is_token_list(raw) => {
                self.shape.prompts = items.max(1);
                self.shape.inputs = items.max(1);
            }
            Field::Input if !generates && is_array && !is_token_list(raw) => self.shape.inputs = items.max(1),
            Field::Messages => self.shape.messages = items,
            Field::Input if self.shape.route.dialect() == Dialect::Responses => {
                self.shape.messages = if is_array { items } else { 1 };
            }
            _ => {}
        }
        Ok(())
    }
}

fn is_token_list(array: &str) -> bool {
    let mut cursor = Cursor::new(array.as_bytes());
    cursor.take(b'[') && matches!(cursor.peek(), Some(b'0'..=b'9' | b'-'))
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

/// A whole number, also as `5.0`: some clients know floats only, and servers take them.
fn count(field: Field, raw: &str) -> Result<Option<u64>, BodyError> {
    if raw == "null" {
        return Ok(None);
    }
    let whole = match raw.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
        _ => raw,
    };
    whole.parse().map(Some).map_err(|_| wrong(field))
}

enum Key {
    Known(Field),
    ModelAlias,
    Other,
}

impl Key {
    fn of(key: &[u8]) -> Self {
        match std::str::from_utf8(key).ok().and_then(Field::of) {
            Some(field) => Self::Known(field),
            None if key.eq_ignore_ascii_case(b"model") => Self::ModelAlias,
            None => Self::Other,
        }
    }
}
