//! Prometheus series (contract §5), those this version can fill.
//!
//! Each worker keeps the handles of the series it has touched, so a request takes no shared lock: looking a
//! series up by its labels does. Label values are bounded: routes, statuses and registered models.

use crate::app::{Gateway, Handles};
use crate::traces::Counts;
use obleth_core::registry::Registry as Records;
use prometheus::{IntCounter, Registry, TextEncoder};
use std::fmt;
use std::sync::atomic::Ordering;

mod series;
mod worker;

use series::{Fairness, Maker, State, Traffic};
pub use worker::{Observed, WorkerMetrics};

/// All series.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    traffic: Traffic,
    state: State,
    fairness: Fairness,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry of its own with every series in it.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.build_info()?;
        let traffic = Traffic::new(&make)?;
        let state = State::new(&make)?;
        let fairness = Fairness::new(&make)?;
        Ok(Self { registry, traffic, state, fairness })
    }

    /// The text of `GET /metrics`, with the gauges as they are now.
    pub fn render(&self, gateway: &Gateway) -> Result<String, prometheus::Error> {
        self.refresh_models(&gateway.handles, &gateway.registry.load());
        self.refresh_actors(&gateway.handles);
        self.refresh_fairness(&gateway.handles);
        self.refresh_traces(gateway.traces.counts());
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn refresh_models(&self, handles: &Handles, records: &Records) {
        self.state.in_flight.reset();
        self.state.queue_depth.reset();
        // A series without a value is not shown: before there is a model, the nameless one stands in.
        if records.models().next().is_none() {
            self.touch("");
        }
        for model in records.models() {
            self.touch(&model.name);
        }
        for pool in handles.fairshare.models() {
            if let Some(model) = records.model(pool.id) {
                self.state.in_flight.with_label_values(&[&model.name]).set(pool.in_flight.into());
                self.state.queue_depth.with_label_values(&[&model.name]).set(pool.queued.into());
            }
        }
    }

    fn refresh_actors(&self, handles: &Handles) {
        let state = &self.state;
        let counts = handles.accounting.counts();
        for (result, rows) in [
            ("received", counts.received),
            ("recorded", counts.recorded),
            ("lost", counts.lost),
            ("replayed", counts.replayed),
            ("interrupted", counts.interrupted),
        ] {
            raise(&state.ledger_rows.with_label_values(&[result]), rows);
        }
        for (event, count) in
            [("corrupt", counts.corrupt), ("torn", counts.torn), ("write_failed", counts.failures)]
        {
            raise(&state.journal_faults.with_label_values(&[event]), count);
        }
        state.journal_bytes.set(i64::try_from(counts.bytes).unwrap_or(i64::MAX));
        state.ledger_backlog.set(i64::try_from(counts.waiting).unwrap_or(i64::MAX));
        for (actor, restarts) in [
            (obleth_actors::fairshare::NAME, handles.fairshare.restarts()),
            (obleth_actors::accounting::NAME, handles.accounting.restarts()),
            (obleth_actors::admin::NAME, handles.admin.restarts()),
        ] {
            raise(&state.actor_restarts.with_label_values(&[actor]), restarts);
        }
        let waiting = handles.fairshare.mailbox_depth();
        state.mailbox_depth.with_label_values(&[obleth_actors::fairshare::NAME]).set(waiting.into());
    }

    fn refresh_traces(&self, counts: &Counts) {
        for (result, spans) in
            [("exported", &counts.exported), ("dropped", &counts.dropped), ("failed", &counts.failed)]
        {
            raise(&self.state.trace_spans.with_label_values(&[result]), spans.load(Ordering::Relaxed));
        }
    }

    /// Makes the series of a model visible.
    fn touch(&self, model: &str) {
        self.state.in_flight.with_label_values(&[model]).set(0);
        self.state.queue_depth.with_label_values(&[model]).set(0);
        self.traffic.ttft.with_label_values(&[model]);
        self.traffic.upstream_seconds.with_label_values(&[model]);
        for direction in ["input", "output"] {
            self.traffic.tokens.with_label_values(&[direction, model]);
        }
    }

    fn refresh_fairness(&self, handles: &Handles) {
        let seen = handles.fairshare.fairness();
        let gauges = &self.fairness;
        gauges.jain_index.set(f64::from(seen.jain.billionths()) / 1e9);
        gauges.max_lag_tokens.set(i64::try_from(seen.max_lag_tokens).unwrap_or(i64::MAX));
        gauges.oldest_wait.set(seen.oldest_wait.as_secs_f64());
        gauges.backlogged.set(i64::try_from(seen.backlogged).unwrap_or(i64::MAX));
        gauges.blocked.set(i64::try_from(seen.blocked).unwrap_or(i64::MAX));
        gauges.forecast_error.set(f64::from(seen.forecast_error_millionths) / 1e6);
    }
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
