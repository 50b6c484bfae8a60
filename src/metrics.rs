//! Prometheus series (contract §5).
//!
//! Each worker counts its own requests under a lock of its own; a scrape adds the workers up ([`shard`]). What
//! stands somewhere already is read when somebody asks ([`series`]). Label values are bounded: routes, usual
//! statuses, models of the registry up to [`MODELS`], and tenants only where that is wanted ([`tenants`]).
//! A model or an MCP server that was deleted keeps its series for [`LINGER`] ([`departed`]).

use crate::app::{Gateway, Handles};
use crate::config::Config;
use crate::stats::{Report, Sample, Stats};
use crate::traces::Counts;
use obleth_core::breaker;
use obleth_core::moment::Moment;
use obleth_core::registry::Registry as Records;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGaugeVec, Registry, TextEncoder};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

mod departed;
mod failure;
mod histogram;
mod roll;
mod series;
mod shard;
mod tenants;
mod text;
mod traffic;
mod worker;

use departed::Departed;
pub use failure::Failure;
pub use roll::{OTHER, Roll};
use series::{Fairness, Maker, State};
use shard::Shard;
use tenants::Top;
pub use tenants::{Standing, TENANTS};
use text::Text;
pub use worker::{Observed, WorkerMetrics};

/// Models with series of their own.
pub const MODELS: usize = 1000;
/// MCP servers with series of their own.
pub const SERVERS: usize = 250;
/// How long the series of what was deleted stay.
pub const LINGER: Duration = Duration::from_secs(300);

/// What the configuration says that is shown, or decides what is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub tenant_labels: bool,
    pub max_queued: u32,
    pub journal_max_bytes: u64,
}

impl Bounds {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            tenant_labels: config.metrics.tenant_labels,
            max_queued: config.admission.max_queued,
            journal_max_bytes: config.ledger.journal.max_bytes,
        }
    }
}

/// All series.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    state: State,
    fairness: Fairness,
    shared: Arc<Shared>,
}

/// What workers and scrapes share.
struct Shared {
    workers: Mutex<Vec<Arc<Cell>>>,
    /// What workers that are gone have counted.
    retired: Mutex<Shard>,
    models: Arc<Roll<Arc<str>>>,
    deleted_models: Departed,
    servers: Roll<Arc<str>>,
    deleted_servers: Departed,
    tenants: Option<Top>,
    stats: Stats,
}

/// What one worker has counted.
type Cell = Mutex<Own>;

#[derive(Default)]
struct Own {
    shard: Shard,
    samples: Vec<Sample>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// A registry of its own with every series in it.
    pub fn new(bounds: Bounds) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.build_info()?;
        let state = State::new(&make)?;
        state.queue_max.set(bounds.max_queued.into());
        state.journal_max_bytes.set(i64::try_from(bounds.journal_max_bytes).unwrap_or(i64::MAX));
        let fairness = Fairness::new(&make)?;
        let models = Arc::new(Roll::new(MODELS));
        let shared = Shared {
            workers: Mutex::default(),
            retired: Mutex::default(),
            models: Arc::clone(&models),
            deleted_models: Departed::default(),
            servers: Roll::new(SERVERS),
            deleted_servers: Departed::default(),
            tenants: bounds.tenant_labels.then(Top::default),
            stats: Stats::start(models),
        };
        Ok(Self { registry, state, fairness, shared: Arc::new(shared) })
    }

    /// The text of `GET /metrics`, with the gauges as they are now.
    pub fn render(&self, gateway: &Gateway) -> Result<String, prometheus::Error> {
        let (handles, records) = (&gateway.handles, gateway.registry.load());
        let standings = if self.shared.tenants.is_some() { standings(handles) } else { Vec::new() };
        let mut text = self.traffic(gateway.clock.now(), &records, &standings);
        self.refresh_models(handles, &records);
        self.refresh_health(gateway, &records);
        self.refresh_servers(handles, &records);
        self.refresh_actors(handles);
        self.refresh_lifecycle(gateway);
        self.refresh_fairness(handles);
        self.refresh_traces(gateway.traces.counts());
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The series that requests add to.
    pub fn traffic(&self, now: Moment, records: &Records, standings: &[Standing]) -> String {
        self.strike_deleted(now, records);
        let models: Vec<_> = records.models().map(|model| Arc::clone(&model.name)).collect();
        let models: Vec<_> = models
            .into_iter()
            .filter(|name| worker::may_enter(&self.shared.models, name).is_some())
            .collect();
        let name_of = |id| records.tenant(id).map(|tenant| Arc::clone(&tenant.name));
        let named = self.shared.tenants.as_ref().map(|top| top.choose(now, standings, name_of));
        let shard = self.gather();
        let mut text = Text::default();
        traffic::write(&mut text, &shard, &models);
        if let Some(named) = named {
            traffic::write_tenants(&mut text, &shard.tenants, &named, standings);
        }
        text.finish()
    }

    /// The percentiles at `now`.
    pub fn percentiles(&self, now: Moment) -> Report {
        let workers = self.shared.workers.lock().clone();
        let pending = workers.iter().map(|cell| std::mem::take(&mut cell.lock().samples));
        self.shared.stats.report(now, pending)
    }

    /// Takes off the rolls what was deleted long ago.
    fn strike_deleted(&self, now: Moment, records: &Records) {
        let shared = &self.shared;
        let gone = |name: &Arc<str>| records.model_named(name).is_none_or(|model| model.name != *name);
        let over = shared.deleted_models.strike(now, &shared.models, gone);
        over.iter().for_each(|name| self.state.forget_model(name));
        let gone = |name: &Arc<str>| records.mcp_server(name).is_none();
        shared.deleted_servers.strike(now, &shared.servers, gone);
    }

    /// Adds the workers up. Those who are no longer on their roll are forgotten.
    fn gather(&self) -> Shard {
        let shared = &self.shared;
        let forget = |shard: &mut Shard| {
            shard.models.own.retain(|name, _| shared.models.has(name));
            shard.mcp.own.retain(|name, _| shared.servers.has(name));
            if let Some(top) = &shared.tenants {
                shard.tenants.own.retain(|id, _| top.roll.has(id));
            }
        };
        let mut sum = Shard::default();
        // Held, so that a worker that goes meanwhile is counted once.
        let workers = shared.workers.lock();
        for cell in workers.iter() {
            let mut own = cell.lock();
            forget(&mut own.shard);
            sum.add(&own.shard);
        }
        let mut retired = shared.retired.lock();
        forget(&mut retired);
        sum.add(&retired);
        sum
    }

    /// Keeps what a worker that goes has counted.
    fn retire(&self, cell: &Arc<Cell>) {
        let mut workers = self.shared.workers.lock();
        workers.retain(|other| !Arc::ptr_eq(other, cell));
        let own = std::mem::take(&mut *cell.lock());
        self.shared.retired.lock().add(&own.shard);
        self.shared.stats.hand_over(own.samples);
    }

    fn refresh_models(&self, handles: &Handles, records: &Records) {
        let state = &self.state;
        state.in_flight.reset();
        state.queue_depth.reset();
        let set = |model: &str, running: u32, waiting: u32| {
            state.in_flight.with_label_values(&[model]).add(running.into());
            state.queue_depth.with_label_values(&[model]).add(waiting.into());
        };
        // A series without a value is not shown: before there is a model, the nameless one stands in.
        if records.models().next().is_none() {
            set("", 0, 0);
        }
        records.models().for_each(|model| set(&self.label(&model.name), 0, 0));
        for pool in handles.fairshare.models() {
            if let Some(model) = records.model(pool.id) {
                set(&self.label(&model.name), pool.in_flight, pool.queued);
            }
        }
    }

    /// The label value of a model.
    fn label(&self, model: &Arc<str>) -> Arc<str> {
        if self.shared.models.has(model) { Arc::clone(model) } else { OTHER.into() }
    }

    fn refresh_health(&self, gateway: &Gateway, records: &Records) {
        self.state.circuit.reset();
        if records.models().next().is_none() {
            self.state.touch_health("");
        }
        for model in records.models() {
            let label = self.label(&model.name);
            self.state.touch_health(&label);
            raise_to(&self.state.circuit, &label, gateway.health.view(model));
        }
    }

    fn refresh_servers(&self, handles: &Handles, records: &Records) {
        let circuit = &self.state.mcp_circuit;
        circuit.reset();
        if records.mcp_servers().next().is_none() {
            circuit.with_label_values(&[""]);
        }
        for server in records.mcp_servers() {
            let has_own = worker::may_enter(&self.shared.servers, &server.name).is_some();
            raise_to(circuit, if has_own { &server.name } else { OTHER }, handles.mcp.view(server));
        }
    }

    fn refresh_lifecycle(&self, gateway: &Gateway) {
        let state = &self.state;
        let fleet = gateway.handles.fairshare.fleet();
        state.ready.set((gateway.lifecycle.is_ready() && fleet.is_none_or(|fleet| fleet.ready)).into());
        let followed = gateway.handles.admin.followed();
        state.registry_version.set(followed.version);
        raise(&state.follow_failures.with_label_values::<&str>(&[]), followed.failures);
        state.redis_up.set(fleet.is_some_and(|fleet| fleet.near).into());
        state.fleet_replicas.set(fleet.map_or(0, |fleet| fleet.members.into()));
        state.fleet_slots.set(fleet.map_or(0, |fleet| fleet.slots.into()));
        state.store_up.set((!gateway.handles.accounting.health().is_away()).into());
        if let Some((slots, ..)) = gateway.handles.fairshare.load() {
            state.slots.set(slots.into());
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
            (obleth_actors::cache::NAME, handles.cache.restarts()),
            (obleth_actors::budget::NAME, handles.budget.restarts()),
            (obleth_actors::mcp::NAME, handles.mcp.restarts()),
        ] {
            raise(&state.actor_restarts.with_label_values(&[actor]), restarts);
        }
        for (scope, period, count) in handles.budget.warnings() {
            raise(&state.budget_warnings.with_label_values(&[scope.as_str(), period.as_str()]), count);
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

/// What the scheduler knows of its tenants.
fn standings(handles: &Handles) -> Vec<Standing> {
    let Some(picture) = handles.fairshare.picture() else {
        return Vec::new();
    };
    let standing = |row: &obleth_core::fair_queue::TenantRow| Standing {
        id: row.id,
        in_flight: row.in_flight,
        queued: row.queued,
        recent: picture.lanes_of(row).iter().map(|lane| lane.recent_cost).sum(),
    };
    picture.tenants.iter().map(standing).collect()
}

/// Shows how a breaker stands. Where several share a label, the worst.
fn raise_to(circuit: &IntGaugeVec, label: &str, view: Option<breaker::View>) {
    let state = match view.map(|view| view.state) {
        None | Some(breaker::State::Closed) => 0,
        Some(breaker::State::HalfOpen) => 1,
        Some(breaker::State::Open) => 2,
    };
    let gauge = circuit.with_label_values(&[label]);
    gauge.set(gauge.get().max(state));
}

/// Raises a counter to a total that is counted elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests;
