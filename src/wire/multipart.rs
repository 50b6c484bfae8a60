//! multipart/form-data bodies, read shallowly: the parts the gateway needs, no part copied.
//!
//! Stricter than RFC 2046 wherever two parsers could read one body in two ways (preamble, bare line feeds,
//! folded headers, extended names): what is checked here must be what the upstream sees.

use super::request::{BodyError, MAX_CHOICES};
use super::route::Route;
use super::splice::{Edits, Spliced};
use super::weight::Weight;
use bytes::Bytes;
use header::{boundary, disposition, is_identity, is_token};
use memchr::memmem;
use obleth_core::response_cache::Parts as Digest;
use std::borrow::Cow;
use std::ops::Range;

mod header;

pub use header::is_form;

/// Why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormFault {
    #[error("the content type names no usable boundary")]
    Boundary,
    #[error("the body does not start with the boundary")]
    Start,
    #[error("the closing boundary is missing")]
    Unterminated,
    #[error("bytes follow the closing boundary")]
    Trailing,
    #[error("a part has headers that cannot be read")]
    Headers,
    #[error("a part has no name, or one that can be read in two ways")]
    Name,
}

/// What a form asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub route: Route,
    pub model: String,
    /// Where the value of the `model` part stands.
    pub model_span: Range<usize>,
    pub stream: bool,
    /// Answers the upstream makes.
    pub choices: u64,
    /// Bytes of the file parts.
    pub media_bytes: u64,
    /// Text of the prompt parts, and one media part a file.
    pub weight: Weight,
}

/// One part: its name, whether it is a file, where its value stands.
struct Part<'a> {
    name: Cow<'a, str>,
    is_file: bool,
    /// Its header lines.
    head: Range<usize>,
    value: Range<usize>,
}

/// A digest of a form by its parts, whatever its boundary: parts of different names in any order, those of one
/// name in theirs. What cannot change an answer, or counts by itself, is left out. `None`: it is malformed.
pub fn canonical(content_type: &str, body: &[u8]) -> Option<Vec<u8>> {
    let delimiter = format!("\r\n--{}", boundary(content_type)?);
    let mut parts = Parts::new(body, delimiter.as_bytes()).ok()?;
    let mut counting = Vec::new();
    while let Some(part) = parts.next().ok()? {
        if part.is_file || !matches!(&*part.name, "model" | "stream" | "user") {
            counting.push(part);
        }
    }
    counting.sort_by(|one, other| one.name.cmp(&other.name));
    let mut digest = Digest::new(b"form");
    digest.count(counting.len());
    for part in counting {
        digest.push(body.get(part.head)?);
        digest.push(body.get(part.value)?);
    }
    Some(digest.digest().to_vec())
}

impl Form {
    /// Reads the form of a request on `route`.
    pub fn read(route: Route, content_type: &str, body: &[u8]) -> Result<Self, BodyError> {
        if body.is_empty() {
            return Err(BodyError::Empty);
        }
        let delimiter = format!("\r\n--{}", boundary(content_type).ok_or(FormFault::Boundary)?);
        let mut form = Self {
            route,
            model: String::new(),
            model_span: 0..0,
            stream: false,
            choices: 1,
            media_bytes: 0,
            weight: Weight::default(),
        };
        let mut seen = Seen::default();
        let mut parts = Parts::new(body, delimiter.as_bytes())?;
        while let Some(part) = parts.next()? {
            let value = body.get(part.value.clone()).unwrap_or_default();
            form.take(&part, value, &mut seen)?;
        }
        if seen.model { Ok(form) } else { Err(BodyError::ModelMissing) }
    }

    /// The body with another value of `model`.
    pub fn rewrite(&self, body: &Bytes, upstream_model: &str) -> Spliced {
        let mut edits = Edits::default();
        if upstream_model != self.model {
            edits.replace(self.model_span.clone(), upstream_model.to_owned());
        }
        edits.apply(body)
    }

    fn take(&mut self, part: &Part<'_>, value: &[u8], seen: &mut Seen) -> Result<(), BodyError> {
        let field: &'static str = match &*part.name {
            "model" => "model",
            "stream" => "stream",
            "n" => "n",
            "prompt" => "prompt",
            _ if part.is_file => {
                self.media_bytes += u64::try_from(value.len()).unwrap_or(u64::MAX);
                self.weight.media_parts += 1;
                self.weight.unbounded = true;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if part.is_file {
            return Err(BodyError::WrongType { field });
        }
        let text = std::str::from_utf8(value).map_err(|_| BodyError::WrongType { field })?;
        if !seen.first(field) {
            return Err(BodyError::DuplicateField { field });
        }
        match field {
            "model" => {
                if text.is_empty() {
                    return Err(BodyError::WrongType { field });
                }
                self.model = text.to_owned();
                self.model_span = part.value.clone();
            }
            "stream" => self.stream = flag(text).ok_or(BodyError::WrongType { field })?,
            "n" => {
                let n = text.parse().ok().filter(|n| (1..=MAX_CHOICES).contains(n));
                self.choices = n.ok_or(BodyError::WrongType { field })?;
            }
            _ => self.weight.add(Weight::text(text.len())),
        }
        Ok(())
    }
}

/// Which of the parts that may occur once did.
#[derive(Default)]
struct Seen {
    model: bool,
    stream: bool,
    n: bool,
    prompt: bool,
}

impl Seen {
    fn first(&mut self, field: &str) -> bool {
        let slot = match field {
            "model" => &mut self.model,
            "stream" => &mut self.stream,
            "n" => &mut self.n,
            _ => &mut self.prompt,
        };
        !std::mem::replace(slot, true)
    }
}

/// A form flag as the servers' own form readers take it.
fn flag(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
    if is(&["true", "1", "yes", "on", "t", "y"]) {
        return Some(true);
    }
    is(&["false", "0", "no", "off", "f", "n", ""]).then_some(false)
}

/// Walks from delimiter to delimiter.
struct Parts<'a> {
    body: &'a [u8],
    /// CR LF, two dashes, boundary.
    delimiter: &'a [u8],
    finder: memmem::Finder<'a>,
    /// After a delimiter, before what follows it on its line.
    at: usize,
}

impl<'a> Parts<'a> {
    fn new(body: &'a [u8], delimiter: &'a [u8]) -> Result<Self, FormFault> {
        let first = delimiter.get(2..).unwrap_or_default();
        let blank = body.strip_prefix(b"\r\n").unwrap_or(body);
        let rest = blank.strip_prefix(first).ok_or(FormFault::Start)?;
        let at = body.len() - rest.len();
        Ok(Self { body, delimiter, finder: memmem::Finder::new(delimiter), at })
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Result<Option<Part<'a>>, FormFault> {
        if let Some(epilogue) = self.rest().strip_prefix(b"--") {
            let blank = epilogue.iter().all(|b| b.is_ascii_whitespace());
            return if blank { Ok(None) } else { Err(FormFault::Trailing) };
        }
        self.end_line()?;
        let head = self.at;
        let (name, is_file) = self.headers()?;
        let start = self.at;
        let end = self.find_delimiter().ok_or(FormFault::Unterminated)?;
        Ok(Some(Part { name, is_file, head: head..start, value: start..end }))
    }

    /// Takes the padding and line end after a delimiter.
    fn end_line(&mut self) -> Result<(), FormFault> {
        let rest = self.rest();
        let padding = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        match rest.get(padding..) {
            Some(line) if line.starts_with(b"\r\n") => self.at += padding + 2,
            Some([] | [b'\r']) | None => return Err(FormFault::Unterminated),
            Some(_) => return Err(FormFault::Start),
        }
        Ok(())
    }

    /// The name in the part's headers, and whether it is a file.
    fn headers(&mut self) -> Result<(Cow<'a, str>, bool), FormFault> {
        let mut found = None;
        loop {
            let rest = self.rest();
            let end = memmem::find(rest, b"\r\n").ok_or(FormFault::Unterminated)?;
            let line = rest.get(..end).and_then(|l| std::str::from_utf8(l).ok()).ok_or(FormFault::Headers)?;
            self.at += end + 2;
            if line.is_empty() {
                return found.ok_or(FormFault::Name);
            }
            let (name, value) = line.split_once(':').ok_or(FormFault::Headers)?;
            if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0']) {
                return Err(FormFault::Headers);
            }
            if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_identity(value) {
                return Err(FormFault::Headers);
            }
            if name.eq_ignore_ascii_case("content-disposition")
                && found.replace(disposition(value)?).is_some()
            {
                return Err(FormFault::Name);
            }
        }
    }

    /// Moves behind the next delimiter and returns where it begins.
    fn find_delimiter(&mut self) -> Option<usize> {
        let mut from = self.at;
        loop {
            let start = from + self.finder.find(self.body.get(from..)?)?;
            self.at = start + self.delimiter.len();
            // A longer line that begins like the delimiter is content.
            if matches!(self.rest(), [b'-', b'-', ..] | [b'\r', b'\n', ..] | [b' ' | b'\t', ..]) {
                return Some(start);
            }
            from = self.at;
        }
    }
}

#[cfg(test)]
mod tests;
