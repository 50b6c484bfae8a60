//! `trace.jsonl`: one request a line, in order of time, read line by line.

use super::directory::{Directory, Place};
use super::numbers::micros;
use super::{Fault, Stop};
use obleth_core::moment::Moment;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::BufRead;
use std::time::Duration;

/// The most tokens a line may name.
const MOST_TOKENS: u64 = 1_000_000_000;

/// A request of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Its line, from 0.
    pub(super) id: u64,
    pub(super) at: Moment,
    pub(super) tenant: Place,
    pub(super) model: Place,
    pub(super) prompt: u64,
    /// What it would produce if nobody stopped it, within its `max_tokens`.
    pub(super) output: u64,
    pub(super) max_output: Option<u64>,
    /// When its sender leaves.
    pub(super) leaves: Option<Moment>,
}

#[derive(Deserialize)]
struct Line<'a> {
    at_s: f64,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow)]
    model: Cow<'a, str>,
    prompt_tokens: u64,
    output_tokens: u64,
    max_tokens: Option<u64>,
    cancel_after_s: Option<f64>,
}

/// Reads a trace.
#[derive(Debug)]
pub(super) struct Reader<R> {
    source: R,
    buffer: String,
    /// Lines read.
    lines: u64,
    /// Arrival of the last request.
    last: Moment,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: String::new(), lines: 0, last: Moment::ZERO }
    }

    /// The next request. Blank lines count as lines and are passed over.
    pub(super) fn next(&mut self, directory: &mut Directory) -> Result<Option<Request>, Stop> {
        loop {
            self.buffer.clear();
            if self.source.read_line(&mut self.buffer).map_err(Stop::Read)? == 0 {
                return Ok(None);
            }
            self.lines = self.lines.saturating_add(1);
            if !self.buffer.trim_ascii().is_empty() {
                return self.parse(directory).map(Some).map_err(Stop::Trace);
            }
        }
    }

    fn parse(&mut self, directory: &mut Directory) -> Result<Request, Fault> {
        let line: Line<'_> = serde_json::from_str(self.buffer.trim_end())
            .map_err(|error| Fault::of_json(self.lines, &error))?;
        let id = self.lines.saturating_sub(1);
        let request = check(id, &line, directory).and_then(|request| match request.at < self.last {
            true => Err("at_s lies before that of the line before".to_owned()),
            false => Ok(request),
        });
        let request = request.map_err(|text| Fault { line: self.lines, text })?;
        self.last = request.at;
        Ok(request)
    }
}

fn check(id: u64, line: &Line<'_>, directory: &mut Directory) -> Result<Request, String> {
    let time = |name: &str, time| micros(time).ok_or(format!("{name} must be a time of 0 to 1e9 seconds"));
    let tokens = [line.prompt_tokens, line.output_tokens, line.max_tokens.unwrap_or_default()];
    if tokens.iter().any(|tokens| *tokens > MOST_TOKENS) {
        return Err(format!("more than {MOST_TOKENS} tokens"));
    }
    let at = Moment::from_micros(time("at_s", line.at_s)?);
    let leaves = line.cancel_after_s.map(|after| time("cancel_after_s", after)).transpose()?;
    Ok(Request {
        id,
        at,
        tenant: directory.tenant_named(&line.tenant)?,
        model: directory.model_named(&line.model)?,
        prompt: line.prompt_tokens,
        output: line.max_tokens.map_or(line.output_tokens, |most| most.min(line.output_tokens)),
        max_output: line.max_tokens,
        leaves: leaves.map(|after| at + Duration::from_micros(after)),
    })
}
