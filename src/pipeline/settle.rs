//! The last stage: true usage to the scheduler, the ledger, the metrics and the access log. Once a request,
//! synchronous, whatever the ending.

use super::meter::estimated;
use super::record::Record;
use super::timing::Stage;
use crate::error::Code;
use crate::metrics::{Failure, Observed};
use crate::traces::Ended;
use obleth_actors::accounting::Written;
use obleth_actors::cache::Outcome;
use obleth_actors::fairshare::story::End;
use obleth_actors::guards::Hold;
use obleth_core::fair_queue::Spent;
use obleth_core::ledger::{CacheState, Cost, LedgerRow, Usage, UsageSource};
use obleth_core::token_budget::{Amount, Settlement};
use std::sync::Arc;
use std::time::Duration;

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// 499 when the client left.
    pub status: u16,
    pub error_code: Option<&'static str>,
    pub usage: Usage,
    pub spent: Spent,
    pub bytes_out: u64,
}

impl Ending {
    /// An error of the gateway; `sent` when the upstream had the request already.
    pub fn fault(code: Code, sent: bool) -> Self {
        Self {
            status: code.status(),
            error_code: Some(code.name()),
            usage: Usage::default(),
            spent: if sent { Spent::Nothing } else { Spent::Never },
            bytes_out: 0,
        }
    }

    /// The client left before an answer began. What the upstream has read of the prompt by then is not
    /// known: the estimate stands.
    pub fn left(record: &Record) -> Self {
        let left = Self::fault(Code::ClientLeft, record.timing.sent.is_some());
        if record.seat.is_none() || record.timing.sent.is_none() {
            return left;
        }
        if !record.asked.as_ref().is_some_and(|asked| asked.stream) {
            // Of an answer that would have come as a whole, nobody knows how much was written by then.
            return Self { usage: unknown(record), spent: Spent::Held, ..left };
        }
        let input = record.prompt_tokens();
        let usage = Usage { input, source: UsageSource::Estimated, ..Usage::default() };
        Self { usage, spent: Spent::Tokens { prompt: input, output: 0 }, ..left }
    }

    /// An answer with this usage.
    pub fn answered(status: u16, usage: Usage, bytes_out: u64) -> Self {
        let spent = match usage.source {
            UsageSource::None if status >= 400 => Spent::Nothing,
            UsageSource::None => Spent::Held,
            _ => Spent::Tokens { prompt: usage.input, output: usage.output },
        };
        Self { status, error_code: None, usage, spent, bytes_out }
    }

    /// What it says against an upstream whose answer had begun.
    fn failure(&self) -> Option<Failure> {
        match self.error_code {
            Some(code) if code == Code::UpstreamTruncated.name() => Some(Failure::Cut),
            Some(code) if code == Code::UpstreamTimeout.name() => Some(Failure::Timeout),
            _ => None,
        }
    }

    /// The same, ended by an error.
    pub fn because(self, status: u16, error_code: &'static str) -> Self {
        Self { status, error_code: Some(error_code), ..self }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Tells those who wait for the same answer how it ended. Where its own client has left them to it, its row says
/// so, with what the answer took.
fn as_shared(record: &Record, ending: Ending) -> Ending {
    let Some(note) = &record.note else { return ending };
    let Ending { status, error_code, usage, .. } = ending;
    note.settled(Outcome { status, error_code, usage });
    if note.leader_left() && status < 400 {
        return ending.because(Code::ClientLeft.status(), Code::ClientLeft.name());
    }
    ending
}

/// What the response cache did, by model.
fn count_cache(record: &Record, row: &LedgerRow) {
    let Some(asked) = record.asked.as_ref().filter(|_| row.cache != CacheState::Off) else { return };
    let saved =
        row.cache.is_free().then(|| (row.usage.total(), Cost::of(&asked.model.price, &row.usage).total()));
    record.worker.metrics.cache_lookup(row.cache.as_str());
    if let Some((tokens, _)) = saved {
        record.worker.metrics.tokens_saved(tokens);
    }
    // It looked for an answer of the model that was asked for.
    let model = record.fell_back.as_ref().unwrap_or(&asked.model).id;
    record.worker.gateway.handles.cache.count(model, row.cache, saved);
}

/// Settles `record`. `Some`: the end of the answer is to wait for it.
pub(super) fn settle(record: &mut Record, ending: &Ending) -> Option<Written> {
    record.enter(Stage::Settle);
    let ending = &as_shared(record, *ending);
    if let Some(failure) = ending.failure() {
        record.upstream_failed(failure);
    }
    record.trial = None;
    if let Some(seat) = record.seat.take() {
        seat.settle(ending.spent);
    }
    if let Some(story) = record.story.take() {
        let end = End {
            status: ending.status,
            error_code: ending.error_code,
            input_tokens: ending.usage.input,
            output_tokens: ending.usage.output,
            sent: record.timing.sent.is_some(),
        };
        story.end(record.now(), end);
    }
    let now = record.now();
    let total = now.since(record.arrival.at);
    let row = Arc::new(row(record, ending, total));
    count_cache(record, &row);
    charge(record, ending, &row);
    record.worker.metrics.observe(&Observed {
        row: &row,
        at: now,
        queued: record.timing.queued,
        total,
        ttft: record.timing.first_byte.map(|at| at.since(record.arrival.at)),
        upstream: record.timing.sent.map(|at| now.since(at)),
        own: record.timing.own(now),
    });
    if let Some(dimmed) = record.brownout {
        record.worker.metrics.brownout(dimmed.step());
    }
    if let Some(server) = &row.mcp_server {
        record.worker.metrics.mcp_request(server, row.status);
    }
    record.worker.gateway.access.note(&row);
    // The kernel has it from here on: a killed process does not take it along.
    let written = record.worker.gateway.handles.accounting.record(&row);
    trace(record, row);
    written
}

/// Hands the request over to be traced, if it is.
fn trace(record: &mut Record, row: Arc<LedgerRow>) {
    let Some(context) = record.arrival.trace.take() else { return };
    let early = record.head_is_out().then_some(200);
    record.worker.gateway.traces.note(Ended {
        context,
        timing: record.timing,
        end: record.now(),
        unix_micros: row.ts,
        request_id: Arc::clone(&row.request_id),
        verb: record.arrival.verb,
        route: record.arrival.route,
        status: row.status,
        error_code: row.error_code,
        told: record.told.or(early).or_else(|| (row.status != 499).then_some(row.status)),
        model: record.asked.as_ref().map(|asked| Arc::clone(&asked.model)),
        row: Some(row),
    });
}

/// Charges the budgets with what the row says, and learns from it.
fn charge(record: &mut Record, ending: &Ending, row: &LedgerRow) {
    let used =
        Amount { tokens: row.usage.total(), pico: u128::try_from(row.cost.total().row_pico()).unwrap_or(0) };
    // One that failed, or was never sent, is as if it had not been.
    let failed = matches!(ending.spent, Spent::Never) || (used == Amount::ZERO && ending.status >= 500);
    if let Some(hold) = record.hold.take() {
        hold.settle(Settlement { used, counts: !failed });
    }
    if let Some(asked) = &record.asked
        && let (Some(bytes), UsageSource::Upstream, false) =
            (asked.text_bytes, row.usage.source, row.cache.is_free())
    {
        record.worker.gateway.handles.budget.learn(asked.model.id, bytes, row.usage.input);
    }
}

/// What was counted or estimated here is not more than the request could use: its bounds are known better than that
/// where a hard budget holds.
fn within_bounds(record: &Record, usage: Usage) -> Usage {
    let estimate = matches!(usage.source, UsageSource::Counted | UsageSource::Estimated);
    let Some(granted) = record.hold.as_ref().map(Hold::granted).filter(|granted| granted.hard && estimate)
    else {
        return usage;
    };
    let prompt = granted.held.tokens.saturating_sub(granted.output);
    Usage { input: usage.input.min(prompt), output: usage.output.min(granted.output), ..usage }
}

/// What a request used of which nobody says: the most it can be where a hard budget holds, which must not be passed,
/// else what was expected.
fn unknown(record: &Record) -> Usage {
    let Some(granted) = record.hold.as_ref().map(Hold::granted).filter(|granted| granted.hard) else {
        return estimated(record);
    };
    let (input, output) = (granted.held.tokens.saturating_sub(granted.output), granted.output);
    Usage { input, output, source: UsageSource::Estimated, ..Usage::default() }
}

/// The row of a request that has its seat, should the process end before it does: charged by its estimate.
pub(super) fn interrupted(record: &Record) -> LedgerRow {
    let usage = match record.estimated_tokens {
        0 => Usage::default(),
        _ => unknown(record),
    };
    let code = Code::GatewayRestarted;
    let ending = Ending::answered(code.status(), usage, 0).because(code.status(), code.name());
    row(record, &ending, record.now().since(record.arrival.at))
}

fn row(record: &Record, ending: &Ending, total: Duration) -> LedgerRow {
    let usage = within_bounds(record, ending.usage).clamped();
    let (asked, call) = (record.asked.as_ref(), record.call.as_ref());
    let none = || Arc::from("");
    LedgerRow {
        id: record.id,
        request_id: Arc::clone(&record.arrival.request_id),
        ts: record.arrival.unix_micros,
        tenant: record.caller.tenant.id,
        key: record.caller.key.id,
        model: asked.map_or_else(none, |asked| Arc::clone(&asked.model.name)),
        upstream_model: asked.map_or_else(none, |asked| Arc::clone(&asked.model.upstream_model)),
        route: record.arrival.route.label(),
        stream: asked.is_some_and(|asked| asked.stream) || call.is_some_and(|call| call.stream),
        admission: record.admission,
        status: ending.status,
        error_code: ending.error_code,
        cache: record.cache,
        estimated_tokens: record.estimated_tokens,
        usage,
        cost: asked
            .filter(|_| !record.cache.is_free())
            .map(|asked| Cost::of(&asked.model.price, &usage))
            .unwrap_or_default(),
        queue_ms: millis(record.timing.queued),
        ttft_ms: record.timing.first_byte.map(|at| millis(at.since(record.arrival.at))),
        total_ms: millis(total),
        target_pod: record.target_pod.clone(),
        session_id: record.arrival.session_id.clone(),
        mcp_server: call.and_then(|call| call.server.clone()),
        mcp_tool: call.and_then(|call| call.tool.clone()),
        bytes_in: asked.map_or_else(|| call.map_or(0, |call| call.bytes_in), |asked| asked.bytes_in),
        bytes_out: ending.bytes_out,
    }
}
