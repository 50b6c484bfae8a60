//! The shallow reading of one event's object.

use crate::wire::json::Cursor;

/// The members of an event's object that matter, unread.
#[derive(Default)]
pub struct Members<'a> {
    pub kind: Option<&'a [u8]>,
    pub choices: Option<&'a [u8]>,
    pub usage: Option<&'a [u8]>,
    pub error: Option<&'a [u8]>,
    pub delta: Option<&'a [u8]>,
    /// `response`, `message` or `content_block`.
    pub inner: Option<&'a [u8]>,
    pub sequence: Option<u64>,
    /// The outdated `{"object":"error","code":…}`.
    is_error_object: bool,
}

impl<'a> Members<'a> {
    pub fn read(data: &'a [u8]) -> Self {
        let mut members = Self::default();
        let mut cursor = Cursor::new(data);
        if !cursor.take(b'{') {
            return members;
        }
        while let Some(key) = cursor.next_key() {
            let name = key.text();
            cursor.peek();
            let value = cursor.skip();
            if cursor.is_broken() {
                break;
            }
            match &*name {
                b"type" => members.kind = unquoted(value),
                b"choices" => members.choices = Some(value),
                b"usage" => members.usage = object(value).or(members.usage),
                b"error" => members.error = object(value).or(members.error),
                b"delta" => members.delta = Some(value),
                b"response" | b"message" | b"content_block" => {
                    members.inner = object(value).or(members.inner);
                }
                b"sequence_number" => {
                    members.sequence = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
                }
                b"object" => members.is_error_object = value == b"\"error\"",
                _ => {}
            }
        }
        if members.is_error_object {
            members.error = members.error.or(Some(data));
        }
        members
    }

    pub fn has_no_choices(&self) -> bool {
        self.choices.is_none_or(|choices| Cursor::new(choices).take(b'[') && !has_item(choices))
    }
}

fn has_item(array: &[u8]) -> bool {
    let mut cursor = Cursor::new(array);
    cursor.take(b'[') && cursor.next_item()
}

pub fn object(value: &[u8]) -> Option<&[u8]> {
    value.starts_with(b"{").then_some(value)
}

pub fn unquoted(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}
