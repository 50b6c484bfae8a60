//! Floods, and what the ledger says of them afterwards.

use super::app::TestApp;
use super::client::Caller;
use super::dice::Dice;
use chrono::DateTime;
use futures_util::future::{AbortHandle, abortable};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What one tenant sends.
#[derive(Clone)]
pub struct Load {
    pub caller: Caller,
    pub model: &'static str,
    /// Bounds on the output, drawn anew for each request.
    pub tokens: RangeInclusive<u64>,
    pub pause: Duration,
}

impl Load {
    /// Requests of about this many tokens on the model `m`, one right after the other.
    pub fn of(caller: &Caller, tokens: u64) -> Self {
        let tokens = tokens * 3 / 4..=tokens * 5 / 4;
        Self { caller: caller.clone(), model: "m", tokens, pause: Duration::ZERO }
    }

    pub fn on(self, model: &'static str) -> Self {
        Self { model, ..self }
    }

    pub fn every(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Sends one request after the other on each of so many connections until it is aborted.
    pub fn start(&self, connections: u64) -> Flood {
        let connection = |number| {
            let (load, mut dice) = (self.clone(), Dice::new(number + 1));
            let (work, handle) = abortable(async move {
                loop {
                    load.send(&mut dice).await;
                    tokio::time::sleep(load.pause).await;
                }
            });
            actix_rt::spawn(work);
            handle
        };
        Flood((0..connections).map(connection).collect())
    }

    /// One request and its answer.
    pub async fn send(&self, dice: &mut Dice) -> super::Answer {
        let (low, high) = self.tokens.clone().into_inner();
        let bound = low + dice.below(high - low + 1);
        let messages = json!([{"role": "user", "content": "Hello"}]);
        let body = json!({"model": self.model, "max_tokens": bound, "messages": messages});
        self.caller.post("/v1/chat/completions", &body).await.expect(200)
    }
}

/// Connections that send until it is dropped.
pub struct Flood(Vec<AbortHandle>);

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// A request that was answered, by its ledger row. Times in ms since 1970.
#[derive(Clone, Debug)]
pub struct Service {
    pub tenant: String,
    pub model: String,
    pub granted: f64,
    pub ended: f64,
    pub queued: f64,
    pub tokens: f64,
}

impl Service {
    fn of(row: &Value) -> Self {
        let number = |name: &str| row[name].as_f64().unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let arrived = DateTime::parse_from_rfc3339(&text("ts")).unwrap().timestamp_micros() as f64 / 1000.0;
        Self {
            tenant: text("tenant_id"),
            model: text("model"),
            granted: arrived + number("queue_ms"),
            ended: arrived + number("total_ms"),
            queued: number("queue_ms"),
            tokens: number("input_tokens") + number("output_tokens"),
        }
    }

    /// Its tokens that fall in the window, as if they came evenly.
    fn within(&self, from: f64, to: f64) -> f64 {
        let overlap = self.ended.min(to) - self.granted.max(from);
        self.tokens * (overlap / (self.ended - self.granted).max(1.0)).clamp(0.0, 1.0)
    }
}

/// What was served while everybody who floods was waiting.
pub struct Served {
    pub services: Vec<Service>,
    /// The window: what began or ran down is outside.
    pub from: f64,
    pub to: f64,
}

impl Served {
    /// Reads the ledger once `floods` have ended. The window opens after `ramp` answers and closes before the
    /// requests that ran at the end.
    pub async fn after(app: &TestApp, floods: Vec<Flood>, ramp: usize) -> Self {
        drop(floods);
        app.idle().await;
        let rows = app.all_rows().await;
        let answered = rows.iter().filter(|row| row["status"] == 200);
        let mut services: Vec<Service> = answered.map(Service::of).collect();
        services.sort_by(|one, other| one.ended.total_cmp(&other.ended));
        let longest = services.iter().map(|service| service.ended - service.granted).fold(0.0, f64::max);
        let (from, last) = (services[ramp].ended, services.last().unwrap().ended);
        Self { services, from, to: last - longest }
    }

    /// Tokens in the window by `name`.
    pub fn tokens(&self, name: impl Fn(&Service) -> &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for service in &self.services {
            *sums.entry(name(service).to_owned()).or_insert(0.0) += service.within(self.from, self.to);
        }
        sums
    }

    /// Tokens in the window by tenant.
    pub fn by_tenant(&self) -> BTreeMap<String, f64> {
        self.tokens(|service| &service.tenant)
    }

    /// Waits of these tenants' requests that were granted in the window, in ms, ascending.
    pub fn waits(&self, tenants: &[String]) -> Vec<f64> {
        let within = |service: &&Service| (self.from..self.to).contains(&service.granted);
        let theirs = self.services.iter().filter(within).filter(|s| tenants.contains(&s.tenant));
        let mut waits: Vec<f64> = theirs.map(|service| service.queued).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }

    /// Mean time upstream of the answers in the window, in ms.
    pub fn mean_service(&self) -> f64 {
        let within = |service: &&Service| (self.from..self.to).contains(&service.ended);
        let times: Vec<f64> =
            self.services.iter().filter(within).map(|service| service.ended - service.granted).collect();
        times.iter().sum::<f64>() / times.len() as f64
    }
}

/// Jain's index: 1 when all are equal.
pub fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    sum * sum / (values.len() as f64 * squares)
}
