//! Counts what passes in a stream, event by event.
//!
//! Is: a reader of each dialect's events for text, usage, the end and failures. Is not: a judge; an event it
//! cannot read counts for nothing and passes. Invariant: what is counted depends on the events alone, so on no
//! chunking (see [`super::sse`]).

use super::json::{Cursor, each_item, each_member};
use super::route::{Dialect, Route};
use super::sse::Event;
use super::usage::{Figures, blocks_text, choices_text, figures_in_tail, member_text};
use obleth_core::ledger::Usage;

/// An error event from the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamFault {
    /// The status it names in `code`, when it is one.
    pub status: Option<u16>,
}

/// What one event was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The extra chunk that brings the usage and nothing else: for a client that did not ask, to be dropped.
    pub usage_only: bool,
    /// The stream is over with this event.
    pub terminal: bool,
    /// The upstream failed.
    pub failed: Option<UpstreamFault>,
    /// The first event with text of the answer.
    pub first_token: bool,
}

/// The meter of one stream.
#[derive(Clone, Debug)]
pub struct StreamMeter {
    route: Route,
    /// The latest figures; on the messages route put together from several events.
    figures: Figures,
    /// Whether the figures count the answer so far, not only its prompt.
    counts_output: bool,
    text_bytes: u64,
    /// Events with text or sound.
    events: u64,
    sequence: u64,
    complete: bool,
    /// A choice named why it ended.
    finished: bool,
}

/// The members of an event's object that matter, unread.
#[derive(Default)]
struct Members<'a> {
    kind: Option<&'a [u8]>,
    choices: Option<&'a [u8]>,
    usage: Option<&'a [u8]>,
    error: Option<&'a [u8]>,
    delta: Option<&'a [u8]>,
    /// `response`, `message` or `content_block`.
    inner: Option<&'a [u8]>,
    sequence: Option<u64>,
    /// The outdated `{"object":"error","code":…}`.
    is_error_object: bool,
}

impl<'a> Members<'a> {
    fn read(data: &'a [u8]) -> Self {
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

    /// No choices, or only ones that say nothing: LiteLLM sends the usage with `{"index":0,"delta":{}}`.
    fn has_no_choices(&self) -> bool {
        self.choices.is_none_or(|choices| {
            let mut nothing = choices.starts_with(b"[");
            each_item(choices, |choice| nothing &= says_nothing(choice));
            nothing
        })
    }
}

/// Whether a `finish_reason` in it is a string. Within a text its quotes would be escaped.
fn names_finish(choices: &[u8]) -> bool {
    const NAME: &[u8] = b"\"finish_reason\"";
    memchr::memmem::find_iter(choices, NAME).any(|at| {
        let rest = choices.get(at + NAME.len()..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"\""))
    })
}

/// Whether nothing but the number of a choice is in it.
fn says_nothing(choice: &[u8]) -> bool {
    let mut nothing = choice.starts_with(b"{");
    each_member(choice, |key, cursor| {
        let value = cursor.skip();
        nothing &= key == b"index" || matches!(value, b"null" | b"\"\"" | b"{}");
    });
    nothing
}

fn object(value: &[u8]) -> Option<&[u8]> {
    value.starts_with(b"{").then_some(value)
}

fn unquoted(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

impl StreamMeter {
    pub fn new(route: Route) -> Self {
        Self {
            route,
            figures: Figures::default(),
            counts_output: false,
            text_bytes: 0,
            events: 0,
            sequence: 0,
            complete: false,
            finished: false,
        }
    }

    /// Takes note of an event.
    pub fn event(&mut self, event: &Event<'_>) -> Note {
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            self.complete = true;
            return Note { terminal: true, ..Note::default() };
        }
        let before = self.events;
        let members = Members::read(data);
        let kind = members.kind.unwrap_or(event.name);
        let mut note = match self.route.dialect() {
            Dialect::Chunks => self.chunk(kind, &members, event.tail),
            Dialect::Responses => self.response(kind, &members, event.tail),
            Dialect::Messages => self.message(kind, &members),
        };
        note.first_token = before == 0 && self.events > 0;
        self.complete |= note.terminal;
        note
    }

    /// What the upstream says was used; `None` while it has not said it of the answer.
    pub fn usage(&self) -> Option<Usage> {
        if self.counts_output { self.figures.usage(self.route) } else { None }
    }

    /// The prompt's tokens, as soon as the upstream has named them.
    pub fn input_tokens(&self) -> Option<u64> {
        let messages = self.route.dialect() == Dialect::Messages;
        if messages { self.figures.summed().input } else { self.figures.input }
    }

    /// Text of the answer so far: its bytes, and the events that brought some.
    pub const fn counted(&self) -> (u64, u64) {
        (self.text_bytes, self.events)
    }

    /// The best figure for the answer's tokens so far.
    pub fn output_tokens_so_far(&self) -> u64 {
        match self.usage() {
            Some(usage) => usage.output,
            None => self.text_bytes.div_ceil(4).max(self.events),
        }
    }

    /// The sequence number a next event would have.
    pub const fn next_sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether an end was seen; without one the stream was cut. Streams of images have no other end than
    /// that of their bytes, after a completed image.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether the answer itself was over, with or without a `[DONE]` after it.
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    fn text(&mut self, bytes: u64) {
        if bytes > 0 {
            self.text_bytes = self.text_bytes.saturating_add(bytes);
            self.events += 1;
        }
    }

    fn account(&mut self, figures: Figures) {
        if figures.usage(self.route).is_some() {
            self.figures = figures;
            self.counts_output = true;
        }
    }

    /// The usage in the end of an event too long to be shown whole.
    fn account_tail(&mut self, tail: Option<&[u8]>) {
        let route = self.route;
        if let Some(found) = tail.and_then(|t| figures_in_tail(t, |f| f.usage(route).map(|_| f))) {
            self.account(found);
        }
    }

    fn chunk(&mut self, kind: &[u8], members: &Members<'_>, tail: Option<&[u8]>) -> Note {
        let mut note = Note { failed: members.error.map(fault), ..Note::default() };
        self.text(members.choices.map_or(0, choices_text));
        self.finished |= members.choices.is_some_and(names_finish);
        if let Some(usage) = members.usage {
            self.account(Figures::read(usage));
            note.usage_only = note.failed.is_none() && tail.is_none() && members.has_no_choices();
        }
        self.account_tail(tail);
        // Events of sounds, transcripts and images, which have a type.
        if kind.ends_with(b".audio.delta") || kind.ends_with(b".partial_image") {
            self.events += 1;
        } else if kind.ends_with(b".delta") {
            self.text(members.delta.map_or(0, string_len));
        }
        if kind.ends_with(b".done") || kind.ends_with(b".completed") {
            note.usage_only = false;
            note.terminal = kind.ends_with(b".done");
            self.complete = true;
        }
        note
    }

    fn response(&mut self, kind: &[u8], members: &Members<'_>, tail: Option<&[u8]>) -> Note {
        if let Some(sequence) = members.sequence {
            self.sequence = sequence.saturating_add(1);
        }
        let mut note = Note::default();
        match kind {
            b"response.completed" | b"response.incomplete" | b"response.failed" | b"response.cancelled" => {
                note.terminal = true;
                let mut error = None;
                each_member(members.inner.unwrap_or_default(), |key, cursor| match key {
                    b"usage" => self.account(Figures::read(cursor.skip())),
                    b"error" => error = object(cursor.skip()),
                    _ => {
                        cursor.skip();
                    }
                });
                self.account_tail(tail);
                note.failed = (kind == b"response.failed").then(|| error.map(fault).unwrap_or_default());
            }
            b"error" => note.failed = Some(members.error.map(fault).unwrap_or_default()),
            _ if members.error.is_some() => note.failed = members.error.map(fault),
            _ if kind.ends_with(b"audio.delta") => self.events += 1,
            _ if kind.ends_with(b".delta") => self.text(members.delta.map_or(0, string_len)),
            _ => {}
        }
        note
    }

    fn message(&mut self, kind: &[u8], members: &Members<'_>) -> Note {
        let mut note = Note::default();
        match kind {
            b"message_start" => each_member(members.inner.unwrap_or_default(), |key, cursor| {
                let value = cursor.skip();
                if key == b"usage" {
                    self.figures = Figures::read(value).over(self.figures);
                }
            }),
            b"message_delta" => {
                if let Some(usage) = members.usage {
                    self.message_usage(Figures::read(usage));
                }
            }
            b"content_block_start" => self.text(members.inner.map_or(0, block_start_text)),
            b"content_block_delta" => self.text(members.delta.map_or(0, block_start_text)),
            b"message_stop" => note.terminal = true,
            b"error" => {
                note.failed = Some(members.error.map(fault).unwrap_or_default());
                note.terminal = true;
            }
            _ if members.error.is_some() => note.failed = members.error.map(fault),
            _ => {}
        }
        note
    }

    /// The figures of a `message_delta` are those of the whole message so far. Servers that repeat the
    /// prompt's figures sometimes repeat them as zero.
    fn message_usage(&mut self, delta: Figures) {
        let start = self.figures;
        self.figures = Figures {
            input: start.input.max(delta.input),
            cache_read: start.cache_read.max(delta.cache_read),
            cache_creation: start.cache_creation.max(delta.cache_creation),
            ..delta.over(start)
        };
        self.counts_output |= delta.output.is_some();
    }
}

/// The text of one content block; a tool's empty first input is none.
fn block_start_text(block: &[u8]) -> u64 {
    let mut bytes = 0;
    each_member(block, |key, cursor| match key {
        b"text" | b"thinking" | b"partial_json" => bytes += member_text(cursor),
        b"content" if cursor.peek() == Some(b'[') => bytes += blocks_text(cursor.skip()),
        _ => {
            cursor.skip();
        }
    });
    bytes
}

fn string_len(value: &[u8]) -> u64 {
    member_text(&mut Cursor::new(value))
}

/// The status an error object names.
fn fault(error: &[u8]) -> UpstreamFault {
    let mut status = None;
    each_member(error, |key, cursor| {
        let value = cursor.skip();
        if key == b"code" || key == b"status" {
            let digits = unquoted(value).unwrap_or(value);
            let code = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
            status = code.filter(|code| (400..600).contains(code)).or(status);
        }
    });
    UpstreamFault { status }
}

#[cfg(test)]
mod tests;
