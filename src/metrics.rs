//! Prometheus series (contract §5), those this version can fill.
//!
//! Each worker keeps the handles of the series it has touched, so a request takes no shared lock: looking a
//! series up by its labels does. Label values are bounded: routes, statuses and registered models.

use crate::app::Gateway;
use crate::wire::Route;
use obleth_core::ledger::{Admission, LedgerRow};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Buckets from 1 ms to 10 min, in seconds.
const SECONDS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
    600.0,
];
/// Buckets of the gateway's own time, from 10 µs.
const OVERHEAD: [f64; 12] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0];

/// All series.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    tokens: IntCounterVec,
    in_flight: IntGaugeVec,
    queue_depth: IntGaugeVec,
    queue_wait: Histogram,
    ttft: HistogramVec,
    request_seconds: HistogramVec,
    upstream_seconds: HistogramVec,
    overhead: Histogram,
    ledger_rows: IntCounterVec,
    ledger_backlog: IntGauge,
    actor_restarts: IntCounterVec,
    mailbox_depth: IntGaugeVec,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Registers series as they are made.
struct Maker(Registry);

impl Maker {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        self.keep(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }
}

impl Metrics {
    /// A registry of its own with every series in it.
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Maker(Registry::new());
        let build = make.gauges("obleth_build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
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
            in_flight: make.gauges("obleth_in_flight", "Requests that hold a seat, by model.", &["model"])?,
            queue_depth: make.gauges("obleth_queue_depth", "Requests that wait, by model.", &["model"])?,
            queue_wait: make.histogram(
                "obleth_queue_wait_seconds",
                "Time in the queue of admitted requests, in seconds.",
                &SECONDS,
            )?,
            ttft: make.seconds(
                "obleth_ttft_seconds",
                "Time to the first byte of the answer's body, in seconds, by model.",
                &["model"],
            )?,
            request_seconds: make.seconds(
                "obleth_request_seconds",
                "Time from arrival to the end, in seconds, by route.",
                &["route"],
            )?,
            upstream_seconds: make.seconds(
                "obleth_upstream_seconds",
                "Time from sending to the end of the upstream's answer, in seconds, by model.",
                &["model"],
            )?,
            overhead: make.histogram(
                "obleth_gateway_overhead_seconds",
                "Time in the gateway without queue and upstream, in seconds.",
                &OVERHEAD,
            )?,
            ledger_rows: make.counters(
                "obleth_ledger_rows_total",
                "Ledger rows by what became of them (received, recorded).",
                &["result"],
            )?,
            ledger_backlog: make
                .keep(IntGauge::new("obleth_ledger_backlog", "Ledger rows that wait for the database.")?)?,
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
            registry: make.0,
        };
        // A series without a value is not shown at all: the usual ones are there from the start.
        for route in [Route::ChatCompletions, Route::Completions, Route::Embeddings] {
            metrics.request_seconds.with_label_values(&[route.label()]);
            metrics.requests.with_label_values(&[route.label(), "200", Admission::Fast.as_str()]);
        }
        Ok(metrics)
    }

    /// The text of `GET /metrics`, with the gauges as they are now.
    pub fn render(&self, gateway: &Gateway) -> Result<String, prometheus::Error> {
        self.refresh(gateway);
        let mut text = String::new();
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn refresh(&self, gateway: &Gateway) {
        let handles = &gateway.handles;
        let registry = gateway.registry.load();
        self.in_flight.reset();
        self.queue_depth.reset();
        // A series without a value is not shown: before there is a model, the nameless one stands in.
        if registry.models().next().is_none() {
            self.touch("");
        }
        for model in registry.models() {
            self.touch(&model.name);
        }
        for pool in handles.fairshare.dump().map(|dump| dump.models).unwrap_or_default() {
            if let Some(model) = registry.model(pool.id) {
                self.in_flight.with_label_values(&[&model.name]).set(pool.in_flight.into());
                self.queue_depth.with_label_values(&[&model.name]).set(pool.queued.into());
            }
        }
        let counts = handles.accounting.counts();
        raise(&self.ledger_rows.with_label_values(&["received"]), counts.received);
        raise(&self.ledger_rows.with_label_values(&["recorded"]), counts.recorded);
        self.ledger_backlog.set(i64::try_from(counts.waiting).unwrap_or(i64::MAX));
        for (actor, restarts) in [
            (obleth_actors::fairshare::NAME, handles.fairshare.restarts()),
            (obleth_actors::accounting::NAME, handles.accounting.restarts()),
            (obleth_actors::admin::NAME, handles.admin.restarts()),
        ] {
            raise(&self.actor_restarts.with_label_values(&[actor]), restarts);
        }
        let waiting = handles.fairshare.mailbox_depth();
        self.mailbox_depth.with_label_values(&[obleth_actors::fairshare::NAME]).set(waiting.into());
    }
}

impl Metrics {
    /// Makes the series of a model visible.
    fn touch(&self, model: &str) {
        self.in_flight.with_label_values(&[model]).set(0);
        self.queue_depth.with_label_values(&[model]).set(0);
        self.ttft.with_label_values(&[model]);
        self.upstream_seconds.with_label_values(&[model]);
        for direction in ["input", "output"] {
            self.tokens.with_label_values(&[direction, model]);
        }
    }
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// What a settled request adds.
#[derive(Debug)]
pub struct Observed<'a> {
    pub row: &'a LedgerRow,
    pub queued: Duration,
    pub total: Duration,
    pub ttft: Option<Duration>,
    /// From sending to the end; `None` when nothing was sent.
    pub upstream: Option<Duration>,
}

/// The series of one model.
struct ModelSeries {
    input: IntCounter,
    output: IntCounter,
    ttft: Histogram,
    upstream: Histogram,
}

/// A worker's handles.
pub struct WorkerMetrics {
    metrics: Metrics,
    requests: RefCell<HashMap<(&'static str, u16, Admission), IntCounter>>,
    routes: RefCell<HashMap<&'static str, Histogram>>,
    models: RefCell<HashMap<Arc<str>, ModelSeries>>,
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerMetrics")
    }
}

impl WorkerMetrics {
    /// Handles for one worker.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            metrics: metrics.clone(),
            requests: RefCell::default(),
            routes: RefCell::default(),
            models: RefCell::default(),
        }
    }

    /// Counts a request.
    pub fn request(&self, route: &'static str, status: u16, admission: Admission) {
        let mut requests = self.requests.borrow_mut();
        let counter = requests.entry((route, status, admission)).or_insert_with(|| {
            let status = status.to_string();
            self.metrics.requests.with_label_values(&[route, &status, admission.as_str()])
        });
        counter.inc();
    }

    /// Takes in a settled request.
    pub fn observe(&self, observed: &Observed<'_>) {
        let row = observed.row;
        self.request(row.route, row.status, row.admission);
        let mut routes = self.routes.borrow_mut();
        let seconds = routes
            .entry(row.route)
            .or_insert_with(|| self.metrics.request_seconds.with_label_values(&[row.route]));
        seconds.observe(observed.total.as_secs_f64());
        if matches!(row.admission, Admission::Fast | Admission::Queued) {
            self.metrics.queue_wait.observe(observed.queued.as_secs_f64());
        }
        let upstream = observed.upstream.unwrap_or_default();
        let own = observed.total.saturating_sub(observed.queued).saturating_sub(upstream);
        self.metrics.overhead.observe(own.as_secs_f64());
        if !row.model.is_empty() {
            self.observe_model(observed);
        }
    }

    fn observe_model(&self, observed: &Observed<'_>) {
        let row = observed.row;
        let mut models = self.models.borrow_mut();
        if !models.contains_key(&row.model) {
            let name = &[&*row.model];
            let series = ModelSeries {
                input: self.metrics.tokens.with_label_values(&["input", &row.model]),
                output: self.metrics.tokens.with_label_values(&["output", &row.model]),
                ttft: self.metrics.ttft.with_label_values(name),
                upstream: self.metrics.upstream_seconds.with_label_values(name),
            };
            models.insert(Arc::clone(&row.model), series);
        }
        if let Some(series) = models.get(&row.model) {
            series.input.inc_by(row.usage.input);
            series.output.inc_by(row.usage.output);
            if let Some(ttft) = observed.ttft {
                series.ttft.observe(ttft.as_secs_f64());
            }
            if let Some(upstream) = observed.upstream {
                series.upstream.observe(upstream.as_secs_f64());
            }
        }
    }
}
