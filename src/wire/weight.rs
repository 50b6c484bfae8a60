//! How much prompt a value of a request body holds.
//!
//! What cannot be told apart weighs as text: an estimate too high is settled to the truth, one too low lets a
//! budget be overrun. So a `data:` string is media only where the upstream does not read plain text, and what
//! a template renders as JSON (tools, arguments) weighs as its JSON text.
//! Reads values that serde_json has found to be JSON.

use super::json::{Cursor, Str};

/// The prompt of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// UTF-8 bytes of text, unescaped.
    pub text_bytes: u64,
    /// Tokens given as numbers.
    pub token_ids: u64,
    /// Images, sounds, videos and files; their bytes and addresses are not text.
    pub media_parts: u64,
    /// Something in it is not known to be text alone: the bytes do not bound what the upstream makes of it.
    pub unbounded: bool,
}

impl Weight {
    pub(super) fn text(bytes: usize) -> Self {
        Self { text_bytes: u64::try_from(bytes).unwrap_or(u64::MAX), ..Self::default() }
    }

    const fn media() -> Self {
        Self { text_bytes: 0, token_ids: 0, media_parts: 1, unbounded: true }
    }

    pub(super) const fn times(self, count: u64) -> Self {
        Self {
            text_bytes: self.text_bytes.saturating_mul(count),
            token_ids: self.token_ids.saturating_mul(count),
            media_parts: self.media_parts.saturating_mul(count),
            unbounded: self.unbounded && count > 0,
        }
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.text_bytes = self.text_bytes.saturating_add(other.text_bytes);
        self.token_ids = self.token_ids.saturating_add(other.token_ids);
        self.media_parts = self.media_parts.saturating_add(other.media_parts);
        self.unbounded |= other.unbounded;
    }
}

/// Weighs one top-level value, and counts its items if it is an array. `plain` says that the upstream reads a
/// string here as text whatever it looks like. The caller has bounded how deep the value nests.
pub(super) fn weigh(raw: &str, plain: bool) -> (Weight, u64) {
    let mut cursor = Cursor::new(raw.as_bytes());
    if cursor.peek() == Some(b'[') { array(&mut cursor, plain) } else { (value(&mut cursor, plain), 0) }
}

fn value(cursor: &mut Cursor<'_>, plain: bool) -> Weight {
    match cursor.peek() {
        Some(b'"') => cursor.string().map_or_else(Weight::default, |s| string(&s, plain)),
        Some(b'{') => object(cursor),
        Some(b'[') => array(cursor, plain).0,
        _ => {
            cursor.skip();
            Weight::default()
        }
    }
}

fn string(text: &Str<'_>, plain: bool) -> Weight {
    if !plain && is_data_url(text.raw) { Weight::media() } else { Weight::text(text.text_len()) }
}

/// `data:<type>;base64,…`, with a head no longer than any real one.
fn is_data_url(raw: &[u8]) -> bool {
    let Some(rest) = raw.strip_prefix(b"data:") else { return false };
    let head = rest.get(..128).unwrap_or(rest);
    memchr::memmem::find(head, b";base64,").is_some()
}

fn array(cursor: &mut Cursor<'_>, plain: bool) -> (Weight, u64) {
    let (mut sum, mut items) = (Weight::default(), 0);
    cursor.take(b'[');
    while cursor.next_item() {
        items += 1;
        if matches!(cursor.peek(), Some(b'0'..=b'9' | b'-')) {
            cursor.skip();
            sum.token_ids += 1;
        } else {
            sum.add(value(cursor, plain));
        }
    }
    (sum, items)
}

fn object(cursor: &mut Cursor<'_>) -> Weight {
    let mut sum = Weight::default();
    // Of the keys that hold media if the object turns out to be a media part.
    let mut payload = Weight::default();
    let mut is_media = false;
    let mut known = Known::default();
    cursor.take(b'{');
    while let Some(key) = cursor.next_key() {
        known.key(&key.text(), cursor.peek());
        match &*key.text() {
            b"type" => {
                let kind = cursor.string_or_skip();
                known.kind(kind.as_ref().is_some_and(|kind| TEXT_TYPES.contains(&&*kind.text())));
                is_media = kind.is_some_and(|kind| MEDIA_TYPES.contains(&&*kind.text()));
            }
            b"role" => {
                cursor.skip();
            }
            name if RENDERED_KEYS.contains(&name) && cursor.peek() == Some(b'{') => {
                sum.add(Weight::text(cursor.skip().len()));
            }
            name if PAYLOAD_KEYS.contains(&name) => payload.add(value(cursor, false)),
            name => sum.add(value(cursor, PLAIN_KEYS.contains(&name))),
        }
    }
    if !is_media {
        sum.add(payload);
    } else {
        sum.media_parts = sum.media_parts.saturating_add(payload.media_parts).max(1);
    }
    sum.unbounded |= !known.is_text();
    sum
}

/// What is known of one object of the prompt.
#[derive(Debug, Default)]
struct Known {
    /// A key that may hold or name something else than text.
    foreign: bool,
    /// `type` says something else than text, or is there twice.
    odd: bool,
    typed: bool,
    role: bool,
    id: bool,
}

impl Known {
    /// A key, and the first byte of its value. Numbers, booleans and null hold nothing.
    fn key(&mut self, key: &[u8], value: Option<u8>) {
        if !matches!(value, Some(b'"' | b'{' | b'[')) {
            return;
        }
        match key {
            b"type" => {}
            b"role" => self.role = true,
            b"id" => self.id = true,
            key => self.foreign |= !TEXT_KEYS.contains(&key),
        }
    }

    const fn kind(&mut self, text: bool) {
        self.odd |= self.typed || !text;
        self.typed = true;
    }

    /// Whether its bytes bound its tokens. One that has an id and says not what it is may refer to something kept.
    const fn is_text(&self) -> bool {
        !self.foreign && !self.odd && (self.typed || self.role || !self.id)
    }
}

/// `type` of objects that are, or carry, media.
const MEDIA_TYPES: &[&[u8]] = &[
    b"image_url",
    b"input_image",
    b"image",
    b"image_embeds",
    b"input_audio",
    b"audio_url",
    b"audio",
    b"video_url",
    b"input_video",
    b"video",
    b"input_file",
    b"file",
    b"base64",
    b"url",
];

/// `type` of objects that hold text and nothing but text, or parts that say themselves what they are.
const TEXT_TYPES: &[&[u8]] = &[
    b"text",
    b"input_text",
    b"output_text",
    b"summary_text",
    b"reasoning_text",
    b"refusal",
    b"thinking",
    b"redacted_thinking",
    b"message",
    b"function",
    b"function_call",
    b"function_call_output",
    b"custom",
    b"custom_tool_call",
    b"custom_tool_call_output",
    b"tool_use",
    b"tool_result",
    b"document",
    b"content",
    b"ephemeral",
];

/// Keys of such objects whose values are text, parts, or what a template renders as JSON.
const TEXT_KEYS: &[&[u8]] = &[
    b"content",
    b"text",
    b"name",
    b"title",
    b"context",
    b"source",
    b"data",
    b"media_type",
    b"refusal",
    b"thinking",
    b"signature",
    b"summary",
    b"reasoning",
    b"reasoning_content",
    b"encrypted_content",
    b"status",
    b"annotations",
    b"citations",
    b"cache_control",
    b"ttl",
    b"tools",
    b"tool_calls",
    b"tool_call_id",
    b"tool_use_id",
    b"call_id",
    b"function",
    b"function_call",
    b"description",
    b"parameters",
    b"input_schema",
    b"arguments",
    b"input",
    b"output",
    b"query",
];

/// Keys of such objects that are no text.
const PAYLOAD_KEYS: &[&[u8]] = &[
    b"image_url",
    b"image",
    b"image_embeds",
    b"input_audio",
    b"audio_url",
    b"audio",
    b"video_url",
    b"video",
    b"file",
    b"file_data",
    b"file_url",
    b"file_id",
    b"filename",
    b"data",
    b"url",
    b"uuid",
    b"media_type",
    b"detail",
    b"format",
];

/// Keys whose strings the upstream reads as text.
const PLAIN_KEYS: &[&[u8]] =
    &[b"content", b"text", b"arguments", b"output", b"thinking", b"reasoning", b"reasoning_content", b"name"];

/// Keys whose objects a template renders as JSON.
const RENDERED_KEYS: &[&[u8]] = &[b"input", b"arguments", b"parameters", b"input_schema"];

#[cfg(test)]
mod tests;
