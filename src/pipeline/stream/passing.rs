//! What is known of the bytes of an answer that leaves as it comes.

use super::{Asked, Flow};
use crate::pipeline::meter::{Head, counted, estimated};
use crate::pipeline::record::Record;
use crate::wire::StreamMeter;
use crate::wire::sse::Splitter;
use crate::wire::usage::usage_in_tail;
use actix_web::http::StatusCode;
use obleth_core::ledger::{Usage, UsageSource};

/// Bytes at the end of a large answer in which its usage is looked for.
const TAIL: usize = 8 * 1024;

/// What has passed so far.
pub(super) struct Passing {
    pub flow: Flow,
    pub splitter: Splitter,
    pub meter: StreamMeter,
    /// The last bytes of a body that is not events.
    tail: Vec<u8>,
    pub asked: Asked,
    /// Compressed: nothing can be read.
    encoded: bool,
    /// What the head said.
    pub status: StatusCode,
    /// The upstream sent an error event.
    pub failed: Option<u16>,
    pub bytes_in: usize,
    pub bytes_out: u64,
}

impl Passing {
    /// Nothing has passed yet.
    pub fn new(record: &Record, flow: Flow, head: &Head, asked: Asked) -> Self {
        Self {
            flow,
            splitter: Splitter::new(),
            meter: StreamMeter::new(record.arrival.route),
            tail: Vec::new(),
            asked,
            encoded: head.is_encoded(),
            status: head.status,
            failed: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Keeps the end of what passes.
    pub fn keep_tail(&mut self, chunk: &[u8]) {
        self.tail.extend_from_slice(chunk.get(chunk.len().saturating_sub(TAIL)..).unwrap_or_default());
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
    }

    /// Whether a stream that ended without a cut connection is whole: its end was seen, or its usage.
    pub fn is_complete_stream(&self) -> bool {
        self.meter.is_complete()
            || self.meter.is_finished()
            || self.meter.usage().is_some()
            || self.failed.is_some()
    }

    /// The tokens of what has passed: as the upstream says, or else counted.
    pub fn usage(&self, record: &Record) -> Usage {
        let route = record.arrival.route;
        if !self.status.is_success() {
            return Usage::default();
        }
        if self.encoded {
            return estimated(record);
        }
        if self.flow == Flow::Bytes {
            let input = record.prompt_tokens();
            let none = Usage { input, ..Usage::default() };
            return usage_in_tail(route, &self.tail).unwrap_or(if input > 0 {
                Usage { source: UsageSource::Counted, ..none }
            } else {
                none
            });
        }
        if let Some(usage) = self.meter.usage() {
            return usage;
        }
        let input = self.meter.input_tokens().unwrap_or_else(|| record.prompt_tokens());
        counted(input, self.meter.output_tokens_so_far())
    }
}
