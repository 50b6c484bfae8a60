//! The text in the parts of an answer, in bytes.

use crate::wire::json::{Cursor, each_item, each_member};
use crate::wire::route::Route;

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The length of a string value; other values have none.
pub fn member_text(cursor: &mut Cursor<'_>) -> u64 {
    cursor.string_or_skip().map_or(0, |s| count(s.text_len()))
}

/// `choices` of a chunk or an answer.
pub fn choices_text(choices: &[u8]) -> u64 {
    let mut bytes = 0;
    let mut cursor = Cursor::new(choices);
    if cursor.take(b'[') {
        while cursor.next_item() {
            bytes += choice_text(&mut cursor);
        }
    }
    bytes
}

fn choice_text(cursor: &mut Cursor<'_>) -> u64 {
    let mut bytes = 0;
    if !cursor.take(b'{') {
        cursor.skip();
        return 0;
    }
    while let Some(key) = cursor.next_key() {
        bytes += match &*key.text() {
            b"delta" | b"message" => message_text(cursor),
            b"text" => member_text(cursor),
            _ => skipped(cursor),
        };
    }
    bytes
}

fn skipped(cursor: &mut Cursor<'_>) -> u64 {
    cursor.skip();
    0
}

/// A chat message or a delta of one.
fn message_text(cursor: &mut Cursor<'_>) -> u64 {
    if !cursor.take(b'{') {
        return skipped(cursor);
    }
    let (mut bytes, mut reasoning) = (0, 0);
    while let Some(key) = cursor.next_key() {
        bytes += match &*key.text() {
            b"content" if cursor.peek() == Some(b'[') => blocks_text(cursor.skip()),
            b"content" | b"refusal" => member_text(cursor),
            // One text under its old and its new name.
            b"reasoning" | b"reasoning_content" => {
                reasoning = member_text(cursor).max(reasoning);
                0
            }
            b"tool_calls" => calls_text(cursor.skip()),
            b"function_call" => function_text(cursor.skip()),
            _ => skipped(cursor),
        };
    }
    bytes + reasoning
}

fn calls_text(calls: &[u8]) -> u64 {
    let mut bytes = 0;
    each_item(calls, |call| {
        each_member(call, |key, cursor| {
            let value = cursor.skip();
            if key == b"function" {
                bytes += function_text(value);
            }
        });
    });
    bytes
}

fn function_text(function: &[u8]) -> u64 {
    let mut bytes = 0;
    each_member(function, |key, cursor| match key {
        b"name" | b"arguments" => bytes += member_text(cursor),
        _ => {
            cursor.skip();
        }
    });
    bytes
}

/// Content blocks: texts, thoughts, and inputs of tools as their JSON.
pub fn blocks_text(blocks: &[u8]) -> u64 {
    let mut bytes = 0;
    each_item(blocks, |block| bytes += block_text(block));
    bytes
}

/// One content block, or a delta of one.
pub fn block_text(block: &[u8]) -> u64 {
    let mut bytes = 0;
    each_member(block, |key, cursor| match key {
        b"text" | b"thinking" | b"partial_json" | b"refusal" => bytes += member_text(cursor),
        b"input" if cursor.peek() == Some(b'{') => bytes += count(cursor.skip().len()),
        _ => {
            cursor.skip();
        }
    });
    bytes
}

/// An item of a response's `output`.
pub fn output_item_text(item: &[u8]) -> u64 {
    let mut bytes = 0;
    each_member(item, |key, cursor| match key {
        b"content" | b"summary" => bytes += blocks_text(cursor.skip()),
        b"arguments" | b"name" => bytes += member_text(cursor),
        b"input" => bytes += member_text(cursor),
        _ => {
            cursor.skip();
        }
    });
    bytes
}

/// An answer that is no JSON: a transcript asked for as plain text, else bytes that are no text.
pub fn plain_answer(route: Route, body: &[u8]) -> u64 {
    let is_transcript =
        matches!(&route, Route::Audio(s) if matches!(s.as_str(), "transcriptions" | "translations"));
    if is_transcript && std::str::from_utf8(body).is_ok() { count(body.len()) } else { 0 }
}
