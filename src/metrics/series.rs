//! The series themselves: names, help texts, labels, buckets.

use crate::wire::Route;
use obleth_core::brownout::Step;
use obleth_core::ledger::Admission;
use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Buckets from 1 ms to 10 min, in seconds.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];
/// Buckets of the gateway's own time, from 10 µs.
const OVERHEAD: [f64; 12] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0];

/// What requests add to.
#[derive(Clone)]
pub(super) struct Traffic {
    pub(super) requests: IntCounterVec,
    pub(super) tokens: IntCounterVec,
    pub(super) queue_wait: Histogram,
    pub(super) ttft: HistogramVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) upstream_seconds: HistogramVec,
    pub(super) overhead: Histogram,
    pub(super) brownout: IntCounterVec,
}

/// How things stand, read when somebody asks.
#[derive(Clone)]
pub(super) struct State {
    pub(super) in_flight: IntGaugeVec,
    pub(super) queue_depth: IntGaugeVec,
    pub(super) ledger_rows: IntCounterVec,
    pub(super) ledger_backlog: IntGauge,
    pub(super) journal_bytes: IntGauge,
    pub(super) journal_faults: IntCounterVec,
    pub(super) trace_spans: IntCounterVec,
    pub(super) actor_restarts: IntCounterVec,
    pub(super) mailbox_depth: IntGaugeVec,
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

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, Error> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, Error> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    /// `obleth_build_info`.
    pub(super) fn build_info(&self) -> Result<(), Error> {
        let build = self.gauges("obleth_build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(())
    }
}

impl Traffic {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        let traffic = Self {
            requests: make.counters(
                "obleth_requests_total",
                "Requests on model routes by route, status and admission.",
                &["route", "status", "admission"],
            )?,
            tokens: make.counters(
                "obleth_tokens_total",
                "Tokens by direction (input, output) and model.",
                &["direction", "model"],
            )?,
            queue_wait: make.histogram(
                "obleth_queue_wait_seconds",
                "Time in the queue of admitted requests, in seconds.",
                &SECONDS,
            )?,
            ttft: make.seconds("obleth_ttft_seconds", TTFT, &["model"])?,
            request_seconds: make.seconds("obleth_request_seconds", REQUEST, &["route"])?,
            upstream_seconds: make.seconds("obleth_upstream_seconds", UPSTREAM, &["model"])?,
            overhead: make.histogram("obleth_gateway_overhead_seconds", GATEWAY, &OVERHEAD)?,
            brownout: make.counters(
                "obleth_brownout_total",
                "Requests that a step of a brownout changed or refused.",
                &["step"],
            )?,
        };
        traffic.touch_usual();
        Ok(traffic)
    }

    /// A series without a value is not shown at all: the usual ones are there from the start.
    fn touch_usual(&self) {
        for step in Step::ALL {
            self.brownout.with_label_values(&[step.as_str()]);
        }
        for route in [Route::ChatCompletions, Route::Completions, Route::Embeddings] {
            self.request_seconds.with_label_values(&[route.label()]);
            self.requests.with_label_values(&[route.label(), "200", Admission::Fast.as_str()]);
        }
    }
}

const TTFT: &str = "Time to the first byte of the answer's body, in seconds, by model.";
const REQUEST: &str = "Time from arrival to the end, in seconds, by route.";
const UPSTREAM: &str = "Time from sending to the end of the upstream's answer, in seconds, by model.";
const GATEWAY: &str =
    "The gateway's own time: to sending and to the head, without queue and upstream, in seconds.";

impl State {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, Error> {
        Ok(Self {
            in_flight: make.gauges("obleth_in_flight", "Requests that hold a seat, by model.", &["model"])?,
            queue_depth: make.gauges("obleth_queue_depth", "Requests that wait, by model.", &["model"])?,
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
        })
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
