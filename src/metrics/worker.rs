//! What one worker notes of its requests: under a lock of its own, that nobody else wants but a scrape.

use super::failure::Failure;
use super::roll::{OTHER, Roll};
use super::shard::{McpTally, ModelTally, Shard, TenantTally};
use super::{Cell, Metrics};
use crate::stats::{self, Sample};
use obleth_core::brownout::Step;
use obleth_core::ledger::{Admission, LedgerRow};
use obleth_core::moment::Moment;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a settled request adds.
#[derive(Debug)]
pub struct Observed<'a> {
    pub row: &'a LedgerRow,
    /// Its end.
    pub at: Moment,
    pub queued: Duration,
    pub total: Duration,
    pub ttft: Option<Duration>,
    /// From sending to the end; `None` when nothing was sent.
    pub upstream: Option<Duration>,
    /// The gateway's own time.
    pub own: Duration,
}

/// A worker's own counts. Gone with the worker; what it counted stays.
pub struct WorkerMetrics {
    metrics: Metrics,
    cell: Arc<Cell>,
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerMetrics")
    }
}

impl WorkerMetrics {
    /// Counts for one worker.
    pub fn new(metrics: &Metrics) -> Self {
        let cell = Arc::new(Cell::default());
        metrics.shared.workers.lock().push(Arc::clone(&cell));
        Self { metrics: metrics.clone(), cell }
    }

    /// Counts a request that was not authenticated.
    pub fn request(&self, route: &'static str, status: u16, admission: Admission) {
        self.with(|shard| shard.route(route, |tally| tally.count(status, admission)));
    }

    /// A failure of a model's upstream. Looked up by its labels: failures are rare, or the breaker opens.
    pub fn upstream_failed(&self, model: &Arc<str>, failure: Failure) {
        let own = may_enter(&self.metrics.shared.models, model).is_some();
        let label = if own { &**model } else { OTHER };
        self.metrics.state.upstream_failures.with_label_values(&[label, failure.kind()]).inc();
    }

    /// A look into the response cache: `hit`, `miss`, `coalesced` or `bypass`.
    pub fn cache_lookup(&self, result: &'static str) {
        self.with(|shard| shard.cache.lookups.count(result, 1));
    }

    /// Tokens that were not asked of an upstream because the cache, or another request, had the answer.
    pub fn tokens_saved(&self, tokens: u64) {
        self.with(|shard| shard.cache.tokens_saved = shard.cache.tokens_saved.saturating_add(tokens));
    }

    /// A request that a limit or a budget refused; the reason is the error code.
    pub fn budget_rejection(&self, reason: &'static str) {
        self.with(|shard| shard.budget.count(reason, 1));
    }

    /// A request on which a step of the brownout was taken: `cap_tokens` or `shed`.
    pub fn brownout(&self, step: Step) {
        self.with(|shard| shard.brownout.count(step.as_str(), 1));
    }

    /// A call of a registered MCP server.
    pub fn mcp_request(&self, server: &Arc<str>, status: u16) {
        let roll = &self.metrics.shared.servers;
        let admit = || may_enter(roll, server).map(|_| McpTally::default());
        self.with(|shard| shard.mcp.note(server, admit, |tally| tally.count(status)));
    }

    /// Takes in a settled request.
    pub fn observe(&self, observed: &Observed<'_>) {
        let mut sample = Sample::of(observed);
        let mut own = self.cell.lock();
        self.note(&mut own.shard, observed, &mut sample);
        own.samples.push(sample);
        if own.samples.len() >= stats::BATCH {
            let full = std::mem::replace(&mut own.samples, Vec::with_capacity(stats::BATCH));
            drop(own);
            self.metrics.shared.stats.hand_over(full);
        }
    }

    fn note(&self, shard: &mut Shard, observed: &Observed<'_>, sample: &mut Sample) {
        let row = observed.row;
        shard.route(row.route, |tally| {
            tally.count(row.status, row.admission);
            tally.seconds.observe(micros(observed.total));
        });
        if observed.was_admitted() {
            shard.queue_wait.observe(micros(observed.queued));
        }
        shard.overhead.observe(micros(observed.own));
        let shared = &self.metrics.shared;
        if !row.model.is_empty() {
            let admit = || may_enter(&shared.models, &row.model).map(ModelTally::numbered);
            shard.models.note(&row.model, admit, |tally| {
                sample.model = tally.number.map_or(stats::Place::Other, stats::Place::Model);
                tally.observe(observed);
            });
        }
        if let Some(top) = &shared.tenants {
            let admit = || top.roll.admit(&row.tenant).map(|_| TenantTally::default());
            shard.tenants.note(&row.tenant, admit, |tally| tally.observe(row));
        }
    }

    fn with(&self, note: impl FnOnce(&mut Shard)) {
        note(&mut self.cell.lock().shard);
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        self.metrics.retire(&self.cell);
    }
}

impl Observed<'_> {
    /// Whether it got its seat, or what else let it through.
    pub(crate) const fn was_admitted(&self) -> bool {
        !matches!(self.row.admission, Admission::Rejected | Admission::None)
    }
}

impl ModelTally {
    fn observe(&mut self, observed: &Observed<'_>) {
        // What the cache has saved was not asked of an upstream: it has a series of its own.
        if !observed.row.cache.is_free() {
            self.input = self.input.saturating_add(observed.row.usage.input);
            self.output = self.output.saturating_add(observed.row.usage.output);
        }
        if let Some(ttft) = observed.ttft {
            self.ttft.observe(micros(ttft));
        }
        if let Some(upstream) = observed.upstream {
            self.upstream.observe(micros(upstream));
            self.outcomes.count(observed.row.status);
        }
    }
}

impl TenantTally {
    fn observe(&mut self, row: &LedgerRow) {
        self.requests += 1;
        self.input = self.input.saturating_add(row.usage.input);
        self.output = self.output.saturating_add(row.usage.output);
        self.cost = self.cost.saturating_add(row.cost.total().pico());
    }
}

/// The number of a name, unless it is the word for all others.
pub(super) fn may_enter(roll: &Roll<Arc<str>>, name: &Arc<str>) -> Option<u32> {
    if &**name == OTHER { None } else { roll.admit(name) }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
