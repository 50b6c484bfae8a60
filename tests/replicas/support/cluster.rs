//! Replicas on one database and one Redis.

use super::books::Books;
use super::client::Caller;
use super::door::Door;
use super::postgres::fresh_database;
use super::redis::Redis;
use super::replica::Replica;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Variables with their values.
type Variables = Vec<(String, String)>;

/// Replicas that are to be started.
#[derive(Default)]
pub struct Plans {
    count: usize,
    all: Variables,
    own: Vec<(usize, String, String)>,
    database: Option<String>,
    redis: Option<String>,
    alone: bool,
}

/// Replicas, with the Redis they share if the test brought none.
pub struct Cluster {
    pub replicas: Vec<Replica>,
    /// The database's address.
    pub database: String,
    pub redis: Option<Redis>,
    _folder: TempDir,
}

impl Plans {
    /// A variable of all replicas.
    pub fn all(mut self, name: &str, value: &str) -> Self {
        self.all.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable of one replica, from 0; it goes before that of all.
    pub fn one(mut self, replica: usize, name: &str, value: &str) -> Self {
        self.own.push((replica, name.to_owned(), value.to_owned()));
        self
    }

    /// The upstream of models that name none.
    pub fn upstream(self, base: &str) -> Self {
        self.all("OBLETH_UPSTREAM_BASE_URL", base)
    }

    /// This database instead of a new one on the server of the run.
    pub fn database(mut self, url: &str) -> Self {
        self.database = Some(url.to_owned());
        self
    }

    /// This Redis instead of one of the cluster's own.
    pub fn redis(mut self, url: &str) -> Self {
        self.redis = Some(url.to_owned());
        self
    }

    /// No Redis at all.
    pub fn without_redis(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Starts all of them at the same time, and waits until they are ready.
    pub async fn start(self) -> Cluster {
        let folder = TempDir::new().unwrap();
        let database = match &self.database {
            Some(url) => url.clone(),
            None => fresh_database().await,
        };
        let own_redis = if self.redis.is_none() && !self.alone { Some(Redis::start().await) } else { None };
        let redis = self.redis.clone().or_else(|| own_redis.as_ref().map(Redis::url));
        let mut variables = vec![("OBLETH_DATABASE_URL".to_owned(), database.clone())];
        variables.extend(redis.map(|url| ("OBLETH_REDIS_URL".to_owned(), url)));
        variables.extend(self.all);
        let mut replicas: Vec<_> = (0..self.count)
            .map(|number| {
                let own = self.own.iter().filter(|(replica, ..)| *replica == number);
                let own = own.map(|(_, name, value)| (name.clone(), value.clone()));
                let variables: Variables = variables.iter().cloned().chain(own).collect();
                Replica::spawn(folder.path().join(number.to_string()), &variables)
            })
            .collect();
        join_all(replicas.iter_mut().map(Replica::ready)).await;
        Cluster { replicas, database, redis: own_redis, _folder: folder }
    }
}

impl Cluster {
    /// So many replicas, to be started.
    pub fn of(count: usize) -> Plans {
        Plans { count, ..Plans::default() }
    }

    /// A caller of the management API of one replica.
    pub fn api(&self, replica: usize) -> Caller {
        self.replicas[replica].api()
    }

    /// A caller of the data plane of one replica.
    pub fn client(&self, replica: usize, key: &str) -> Caller {
        self.replicas[replica].client(key)
    }

    /// The way into each replica.
    pub fn doors(&self) -> Vec<Door> {
        self.replicas.iter().map(Replica::door).collect()
    }

    /// The ledger.
    pub async fn books(&self) -> Books {
        Books::open(&self.database).await
    }

    /// Registers a model, at the first replica; input 0.0000005 and output 0.0000015 USD a token unless said otherwise.
    pub async fn model(&self, fields: Value) -> Value {
        let mut model = json!({"input_cost_per_token": "0.0000005", "output_cost_per_token": "0.0000015"});
        model.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.api(0).post("/api/v1/models", &model).await.expect(201).json()
    }

    /// Makes a tenant, at the first replica; its id.
    pub async fn tenant(&self, fields: Value) -> String {
        let tenant = self.api(0).post("/api/v1/tenants", &fields).await.expect(201).json();
        tenant["id"].as_str().unwrap().to_owned()
    }

    /// Makes a key of a tenant, at the first replica; its secret.
    pub async fn key(&self, tenant: &str, fields: Value) -> String {
        let path = format!("/api/v1/tenants/{tenant}/keys");
        let key = self.api(0).post(&path, &fields).await.expect(201).json();
        key["secret"].as_str().unwrap().to_owned()
    }

    /// Waits until every replica knows a key.
    pub async fn knows(&self, key: &str) {
        for replica in &self.replicas {
            let caller = replica.client(key);
            super::until("every replica knows the key", async || {
                (caller.get("/v1/models").await.status == 200).then_some(())
            })
            .await;
        }
    }
}
