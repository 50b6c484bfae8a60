//! Where the events of a stream end: an incremental splitter that forwards slices of what came in.
//!
//! Is: a line scanner after the WHATWG event-stream grammar that knows only blank lines while bytes pass, and
//! reads the fields of an event when it is complete. Is not: a re-encoder; every byte leaves as it came.
//! Invariants, for any chunking of the same bytes: the events seen are the same; the output is the input
//! without the dropped events; of an incomplete event at most [`EVENT_MAX`] bytes are held.
//!
//! An event longer than [`EVENT_MAX`] is opaque: it passes as it comes, and at its end only its beginning and
//! its end are shown. It can no longer be dropped, but its last line end can be held, without which the client
//! does not see the event.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use std::ops::Range;

mod event;

pub use event::Event;

/// The longest event that is held until it is complete and shown whole.
pub const EVENT_MAX: usize = 64 * 1024;
/// How much of the beginning of an opaque event is shown.
pub const HEAD: usize = 4 * 1024;
/// How much of the end of an opaque event is shown.
pub const TAIL: usize = 16 * 1024;

/// What to do with an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    #[default]
    Pass,
    /// Do not forward it.
    Drop,
    /// Forward it as a piece of its own: see [`Splitter::take_apart`].
    Apart,
    /// Keep it, and all that follows it, until [`Splitter::release`].
    Hold,
}

/// The beginning and the end of an event that passed before it was complete.
#[derive(Debug, Default)]
struct Opaque {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Opaque {
    fn push(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.tail.extend_from_slice(last(bytes, TAIL));
        if self.tail.len() > 4 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
        }
    }

    fn tail(&self) -> &[u8] {
        last(&self.tail, TAIL)
    }
}

fn last(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(bytes.len().saturating_sub(count)..).unwrap_or_default()
}

/// The splitter of one stream.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The incomplete event, unless it is opaque.
    pending: BytesMut,
    opaque: Option<Box<Opaque>>,
    /// The current line has a byte.
    in_line: bool,
    /// The last byte was a CR: an LF next belongs to it.
    after_cr: bool,
    /// The last event ended in that CR: the LF shares its fate.
    lf_fate: Option<Verdict>,
    /// Past the first event, before which a byte order mark may stand.
    started: bool,
    /// All that follows a held event, and the event.
    held: Option<Vec<Bytes>>,
    /// Which of the pieces that left are events of their own.
    apart: Vec<usize>,
}

impl Splitter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a chunk, shows each event that ends in it, and appends to `out` what may leave.
    pub fn feed(
        &mut self,
        chunk: Bytes,
        out: &mut Vec<Bytes>,
        on_event: &mut impl FnMut(&Event<'_>) -> Verdict,
    ) {
        let mut run = Run { chunk: &chunk, start: 0, out };
        let mut from = self.shared_lf(&mut run);
        while let Some(end) = self.event_end(&chunk, from) {
            let verdict = self.complete(&mut run, from..end, on_event);
            let ends_in_cr = self.after_cr && end == chunk.len();
            self.lf_fate = ends_in_cr.then_some(verdict);
            from = end;
        }
        self.keep(&mut run, from);
    }

    /// The stream has ended: shows what is left as an incomplete event and appends all that is held to `out`.
    pub fn finish(&mut self, out: &mut Vec<Bytes>, on_event: &mut impl FnMut(&Event<'_>) -> Verdict) {
        let rest = self.pending.split().freeze();
        let verdict = match self.opaque.take() {
            Some(opaque) => show(&Event::opaque(&opaque.head, opaque.tail(), !self.started, false), on_event),
            None if rest.is_empty() => Verdict::Pass,
            None => show(&Event::parse(&rest, !self.started, false), on_event),
        };
        if verdict != Verdict::Drop && !rest.is_empty() {
            self.push(rest, out);
        }
        self.release(out);
        *self = Self { started: true, ..Self::default() };
    }

    /// Appends what a held event kept back to `out`; what follows passes again.
    pub fn release(&mut self, out: &mut Vec<Bytes>) {
        out.extend(self.held.take().into_iter().flatten());
    }

    /// Which of the pieces in `out` of the last feed are events that were to leave on their own.
    pub fn take_apart(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.apart)
    }

    /// Bytes kept back by a held event.
    pub fn held_bytes(&self) -> usize {
        self.held.iter().flatten().map(Bytes::len).sum()
    }

    /// Whether the beginning of an event has left whose end has not come.
    pub const fn is_mid_event(&self) -> bool {
        self.opaque.is_some()
    }

    /// Scans on from `from` and returns where the current event ends, its last line end included. With a CR
    /// at the end of the chunk the event is over; an LF that follows is dealt with by `shared_lf`.
    fn event_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        loop {
            let rest = chunk.get(at..)?;
            let Some(step) = memchr2(b'\n', b'\r', rest) else {
                if !rest.is_empty() {
                    (self.in_line, self.after_cr) = (true, false);
                }
                return None;
            };
            let is_cr = rest.get(step) == Some(&b'\r');
            at += step + 1;
            if step == 0 && self.after_cr && !is_cr {
                self.after_cr = false;
                continue;
            }
            let blank = step == 0 && !self.in_line;
            (self.in_line, self.after_cr) = (false, is_cr);
            if blank {
                if is_cr && chunk.get(at) == Some(&b'\n') {
                    self.after_cr = false;
                    at += 1;
                }
                return Some(at);
            }
        }
    }

    /// An LF at the start of a chunk that belongs to the CR in which the last event ended.
    fn shared_lf(&mut self, run: &mut Run<'_>) -> usize {
        if run.chunk.is_empty() {
            return 0;
        }
        let Some(fate) = self.lf_fate.take() else { return 0 };
        if run.chunk.first() != Some(&b'\n') {
            return 0;
        }
        self.after_cr = false;
        if fate == Verdict::Drop {
            run.start = 1;
        }
        1
    }

    /// The current event, of which `part` lies in this chunk, is complete.
    fn complete(
        &mut self,
        run: &mut Run<'_>,
        part: Range<usize>,
        on_event: &mut impl FnMut(&Event<'_>) -> Verdict,
    ) -> Verdict {
        let bytes = run.chunk.get(part.clone()).unwrap_or_default();
        // Whether the LF of the last CR LF came with this chunk must make no difference.
        let core = if bytes.ends_with(b"\r\n") { bytes.len() - 1 } else { bytes.len() };
        if self.opaque.is_some() || self.pending.len() + core > EVENT_MAX {
            return self.complete_opaque(run, part.start..part.start + core, on_event);
        }
        let first = !std::mem::replace(&mut self.started, true);
        if self.pending.is_empty() {
            let verdict = show(&Event::parse(bytes, first, true), on_event);
            if verdict != Verdict::Pass {
                self.flush(run, part.start);
            }
            match verdict {
                Verdict::Pass => {}
                Verdict::Apart => {
                    self.apart.push(run.out.len());
                    self.flush(run, part.end);
                }
                Verdict::Drop => run.start = part.end,
                Verdict::Hold => self.hold(),
            }
            return verdict;
        }
        self.pending.extend_from_slice(bytes);
        run.start = part.end;
        let whole = self.pending.split().freeze();
        let verdict = show(&Event::parse(&whole, first, true), on_event);
        if verdict == Verdict::Hold {
            self.hold();
        }
        if verdict == Verdict::Apart {
            self.apart.push(run.out.len());
        }
        if verdict != Verdict::Drop {
            self.push(whole, run.out);
        }
        verdict
    }

    /// All of an opaque event but its last line end passes whatever the verdict.
    fn complete_opaque(
        &mut self,
        run: &mut Run<'_>,
        core: Range<usize>,
        on_event: &mut impl FnMut(&Event<'_>) -> Verdict,
    ) -> Verdict {
        let last_byte = core.end.saturating_sub(1);
        self.pass_opaque(run, core);
        let opaque = self.opaque.take().unwrap_or_default();
        let first = !std::mem::replace(&mut self.started, true);
        let verdict = show(&Event::opaque(&opaque.head, opaque.tail(), first, true), on_event);
        if verdict == Verdict::Hold {
            self.flush(run, last_byte);
            self.hold();
            return Verdict::Hold;
        }
        Verdict::Pass
    }

    /// What is left of the chunk from `from` on is the beginning, or more, of an incomplete event.
    fn keep(&mut self, run: &mut Run<'_>, from: usize) {
        let part = run.chunk.get(from..).unwrap_or_default();
        if self.opaque.is_some() || self.pending.len() + part.len() > EVENT_MAX {
            self.pass_opaque(run, from..run.chunk.len());
            self.flush(run, run.chunk.len());
        } else {
            self.flush(run, from);
            self.pending.extend_from_slice(part);
        }
    }

    /// The current event is opaque: what was held of it passes, and `part` will with the run.
    fn pass_opaque(&mut self, run: &mut Run<'_>, part: Range<usize>) {
        let opaque = self.opaque.get_or_insert_default();
        opaque.push(&self.pending);
        opaque.push(run.chunk.get(part).unwrap_or_default());
        let begun = self.pending.split().freeze();
        if !begun.is_empty() {
            self.push(begun, run.out);
        }
    }

    /// Lets the run leave up to `end`.
    fn flush(&mut self, run: &mut Run<'_>, end: usize) {
        if end > run.start {
            let slice = run.chunk.slice(run.start..end);
            run.start = end;
            self.push(slice, run.out);
        }
    }

    fn push(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) {
        self.held.as_mut().unwrap_or(out).push(bytes);
    }

    fn hold(&mut self) {
        self.held.get_or_insert_default();
    }
}

/// A block without data is no event.
fn show(event: &Event<'_>, on_event: &mut impl FnMut(&Event<'_>) -> Verdict) -> Verdict {
    if event.has_data() { on_event(event) } else { Verdict::Pass }
}

/// The part of a chunk that passes and has not left yet.
struct Run<'c> {
    chunk: &'c Bytes,
    start: usize,
    out: &'c mut Vec<Bytes>,
}

#[cfg(test)]
mod tests;
