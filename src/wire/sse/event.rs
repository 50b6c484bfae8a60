//! The fields of one event.

use memchr::memchr2;
use std::borrow::Cow;

/// An event that carries data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event:` line, empty when there is none.
    pub name: &'a [u8],
    /// The `data:` lines, joined by line feeds. Of an opaque event only what its beginning holds.
    pub data: Cow<'a, [u8]>,
    /// The raw last bytes of an opaque event, `None` of one that is shown whole.
    pub tail: Option<&'a [u8]>,
    /// Whether its blank line came.
    pub complete: bool,
    has_data: bool,
}

impl<'a> Event<'a> {
    /// An event with this name and data.
    pub const fn new(name: &'a [u8], data: &'a [u8]) -> Self {
        Self { name, data: Cow::Borrowed(data), tail: None, complete: true, has_data: true }
    }

    /// Reads the lines of `block`; the first block of a stream may begin with a byte order mark.
    pub(super) fn parse(block: &'a [u8], first: bool, complete: bool) -> Self {
        let mut event = Self { complete, has_data: false, ..Self::new(b"", b"") };
        let mut rest = match block.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if first => rest,
            _ => block,
        };
        while !rest.is_empty() {
            let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (line, after) = rest.split_at(end);
            event.line(line);
            // The LF of a CR LF reads as one more, empty, line.
            rest = after.get(1..).unwrap_or_default();
        }
        event
    }

    /// An opaque event of which only the beginning and the end are known.
    pub(super) fn opaque(head: &'a [u8], tail: &'a [u8], first: bool, complete: bool) -> Self {
        Self { tail: Some(tail), ..Self::parse(head, first, complete) }
    }

    pub(super) const fn has_data(&self) -> bool {
        self.has_data
    }

    fn line(&mut self, line: &'a [u8]) {
        if let Some(value) = field(line, b"data") {
            if self.has_data {
                let data = self.data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            } else {
                self.data = Cow::Borrowed(value);
                self.has_data = true;
            }
        } else if let Some(value) = field(line, b"event") {
            self.name = value;
        }
    }
}

/// The value of `line` if it is the field `name`.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}
