//! A pull cursor over JSON bytes: takes what it is asked for and skips the rest without allocating.
//!
//! Is: the reader of values that are already known to be JSON, and of answers, where a fault only means that
//! nothing more is learned. Is not: a validator (request bodies are validated by serde_json first).
//! Invariant: each call moves forward or sets `broken`, and nothing is read once `broken` is set; so every
//! loop over it ends.

use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// A string literal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Str<'a> {
    /// With its quotes.
    quoted: &'a [u8],
    /// Without its quotes.
    pub raw: &'a [u8],
    /// Whether a backslash occurs in it.
    pub escaped: bool,
}

impl<'a> Str<'a> {
    /// The unescaped bytes; empty when an escape is not valid.
    pub fn text(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        Cow::Owned(serde_json::from_slice::<String>(self.quoted).unwrap_or_default().into_bytes())
    }

    /// How many bytes the unescaped text has.
    pub fn text_len(&self) -> usize {
        if !self.escaped {
            return self.raw.len();
        }
        let mut rest = self.raw;
        let mut len = 0;
        while let Some(at) = memchr(b'\\', rest) {
            let (taken, bytes) = match rest.get(at + 1) {
                Some(b'u') => (6, unit_len(rest.get(at + 2..at + 6))),
                _ => (2, 1),
            };
            len += at + bytes;
            rest = rest.get(at + taken..).unwrap_or_default();
        }
        len + rest.len()
    }
}

/// The bytes a `\uXXXX` stands for in UTF-8; a surrogate is half of four.
fn unit_len(hex: Option<&[u8]>) -> usize {
    let unit = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u16::from_str_radix(h, 16).ok());
    match unit {
        Some(0..=0x7f) => 1,
        Some(0x80..=0x7ff | 0xd800..=0xdfff) => 2,
        _ => 3,
    }
}

/// The cursor.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    broken: bool,
    /// How many containers the value last skipped nests.
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, broken: false, depth: 0 }
    }

    /// Where the cursor is.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// Whether something was not JSON.
    pub const fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many containers the value last skipped nests.
    pub const fn skipped_depth(&self) -> usize {
        self.depth
    }

    /// The next byte that is not white space, not taken.
    pub fn peek(&mut self) -> Option<u8> {
        if self.broken {
            return None;
        }
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Takes `byte` if it is next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// The next key of the object that was entered with `take(b'{')`; `None` at its end. The value must be
    /// taken before the next call.
    pub fn next_key(&mut self) -> Option<Str<'a>> {
        self.take(b',');
        if self.take(b'}') {
            return None;
        }
        let key = self.string()?;
        if !self.take(b':') {
            self.broken = true;
            return None;
        }
        Some(key)
    }

    /// Whether the array that was entered with `take(b'[')` has another item, which must be taken.
    pub fn next_item(&mut self) -> bool {
        self.take(b',');
        if self.take(b']') {
            return false;
        }
        if self.peek().is_none() {
            self.broken = true;
        }
        !self.broken
    }

    /// Takes a string; anything else breaks the cursor.
    pub fn string(&mut self) -> Option<Str<'a>> {
        if self.peek() != Some(b'"') {
            self.broken = true;
            return None;
        }
        let start = self.at;
        let mut end = start + 1;
        let mut escaped = false;
        loop {
            match self.bytes.get(end..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
                Some(step) if self.bytes.get(end + step) == Some(&b'"') => {
                    end += step;
                    break;
                }
                Some(step) => {
                    escaped = true;
                    end += step + 2;
                }
                None => {
                    self.broken = true;
                    return None;
                }
            }
        }
        self.at = end + 1;
        Some(Str { quoted: self.bytes.get(start..=end)?, raw: self.bytes.get(start + 1..end)?, escaped })
    }

    /// Takes a string if one is next, else skips the value.
    pub fn string_or_skip(&mut self) -> Option<Str<'a>> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        self.skip();
        None
    }

    /// Takes any value and returns its bytes.
    pub fn skip(&mut self) -> &'a [u8] {
        let next = self.peek();
        let start = self.at;
        self.depth = 0;
        match next {
            Some(b'"') => {
                self.string();
            }
            Some(b'{' | b'[') => self.skip_container(),
            Some(b'}' | b']' | b',' | b':') | None => self.broken = true,
            Some(_) => {
                let ends = |b: &u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
                let rest = self.bytes.get(start..).unwrap_or_default();
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        if self.broken { &[] } else { self.bytes.get(start..self.at).unwrap_or_default() }
    }

    fn skip_container(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    if self.string().is_none() {
                        return;
                    }
                    continue;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.depth = self.depth.max(depth);
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
        self.broken = true;
    }
}

/// The keys and values of the object at the start of `bytes`, until the first fault.
pub(super) fn each_member<'a>(bytes: &'a [u8], mut take: impl FnMut(&[u8], &mut Cursor<'a>)) {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(b'{') {
        while let Some(key) = cursor.next_key() {
            take(&key.text(), &mut cursor);
        }
    }
}

/// The items of the array at the start of `bytes`, until the first fault.
pub(super) fn each_item<'a>(bytes: &'a [u8], mut take: impl FnMut(&'a [u8])) {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(b'[') {
        while cursor.next_item() {
            let item = cursor.skip();
            if cursor.is_broken() {
                return;
            }
            take(item);
        }
    }
}

#[cfg(test)]
mod tests;
