//! A gateway on free ports with a database of its own.

use super::client::{Answer, Caller};
use super::database;
use super::upstream::Upstream;
use obleth::config::{Config, Env};
use obleth::server::{Patience, Running};
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The admin token of every test gateway.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";

/// The encryption key of a test gateway on PostgreSQL, which does not start without one.
const ENCRYPTION_KEY: &str = "b2JsZXRoLXRlc3RzLXNlYWwtd2l0aC10aGlzLWtleSE=";

/// Runs a test on an actix system of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    actix::System::new().block_on(test)
}

/// Polls `check` until it gives something, at most 10 s.
pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited 10 s for: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A running gateway.
pub struct TestApp {
    pub running: Running,
    directory: TempDir,
}

impl TestApp {
    /// A gateway in front of `upstream`.
    pub async fn start(upstream: &Upstream) -> Self {
        Self::with(upstream, &[]).await
    }

    /// A gateway with further variables set.
    pub async fn with(upstream: &Upstream, variables: &[(&str, &str)]) -> Self {
        Self::at(&upstream.base(), variables).await
    }

    /// A gateway in front of the upstream at `base`.
    pub async fn at(base: &str, variables: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        Self::start_in(directory, base, variables).await
    }

    /// A gateway on the database in `directory`.
    pub async fn start_in(directory: TempDir, base: &str, variables: &[(&str, &str)]) -> Self {
        let database = database::url_in(directory.path()).await;
        let journal = directory.path().join("journal").display().to_string();
        let own = [
            ("OBLETH_JOURNAL_DIR", journal.as_str()),
            ("OBLETH_PROXY_LISTEN", "127.0.0.1:0"),
            ("OBLETH_ADMIN_LISTEN", "127.0.0.1:0"),
            ("OBLETH_METRICS_LISTEN", "127.0.0.1:0"),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ("OBLETH_DATABASE_URL", database.as_str()),
            ("OBLETH_ENCRYPTION_KEY", if database::is_postgres() { ENCRYPTION_KEY } else { "" }),
            ("OBLETH_UPSTREAM_BASE_URL", base),
        ];
        let config = Config::read(Env::of(own.into_iter().chain(variables.iter().copied()))).unwrap();
        let running = Running::start(config).await.unwrap();
        Self { running, directory }
    }

    /// A caller of the management API.
    pub fn admin(&self) -> Caller {
        Caller::new(self.running.admin, Some(ADMIN_TOKEN))
    }

    /// A caller of the data plane with `key`.
    pub fn client(&self, key: &str) -> Caller {
        Caller::new(self.running.proxy, Some(key))
    }

    /// A caller of the data plane without a key.
    pub fn anonymous(&self) -> Caller {
        Caller::new(self.running.proxy, None)
    }

    /// Registers a model of this name with the default upstream and prices.
    pub async fn model(&self, name: &str) -> Value {
        self.model_with(json!({"model_name": name})).await
    }

    /// Registers a model; input 0.0000005 and output 0.0000015 USD a token unless `fields` says otherwise.
    pub async fn model_with(&self, fields: Value) -> Value {
        let mut model = json!({"input_cost_per_token": "0.0000005", "output_cost_per_token": "0.0000015"});
        model.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.admin().post("/api/v1/models", &model).await.expect(201).json()
    }

    /// Makes a tenant; answers its id.
    pub async fn tenant(&self, fields: Value) -> String {
        let tenant = self.admin().post("/api/v1/tenants", &fields).await.expect(201).json();
        tenant["id"].as_str().unwrap().to_owned()
    }

    /// Makes a key of a tenant; answers its secret.
    pub async fn key(&self, tenant: &str, fields: Value) -> String {
        let path = format!("/api/v1/tenants/{tenant}/keys");
        let key = self.admin().post(&path, &fields).await.expect(201).json();
        key["secret"].as_str().unwrap().to_owned()
    }

    /// A tenant of this name with one key: a caller with that key.
    pub async fn caller(&self, name: &str) -> Caller {
        let tenant = self.tenant(json!({"name": name})).await;
        let key = self.key(&tenant, json!({"name": name})).await;
        self.client(&key)
    }

    /// The ledger's rows, newest first.
    pub async fn rows(&self) -> Vec<Value> {
        let page = self.admin().get("/api/v1/usage/logs?limit=1000").await.expect(200).json();
        page["data"].as_array().unwrap().clone()
    }

    /// All of the ledger's rows, newest first.
    pub async fn all_rows(&self) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/usage/logs?limit=1000{cursor}");
            let page = self.admin().get(&path).await.expect(200).json();
            rows.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    /// Requests that wait for a seat.
    pub fn queued(&self) -> u32 {
        self.running.gateway.handles.fairshare.dump().map_or(0, |dump| dump.queued)
    }

    /// The ledger's row of a request.
    pub async fn row(&self, request_id: &str) -> Value {
        self.admin().get(&format!("/api/v1/usage/logs/{request_id}")).await.expect(200).json()
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        Caller::new(self.running.metrics, None).get("/metrics").await.expect(200).text()
    }

    /// Requests that hold a seat.
    pub fn in_flight(&self) -> u32 {
        self.running.gateway.handles.fairshare.in_flight()
    }

    /// Waits until no request is left.
    pub async fn idle(&self) {
        let gateway = &self.running.gateway;
        until("no request is left", async || {
            (gateway.running() == 0 && gateway.handles.fairshare.in_flight() == 0).then_some(())
        })
        .await;
    }

    /// Stops the gateway; its database stays while the directory is held.
    pub async fn stop(self) -> TempDir {
        self.running.stop(Patience::Terminal, std::future::pending()).await;
        self.directory
    }
}

impl Answer {
    /// The answer, whose status must be `status`.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}
