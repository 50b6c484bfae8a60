//! The series of how things stand: names, help texts, labels. Those that requests add to: `traffic`.

use super::failure::Failure;
use prometheus::core::Collector;
use prometheus::{Error, Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// How things stand, read when somebody asks.
#[derive(Clone)]
pub(super) struct State {
    pub(super) in_flight: IntGaugeVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) circuit: IntGaugeVec,
    pub(super) mcp_circuit: IntGaugeVec,
    pub(super) upstream_failures: IntCounterVec,
    pub(super) ledger_rows: IntCounterVec,
    pub(super) ledger_backlog: IntGauge,
    pub(super) journal_bytes: IntGauge,
    pub(super) journal_faults: IntCounterVec,
    pub(super) trace_spans: IntCounterVec,
    pub(super) actor_restarts: IntCounterVec,
    pub(super) budget_warnings: IntCounterVec,
    pub(super) mailbox_depth: IntGaugeVec,
    pub(super) journal_max_bytes: IntGauge,
    pub(super) store_up: IntGauge,
    pub(super) ready: IntGauge,
    pub(super) slots: IntGauge,
    pub(super) fleet_replicas: IntGauge,
    pub(super) fleet_slots: IntGauge,
    pub(super) redis_up: IntGauge,
    pub(super) registry_version: IntGauge,
    pub(super) follow_failures: IntCounterVec,
    pub(super) queue_max: IntGauge,
}

/// How fair the scheduler is: without labels, so however many tenants there are.
#[derive(Clone)]
pub(super) struct Fairness {
    pub(super) jain_index: Gauge,
    pub(super) max_lag_tokens: IntGauge,
    pub(super) oldest_wait: Gauge,
    pub(super) backlogged: IntGauge,
    pub(super) blocked: IntGauge,
    pub(super) forecast_error: Gauge,
}

/// Registers series as they are made.
pub(super) struct Maker<'a>(pub(super) &'a Registry);

impl Maker<'_> {
    fn keep<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn count(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn measure(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.keep(Gauge::new(name, help)?)
    }

    /// `obleth_build_info`.
    pub(super) fn build_info(&self) -> Result<(), Error> {
        let build = self.gauges("obleth_build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}

impl State {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            in_flight: make.gauges("obleth_in_flight", "Requests that hold a seat, by model.", &["model"])?,
            queue_depth: make.gauges("obleth_queue_depth", "Requests that wait, by model.", &["model"])?,
            circuit: make.gauges(
                "obleth_upstream_circuit_state",
                "The breaker of a model's upstream: 0 closed, 1 half open, 2 open.",
                &["model"],
            )?,
            mcp_circuit: make.gauges(
                "obleth_mcp_circuit_state",
                "The breaker of an MCP server: 0 closed, 1 half open, 2 open.",
                &["server"],
            )?,
            upstream_failures: make.counters(
                "obleth_upstream_failures_total",
                "Failures of upstreams by model and kind, as the breaker counts them.",
                &["model", "kind"],
            )?,
            ledger_rows: make.counters(
                "obleth_ledger_rows_total",
                "Ledger rows since the start; received = recorded + backlog + lost.",
                &["result"],
            )?,
            ledger_backlog: make.count("obleth_ledger_backlog", "Ledger rows that wait for the database.")?,
            journal_bytes: make.count("obleth_ledger_journal_bytes", "Size of the ledger's journal.")?,
            journal_faults: make.counters(
                "obleth_ledger_journal_faults_total",
                "Damaged records, torn ends and failed writes of the ledger's journal.",
                &["event"],
            )?,
            trace_spans: make.counters(
                "obleth_trace_spans_total",
                "Spans of traces: exported, dropped for want of room, or failed (not taken by the collector).",
                &["result"],
            )?,
            budget_warnings: make.counters(
                "obleth_budget_warnings_total",
                "Requests that passed a budget that is not hard.",
                &["scope", "period"],
            )?,
            actor_restarts: make.counters(
                "obleth_actor_restarts_total",
                "Contained faults and restarts by actor.",
                &["actor"],
            )?,
            mailbox_depth: make.gauges(
                "obleth_mailbox_depth",
                "Requests on their way to an actor.",
                &["actor"],
            )?,
            journal_max_bytes: make
                .count("obleth_ledger_journal_max_bytes", "What the ledger's journal may grow to.")?,
            store_up: make.count("obleth_store_up", "Whether the last call to the database was answered.")?,
            ready: make.count("obleth_ready", "Whether new requests are welcome, as /ready says it.")?,
            slots: make.count("obleth_slots", "Requests that may hold a seat at once.")?,
            fleet_replicas: make.count(
                "obleth_fleet_replicas",
                "Replicas that share their slots, this one included, as last heard; 0 without Redis.",
            )?,
            fleet_slots: make.count(
                "obleth_fleet_leased_slots",
                "Slots of the fleet that are with this replica; 0 without Redis.",
            )?,
            registry_version: make.count(
                "obleth_registry_version",
                "The last change of the registry that is in force here; 0 on a database that is not shared.",
            )?,
            follow_failures: make.counters(
                "obleth_registry_sync_errors_total",
                "Times that changes of other replicas could not be read.",
                &[],
            )?,
            redis_up: make.count(
                "obleth_redis_up",
                "1 while Redis has answered within the last 3 s; 0 without Redis.",
            )?,
            queue_max: make.count("obleth_queue_max", "Requests that may wait, all tenants together.")?,
        })
    }
}

impl State {
    /// Makes the series of a model's health visible.
    pub(super) fn touch_health(&self, model: &str) {
        self.circuit.with_label_values(&[model]);
        for failure in Failure::ALL {
            self.upstream_failures.with_label_values(&[model, failure.kind()]);
        }
    }

    /// Takes the counts of a deleted model away.
    pub(super) fn forget_model(&self, model: &str) {
        for failure in Failure::ALL {
            // One that was never counted is not there, which is as well.
            let _ = self.upstream_failures.remove_label_values(&[model, failure.kind()]);
        }
    }
}

impl Fairness {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            jain_index: make.measure(
                "obleth_fairshare_jain_index",
                "Weighted Jain index over the tenants that waited all through the last 60 to 90 s; 1 is fair.",
            )?,
            max_lag_tokens: make.count(
                "obleth_fairshare_max_lag_tokens",
                "Largest distance of a waiting tenant from its clock, ahead or behind, in weighted tokens.",
            )?,
            oldest_wait: make.measure(
                "obleth_fairshare_oldest_wait_seconds",
                "How long the oldest waiting request has been waiting, in seconds.",
            )?,
            backlogged: make.count(
                "obleth_fairshare_backlogged_tenants",
                "Tenants that have requests waiting.",
            )?,
            blocked: make.count(
                "obleth_fairshare_blocked_tenants",
                "Tenants that have requests waiting and are at their own max_in_flight.",
            )?,
            forecast_error: make.measure(
                "obleth_fairshare_forecast_error_ratio",
                "Sum of |forecast - actual| over actual cost of requests that ended in the last 60 to 90 s.",
            )?,
        })
    }
}
