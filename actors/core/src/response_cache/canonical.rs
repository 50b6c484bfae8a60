//! A JSON body in one form, whoever wrote it: order of keys, white space, escapes and spellings of numbers are
//! gone; everything else is there.
//!
//! Is: an encoding of values to hash, in linear time. Is not: JSON; it is never read back. Two bodies have the
//! same encoding if and only if they hold the same values. Repeated keys keep their order: which of them counts
//! is the upstream's choice, so bodies that repeat keys in another order are not the same.

use super::number;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Containers that may nest, as in the bodies the gateway takes.
const DEPTH: usize = 128;
/// A member's value that is longer than this stands for itself as its digest, so that sorting copies little.
const LONG: usize = 4096;

/// The body is not JSON, or too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has no canonical form")]
pub struct NotCanonical;

/// Fields at the top of a body that cannot change its answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    pub fields: &'static [&'static str],
    /// `include_usage` of `stream_options`: the answer is kept with its usage and served without.
    pub include_usage: bool,
}

/// A body in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    pub bytes: Vec<u8>,
    /// It offers tools, so the answer may be a call of one.
    pub tools: bool,
    /// It refers to what changes between two requests (`conversation`), or asks for a promise (`background`).
    pub stateful: bool,
}

impl Canonical {
    /// The form of `body`, a JSON object.
    pub fn of(body: &[u8], left_out: &LeftOut) -> Result<Self, NotCanonical> {
        let mut reader = Reader { bytes: body, at: 0 };
        let mut top = Top { left_out, tools: false, stateful: false };
        let mut out = Vec::with_capacity(body.len().min(64 * 1024) + 64);
        if reader.next() != Some(b'{') {
            return Err(NotCanonical);
        }
        reader.object(&mut out, 1, Some(&mut top))?;
        if reader.next().is_some() {
            return Err(NotCanonical);
        }
        Ok(Self { bytes: out, tools: top.tools, stateful: top.stateful })
    }
}

/// What is noted at the top of the body.
struct Top<'a> {
    left_out: &'a LeftOut,
    tools: bool,
    stateful: bool,
}

/// The encoding of an object without members, and of the values that say nothing.
const EMPTY: &[u8] = &[b'{', 0, 0, 0, 0, 0, 0, 0, 0];
const NO_ITEMS: &[u8] = &[b'[', 0, 0, 0, 0, 0, 0, 0, 0];
const NULL: &[u8] = b"z";
const FALSE: &[u8] = b"f";

impl Top<'_> {
    /// Whether the member counts; `value` is its encoding.
    fn counts(&mut self, key: &[u8], value: &[u8]) -> bool {
        let says_something = !matches!(value, NULL | FALSE | EMPTY | NO_ITEMS);
        match key {
            b"tools" | b"functions" => self.tools |= says_something,
            b"conversation" | b"background" => self.stateful |= says_something,
            // What is left when `include_usage` is taken away.
            b"stream_options" if self.left_out.include_usage => return says_something,
            _ => {}
        }
        !self.left_out.fields.iter().any(|field| field.as_bytes() == key)
    }
}

/// A member of an object within the output.
struct Member {
    key: Range<usize>,
    whole: Range<usize>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is not white space, not taken.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.next() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), NotCanonical> {
        match self.next().ok_or(NotCanonical)? {
            b'{' => self.object(out, depth + 1, None),
            b'[' => self.array(out, depth + 1),
            b'"' => {
                out.push(b's');
                self.string(out).map(|_| ())
            }
            b't' => self.word(b"true", b"t", out),
            b'f' => self.word(b"false", FALSE, out),
            b'n' => self.word(b"null", NULL, out),
            _ => {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                self.at += number::encode(rest, out).ok_or(NotCanonical)?;
                Ok(())
            }
        }
    }

    fn word(&mut self, word: &[u8], encoded: &[u8], out: &mut Vec<u8>) -> Result<(), NotCanonical> {
        if !self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            return Err(NotCanonical);
        }
        self.at += word.len();
        out.extend_from_slice(encoded);
        Ok(())
    }

    fn array(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), NotCanonical> {
        let open = self.open(b'[', out, depth)?;
        let mut count = 0;
        while !self.take(b']') {
            if count > 0 && !self.take(b',') {
                return Err(NotCanonical);
            }
            self.value(out, depth)?;
            count += 1;
        }
        set_length(out, open, count);
        Ok(())
    }

    /// Takes the opening bracket and makes room for the number of what follows.
    fn open(&mut self, bracket: u8, out: &mut Vec<u8>, depth: usize) -> Result<usize, NotCanonical> {
        if depth > DEPTH || !self.take(bracket) {
            return Err(NotCanonical);
        }
        out.push(bracket);
        Ok(make_room(out))
    }

    fn object(
        &mut self,
        out: &mut Vec<u8>,
        depth: usize,
        mut top: Option<&mut Top<'_>>,
    ) -> Result<(), NotCanonical> {
        let open = self.open(b'{', out, depth)?;
        let mut members: Vec<Member> = Vec::new();
        let mut first = true;
        while !self.take(b'}') {
            if !std::mem::take(&mut first) && !self.take(b',') {
                return Err(NotCanonical);
            }
            if self.next() != Some(b'"') {
                return Err(NotCanonical);
            }
            let start = out.len();
            let key = self.string(out)?;
            if !self.take(b':') {
                return Err(NotCanonical);
            }
            let value = out.len();
            let in_options = top.as_ref().is_some_and(|top| {
                top.left_out.include_usage && out.get(key.clone()) == Some(b"stream_options".as_slice())
            });
            if in_options && self.next() == Some(b'{') {
                let left_out = LeftOut { fields: &["include_usage"], include_usage: false };
                let mut options = Top { left_out: &left_out, tools: false, stateful: false };
                self.object(out, depth + 1, Some(&mut options))?;
            } else {
                self.value(out, depth)?;
            }
            let counts = match &mut top {
                None => true,
                Some(top) => {
                    let (key, value) = (out.get(key.clone()), out.get(value..));
                    top.counts(key.unwrap_or_default(), value.unwrap_or_default())
                }
            };
            if !counts {
                out.truncate(start);
                continue;
            }
            shorten(out, value);
            members.push(Member { key, whole: start..out.len() });
        }
        set_length(out, open, members.len());
        sort(out, open + LENGTH, &mut members);
        Ok(())
    }

    /// Takes a string and writes it unescaped behind its length; where its bytes are.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<Range<usize>, NotCanonical> {
        let room = make_room(out);
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let step = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).ok_or(NotCanonical)?;
            out.extend_from_slice(rest.get(..step).unwrap_or_default());
            self.at += step + 1;
            if rest.get(step) == Some(&b'"') {
                break;
            }
            self.escape(out)?;
        }
        let from = room + LENGTH;
        let length = out.len() - from;
        set_length(out, room, length);
        Ok(from..out.len())
    }

    /// Takes what follows a backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
        let byte = *self.bytes.get(self.at).ok_or(NotCanonical)?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let high = self.unit()?;
                push_unit(self.joined(high), out);
                return Ok(());
            }
            _ => return Err(NotCanonical),
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u32, NotCanonical> {
        let digits = self.bytes.get(self.at..self.at + 4).ok_or(NotCanonical)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(NotCanonical)?;
            Ok(unit * 16 + digit)
        })
    }

    /// The code point that begins with this unit: a pair of surrogates is one, a lone one stays as it is.
    fn joined(&mut self, high: u32) -> u32 {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if (0xd800..0xdc00).contains(&high) && rest.starts_with(b"\\u") {
            let mark = self.at;
            self.at += 2;
            if let Ok(low @ 0xdc00..0xe000) = self.unit() {
                return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            }
            self.at = mark;
        }
        high
    }
}

/// Writes a code point as UTF-8; a lone surrogate in three bytes that no valid text has.
fn push_unit(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let byte = |bits: u32| u8::try_from(bits & 0xff).unwrap_or_default();
            out.extend([
                byte(0xe0 | (code >> 12)),
                byte(0x80 | (code >> 6 & 0x3f)),
                byte(0x80 | (code & 0x3f)),
            ]);
        }
    }
}

/// Bytes of a length.
const LENGTH: usize = 8;

fn make_room(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    at
}

fn set_length(out: &mut [u8], at: usize, length: usize) {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if let Some(room) = out.get_mut(at..at + LENGTH) {
        room.copy_from_slice(&length.to_le_bytes());
    }
}

/// Replaces a long value at the end of `out` by its digest.
fn shorten(out: &mut Vec<u8>, from: usize) {
    let value = out.get(from..).unwrap_or_default();
    if value.len() > LONG {
        let digest = Sha256::digest(value);
        out.truncate(from);
        out.push(b'h');
        out.extend_from_slice(&digest);
    }
}

/// Puts the members, which begin at `from`, in the order of their keys; equal keys stay in theirs.
fn sort(out: &mut Vec<u8>, from: usize, members: &mut [Member]) {
    let key = |member: &Member| out.get(member.key.clone());
    if members.is_sorted_by_key(key) {
        return;
    }
    members.sort_by(|one, other| key(one).cmp(&key(other)));
    let whole = |member: &Member| out.get(member.whole.clone()).unwrap_or_default();
    let sorted = members.iter().map(whole).collect::<Vec<_>>().concat();
    out.truncate(from);
    out.extend_from_slice(&sorted);
}
