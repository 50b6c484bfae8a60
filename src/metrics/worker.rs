//! A worker's handles: what a settled request adds, without a shared lock.

use super::Metrics;
use obleth_core::brownout::Step;
use obleth_core::ledger::{Admission, LedgerRow};
use prometheus::{Histogram, IntCounter};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a settled request adds.
#[derive(Debug)]
pub struct Observed<'a> {
    pub row: &'a LedgerRow,
    pub queued: Duration,
    pub total: Duration,
    pub ttft: Option<Duration>,
    /// From sending to the end; `None` when nothing was sent.
    pub upstream: Option<Duration>,
    /// The gateway's own time.
    pub own: Duration,
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
            self.metrics.traffic.requests.with_label_values(&[route, &status, admission.as_str()])
        });
        counter.inc();
    }

    /// Counts a request that a step of a brownout changed or refused.
    pub fn brownout(&self, step: Step) {
        self.metrics.traffic.brownout.with_label_values(&[step.as_str()]).inc();
    }

    /// Takes in a settled request.
    pub fn observe(&self, observed: &Observed<'_>) {
        let row = observed.row;
        self.request(row.route, row.status, row.admission);
        let mut routes = self.routes.borrow_mut();
        let seconds = routes
            .entry(row.route)
            .or_insert_with(|| self.metrics.traffic.request_seconds.with_label_values(&[row.route]));
        seconds.observe(observed.total.as_secs_f64());
        if matches!(row.admission, Admission::Fast | Admission::Queued | Admission::Brownout) {
            self.metrics.traffic.queue_wait.observe(observed.queued.as_secs_f64());
        }
        self.metrics.traffic.overhead.observe(observed.own.as_secs_f64());
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
                input: self.metrics.traffic.tokens.with_label_values(&["input", &row.model]),
                output: self.metrics.traffic.tokens.with_label_values(&["output", &row.model]),
                ttft: self.metrics.traffic.ttft.with_label_values(name),
                upstream: self.metrics.traffic.upstream_seconds.with_label_values(name),
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
