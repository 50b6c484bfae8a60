//! Whole events of a stream: for answers that are looked into before they pass.
//!
//! Is: a splitter after the WHATWG event-stream grammar that holds an event until it is complete, and its text
//! with other data. Is not: for streams that only pass (see [`super::scan`]). At most [`EVENT_MAX`] bytes are held.

use std::borrow::Cow;

/// The largest event that is held.
pub const EVENT_MAX: usize = 8 << 20;

/// An event that is larger than what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct Events {
    held: Vec<u8>,
    /// So much of `held` was looked at.
    seen: usize,
    /// The line that is being read has a byte.
    in_line: bool,
    /// The last byte was a CR: an LF next belongs to it.
    after_cr: bool,
}

impl Events {
    /// Takes the next bytes, and gives each event that is complete with them, its blank line included.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLarge> {
        self.held.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(end) = self.next_end() {
            each(self.held.get(begin..end).unwrap_or_default());
            begin = end;
        }
        self.held.drain(..begin);
        self.seen = self.held.len();
        if self.held.len() > EVENT_MAX { Err(TooLarge) } else { Ok(()) }
    }

    /// What is left at the end: an incomplete event, which nobody acts on.
    pub fn rest(self) -> Vec<u8> {
        self.held
    }

    /// The end of the next event: after a blank line.
    fn next_end(&mut self) -> Option<usize> {
        while let Some(&byte) = self.held.get(self.seen) {
            self.seen += 1;
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    if !std::mem::take(&mut self.in_line) {
                        return Some(self.seen);
                    }
                }
                _ => (self.after_cr, self.in_line) = (false, true),
            }
        }
        None
    }
}

/// The lines of an event.
fn lines(event: &str) -> impl Iterator<Item = &str> {
    // CR LF gives an empty line more, which means nothing within an event.
    event.split(['\r', '\n']).filter(|line| !line.is_empty())
}

fn data_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("data")?;
    if rest.is_empty() {
        return Some("");
    }
    let value = rest.strip_prefix(':')?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

/// The data of an event; `None` when it has none, or is not UTF-8.
pub fn data(event: &[u8]) -> Option<Cow<'_, str>> {
    let mut parts = lines(text_of(event)?).filter_map(data_of);
    let first = parts.next()?;
    let mut all = Cow::Borrowed(first);
    for part in parts {
        let all = all.to_mut();
        all.push('\n');
        all.push_str(part);
    }
    Some(all)
}

/// The event with other data; `data` is JSON.
pub fn with_data(event: &[u8], data: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    let mut written = false;
    for line in lines(text_of(event).unwrap_or_default()) {
        let is_data = data_of(line).is_some();
        if is_data && std::mem::replace(&mut written, true) {
            continue;
        }
        if is_data {
            out.extend_from_slice(b"data: ");
            // Line ends in JSON stand between tokens only.
            out.extend(data.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        } else {
            out.extend_from_slice(line.as_bytes());
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

fn text_of(event: &[u8]) -> Option<&str> {
    std::str::from_utf8(event).ok().map(|text| text.strip_prefix('\u{feff}').unwrap_or(text))
}
