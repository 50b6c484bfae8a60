//! What an answer used, in the words of each API.
//!
//! Invariant: only what the upstream wrote as a whole number is believed, zeros included; everything else is
//! as if it were absent. A figure without its counterpart on a route that has both is no usage: half a truth
//! would be billed as a whole one.

use super::json::{Cursor, each_item, each_member};
use super::route::{Dialect, Route};
use obleth_core::ledger::{Usage, UsageSource};

mod text;

pub(super) use text::{blocks_text, choices_text, member_text};

/// The usage in a whole JSON answer.
pub fn usage_of_answer(route: Route, body: &[u8]) -> Option<Usage> {
    let mut found = None;
    each_member(body, |key, cursor| match key {
        b"usage" => found = Figures::read(cursor.skip()).usage(route).or(found),
        b"meta" if matches!(route, Route::Rerank) => {
            found = found.or_else(|| billed(cursor.skip()).usage(route));
        }
        _ => {
            cursor.skip();
        }
    });
    found
}

/// Cohere's `meta`: `billed_units`, else `tokens`.
fn billed(meta: &[u8]) -> Figures {
    let mut figures = Figures::default();
    each_member(meta, |key, cursor| match key {
        b"billed_units" => figures = Figures::read(cursor.skip()).over(figures),
        b"tokens" => figures = figures.over(Figures::read(cursor.skip())),
        _ => {
            cursor.skip();
        }
    });
    figures
}

/// The last usage in the last bytes of an answer that was too long to keep.
pub fn usage_in_tail(route: Route, tail: &[u8]) -> Option<Usage> {
    figures_in_tail(tail, |figures| figures.usage(route))
}

/// The last `"usage": {…}` of which `wanted` makes something.
pub(super) fn figures_in_tail<T>(tail: &[u8], wanted: impl Fn(Figures) -> Option<T>) -> Option<T> {
    // A string inside a string has its quotes escaped, so the model's own words do not match.
    const KEY: &[u8] = b"\"usage\"";
    let finder = memchr::memmem::FinderRev::new(KEY);
    let mut until = tail;
    // A body of nothing but keys is not worth more looks than this.
    for _ in 0..16 {
        let at = finder.rfind(until)?;
        let mut cursor = Cursor::new(tail.get(at + KEY.len()..).unwrap_or_default());
        if cursor.take(b':') && cursor.peek() == Some(b'{') {
            let found = wanted(Figures::read(cursor.skip()));
            if found.is_some() {
                return found;
            }
        }
        until = tail.get(..at)?;
    }
    None
}

/// The text bytes of a whole answer, to count by when it brings no usage.
pub fn answer_text_bytes(route: Route, body: &[u8]) -> u64 {
    if !body.trim_ascii_start().starts_with(b"{") {
        return text::plain_answer(route, body);
    }
    let mut bytes = 0;
    each_member(body, |key, cursor| match key {
        b"choices" => bytes += choices_text(cursor.skip()),
        b"content" if route.dialect() == Dialect::Messages => bytes += blocks_text(cursor.skip()),
        b"output" if route.dialect() == Dialect::Responses => {
            each_item(cursor.skip(), |item| bytes += text::output_item_text(item));
        }
        b"text" if matches!(route, Route::Audio(_)) => bytes += member_text(cursor),
        _ => {
            cursor.skip();
        }
    });
    bytes
}

/// Figures as an upstream wrote them, whatever the dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// `prompt_tokens` or `input_tokens`.
    pub input: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    pub output: Option<u64>,
    pub total: Option<u64>,
    pub cached: Option<u64>,
    pub reasoning: Option<u64>,
    /// `cache_read_input_tokens`, beside `input`.
    pub cache_read: Option<u64>,
    /// `cache_creation_input_tokens`, beside `input`.
    pub cache_creation: Option<u64>,
}

impl Figures {
    /// Reads a `usage` object.
    pub fn read(object: &[u8]) -> Self {
        let mut figures = Self::default();
        each_member(object, |key, cursor| {
            let slot = match key {
                b"prompt_tokens" | b"input_tokens" => &mut figures.input,
                b"completion_tokens" | b"output_tokens" => &mut figures.output,
                b"total_tokens" => &mut figures.total,
                b"cache_read_input_tokens" => &mut figures.cache_read,
                b"cache_creation_input_tokens" => &mut figures.cache_creation,
                b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => {
                    figures.cached = member(cursor.skip(), b"cached_tokens").or(figures.cached);
                    return;
                }
                b"completion_tokens_details" | b"output_tokens_details" => {
                    figures.reasoning = member(cursor.skip(), b"reasoning_tokens").or(figures.reasoning);
                    return;
                }
                _ => {
                    cursor.skip();
                    return;
                }
            };
            *slot = whole(cursor.skip()).or(*slot);
        });
        figures
    }

    /// These figures, and `under` where they have none.
    pub fn over(self, under: Self) -> Self {
        Self {
            input: self.input.or(under.input),
            output: self.output.or(under.output),
            total: self.total.or(under.total),
            cached: self.cached.or(under.cached),
            reasoning: self.reasoning.or(under.reasoning),
            cache_read: self.cache_read.or(under.cache_read),
            cache_creation: self.cache_creation.or(under.cache_creation),
        }
    }

    /// The ledger's usage, when the figures suffice for one.
    pub fn usage(self, route: Route) -> Option<Usage> {
        let figures = if route.dialect() == Dialect::Messages { self.summed() } else { self };
        let (input, output) = match (figures.input, figures.output, figures.total) {
            (Some(input), Some(output), _) => (input, output),
            (Some(input), None, Some(total)) => (input, total.saturating_sub(input)),
            (None, Some(output), Some(total)) => (total.saturating_sub(output), output),
            (None, None, Some(total)) if !route.generates() => (total, 0),
            (Some(input), None, None) if !route.generates() => (input, 0),
            _ => return None,
        };
        let reasoning = figures.reasoning.unwrap_or(0);
        // Some servers count reasoning beside the answer; their total tells.
        let beside = reasoning > 0 && figures.total == Some(input.saturating_add(output + reasoning));
        let usage = Usage {
            input,
            cached_input: figures.cached.unwrap_or(0),
            output: if beside { output + reasoning } else { output },
            reasoning,
            source: UsageSource::Upstream,
        };
        Some(usage.clamped())
    }

    /// All of the prompt: on the messages route the cached parts stand beside `input_tokens`.
    pub fn summed(self) -> Self {
        let beside = self.cache_read.unwrap_or(0).saturating_add(self.cache_creation.unwrap_or(0));
        Self {
            input: self.input.map(|input| input.saturating_add(beside)),
            cached: self.cache_read.or(self.cached),
            ..self
        }
    }
}

fn member(object: &[u8], name: &[u8]) -> Option<u64> {
    let mut found = None;
    each_member(object, |key, cursor| {
        let value = cursor.skip();
        if key == name {
            found = whole(value).or(found);
        }
    });
    found
}

/// A whole number, also as `12.0`, up to what is beyond belief anyway.
fn whole(raw: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(raw).ok()?;
    let (digits, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let zero = !fraction.is_empty() && fraction.bytes().all(|b| b == b'0');
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    (zero && plain).then(|| digits.parse().ok()).flatten().map(|n: u64| n.min(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests;
