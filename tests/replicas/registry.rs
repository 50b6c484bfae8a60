//! The registry: what is changed at one replica holds at all of them.

use crate::support::{Caller, Cluster, Mock, Need, Postgres, figure, have, run, until, until_within};
use futures_util::future::join_all;
use obleth::mock::MockOptions;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The bound of a change.
const BOUND: Duration = Duration::from_secs(1);

/// What one replica has in force, as its data plane and its live configuration show it.
async fn view(cluster: &Cluster, replica: usize, keys: &[String]) -> Vec<Value> {
    let mut all = Vec::new();
    for key in keys {
        let models = cluster.client(replica, key).get("/v1/models").await;
        let limits = cluster.client(replica, key).get("/v1/limits").await;
        let limits = if limits.status == 200 { limits.json() } else { Value::Null };
        let weight = limits["tenant"]["weight"].clone();
        all.push(json!([models.status, models.json()["data"], weight]));
    }
    all
}

#[test]
fn a_disabled_key_is_refused_everywhere_within_a_second() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let cluster = Cluster::of(3).start().await;
        cluster.model(json!({"model_name": "m"})).await;
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let mut slowest = Duration::ZERO;
        for round in 0..5 {
            let key = cluster.key(&tenant, json!({"name": format!("k{round}")})).await;
            cluster.knows(&key).await;
            let listed = cluster.api(1).get(&format!("/api/v1/tenants/{tenant}/keys?limit=100")).await.json();
            let name = format!("k{round}");
            let id = listed["data"].as_array().unwrap().iter().find(|key| key["name"] == *name).unwrap();
            let path = format!("/api/v1/keys/{}", id["id"].as_str().unwrap());
            cluster.api(round % 3).patch(&path, &json!({"disabled": true})).await.expect(200);
            let told = Instant::now();
            for replica in &cluster.replicas {
                let caller = replica.client(&key);
                until_within(BOUND, "the key is refused", async || {
                    (caller.get("/v1/models").await.status != 200).then_some(())
                })
                .await;
            }
            slowest = slowest.max(told.elapsed());
        }
        figure("a disabled key is refused by all after", format!("{slowest:.0?}"), "1 s");
    });
}

/// Everything of the registry, as an export shows it, without what a replica says of itself.
async fn exported(cluster: &Cluster, replica: usize) -> Value {
    cluster.api(replica).get("/api/v1/config/export").await.expect(200).json()
}

#[test]
fn concurrent_writes_at_all_replicas_lose_nothing_and_all_end_equal() {
    if !have(&[Need::PrivatePostgres, Need::Redis]) {
        return;
    }
    run(async {
        let postgres = Postgres::start().await;
        let cluster = Cluster::of(4).database(&postgres.url).start().await;
        cluster.model(json!({"model_name": "m"})).await;
        let tenant = cluster.tenant(json!({"name": "acme", "weight": 1})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        // Names that clash, fields of one tenant, models that come and go.
        let writes = (0..100).map(|number: usize| {
            let api = cluster.api(number % 4);
            let path = format!("/api/v1/tenants/{tenant}");
            async move {
                match number % 5 {
                    0 => {
                        let model = json!({"model_name": format!("m{}", number / 10)});
                        api.post("/api/v1/models", &model).await.status
                    }
                    1 => api.patch(&path, &json!({"weight": 100 + number})).await.status,
                    2 => api.patch(&path, &json!({"max_in_flight": 100 + number})).await.status,
                    3 => {
                        api.post("/api/v1/tenants", &json!({"name": format!("t{}", number / 20)}))
                            .await
                            .status
                    }
                    _ => api.patch(&path, &json!({"max_queued": 100 + number})).await.status,
                }
            }
        });
        let statuses: Vec<u16> = join_all(writes).await;
        let count = |status: u16| statuses.iter().filter(|got| **got == status).count();
        // 20 creations of 10 models, 20 of 5 tenants, 60 patches.
        assert_eq!((count(201), count(409), count(200)), (15, 25, 60), "{statuses:?}");
        let stored = cluster.api(0).get(&format!("/api/v1/tenants/{tenant}")).await.expect(200).json();
        assert_eq!(stored["version"], 61, "no write of a tenant is lost");
        let fields = ["weight", "max_in_flight", "max_queued"].map(|name| stored[name].as_u64().unwrap() % 5);
        assert_eq!(fields, [1, 2, 4]);
        equal(&cluster, &key).await;

        postgres.kill().await;
        until("the loss is noticed", async || {
            (cluster.replicas[3].metric("obleth_store_up").await == 0.0).then_some(())
        })
        .await;
        assert_eq!(cluster.client(2, &key).get("/v1/models").await.status, 200, "served from what is known");
        postgres.restart().await;
        until("a write is taken again", async || {
            let changed =
                cluster.api(0).patch(&format!("/api/v1/tenants/{tenant}"), &json!({"weight": 7})).await;
            (changed.status == 200).then_some(())
        })
        .await;
        equal(&cluster, &key).await;
        assert_eq!(view(&cluster, 3, &[key]).await[0][2], 7);
    });
}

/// Waits until all replicas have the same in force.
async fn equal(cluster: &Cluster, key: &str) {
    let keys = [key.to_owned()];
    let latest = cluster.books().await.number("SELECT max(version) AS number FROM registry_log").await;
    for replica in &cluster.replicas {
        until_within(10 * BOUND, "the replica has followed", async || {
            // Not a later one either: a database that was killed may have lost its last commits, as this one does not
            // wait for its disk, and its versions are those of others then.
            (replica.metric("obleth_registry_version").await == latest as f64).then_some(())
        })
        .await;
    }
    let first = view(cluster, 0, &keys).await;
    for replica in 1..cluster.replicas.len() {
        assert_eq!(view(cluster, replica, &keys).await, first);
        assert_eq!(exported(cluster, replica).await["models"], exported(cluster, 0).await["models"]);
    }
}

#[test]
fn a_change_arrives_although_notifications_are_cut_or_the_log_was_pruned() {
    if !have(&[Need::PrivatePostgres, Need::Redis]) {
        return;
    }
    run(async {
        // A PostgreSQL of its own: the connections of other tests are to live.
        let postgres = Postgres::start().await;
        let cluster = Cluster::of(2).database(&postgres.url).start().await;
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let books = cluster.books().await;
        let cut = "SELECT count(pg_terminate_backend(pid)) AS number FROM pg_stat_activity WHERE application_name = 'obleth feed'";
        assert_eq!(books.number(cut).await, 2);
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        let made = Instant::now();
        cluster.knows(&key).await;
        assert!(made.elapsed() < 3 * BOUND, "{:?}", made.elapsed());
        // A replica that hangs while more is changed than is kept.
        cluster.replicas[1].pause();
        let other = cluster.key(&tenant, json!({"name": "other"})).await;
        let pruned = "WITH gone AS (DELETE FROM registry_log RETURNING 1), \
            new AS (INSERT INTO registry_log SELECT 20000, 'tenant', 'none', 'mark' FROM (SELECT count(*) FROM gone) AS n RETURNING 1) \
            SELECT count(*) AS number FROM new";
        assert_eq!(books.number(pruned).await, 1);
        cluster.replicas[1].resume();
        cluster.knows(&other).await;
        // And its own write, on top of what it has read anew.
        cluster.api(1).patch(&format!("/api/v1/tenants/{tenant}"), &json!({"weight": 9})).await.expect(200);
        until("the first follows", async || {
            (view(&cluster, 0, std::slice::from_ref(&key)).await[0][2] == 9).then_some(())
        })
        .await;
    });
}

#[test]
fn one_who_waits_does_not_get_past_a_change_that_was_missed() {
    if !have(&[Need::PrivatePostgres, Need::Redis]) {
        return;
    }
    run(async {
        let postgres = Postgres::start().await;
        let long = Duration::from_secs(600);
        let mock = Mock::start(MockOptions { ttft: long, ..MockOptions::default() });
        let cluster = Cluster::of(2)
            .database(&postgres.url)
            .upstream(&mock.base())
            .all("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")
            .start()
            .await;
        cluster.model(json!({"model_name": "m"})).await;
        cluster.model(json!({"model_name": "n"})).await;
        let mut keys = Vec::new();
        for name in ["holds", "suspended", "gone", "disabled", "of a model"] {
            let tenant = cluster.tenant(json!({"name": name})).await;
            let path = format!("/api/v1/tenants/{tenant}");
            let made = cluster.api(0).post(&format!("{path}/keys"), &json!({"name": "k"})).await.json();
            keys.push((made["secret"].as_str().unwrap().to_owned(), path, made["key"]["id"].clone()));
        }
        let ask = |who: usize, model: &str| {
            let caller = cluster.client(1, &keys[who].0);
            let body = json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]});
            actix_rt::spawn(async move { caller.post("/v1/chat/completions", &body).await })
        };
        for (key, ..) in &keys {
            cluster.knows(key).await;
        }
        let holds = ask(0, "m");
        until("one runs", async || (mock.stats().await["running"] == 1).then_some(())).await;
        let wait = [(1, "m"), (2, "m"), (3, "m"), (4, "n")].map(|(who, model)| ask(who, model));
        until("the others wait", async || {
            let waiting = async |model: &str| {
                cluster.replicas[1].metric(&format!("obleth_queue_depth{{model=\"{model}\"}}")).await
            };
            (waiting("m").await == 3.0 && waiting("n").await == 1.0).then_some(())
        })
        .await;
        cluster.replicas[1].pause();
        let api = cluster.api(0);
        api.patch(&keys[1].1, &json!({"status": "suspended"})).await.expect(200);
        api.delete(&keys[2].1).await.expect(204);
        let key = format!("/api/v1/keys/{}", keys[3].2.as_str().unwrap());
        api.patch(&key, &json!({"disabled": true})).await.expect(200);
        api.delete("/api/v1/models/n").await.expect(204);
        let pruned = "WITH gone AS (DELETE FROM registry_log RETURNING 1), \
            new AS (INSERT INTO registry_log SELECT 20000, 'tenant', 'none', 'mark' FROM (SELECT count(*) FROM gone) AS n RETURNING 1) \
            SELECT count(*) AS number FROM new";
        assert_eq!(cluster.books().await.number(pruned).await, 1);
        cluster.replicas[1].resume();
        let mut statuses = Vec::new();
        for waits in wait {
            let answer = tokio::time::timeout(10 * BOUND, waits).await.expect("an answer").unwrap();
            statuses.push((answer.status, answer.json()["error"]["code"].clone()));
        }
        let wanted = [
            (403, json!("tenant_suspended")),
            (403, json!("tenant_suspended")),
            (403, json!("key_disabled")),
            (404, json!("model_not_found")),
        ];
        assert_eq!(statuses, wanted);
        holds.abort();
        mock.stop().await;
    });
}

#[test]
fn an_admin_token_and_a_purge_hold_everywhere() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let mock = Mock::start(MockOptions::default());
        let cluster = Cluster::of(2).upstream(&mock.base()).start().await;
        cluster.model(json!({"model_name": "m", "cache_enabled": true, "cache_ttl_secs": 600})).await;
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        let body = json!({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]});
        let books = cluster.books().await;
        let kept = async || {
            let answer = cluster.client(1, &key).post("/v1/chat/completions", &body).await.expect(200);
            answer.header("x-obleth-cache").unwrap().to_owned()
        };
        until("the model's cache is on there", async || (kept().await == "hit").then_some(())).await;
        cluster.api(0).delete("/api/v1/cache").await.expect(204);
        until_within(BOUND, "it is forgotten", async || (kept().await == "miss").then_some(())).await;
        // Once: also the one that was asked does not hear of it again and forgets what it has kept since.
        for replica in 0..2 {
            cluster.api(replica).delete("/api/v1/cache").await.expect(204);
            let caller = cluster.client(replica, &key);
            let ask = async || caller.post("/v1/chat/completions", &body).await.expect(200);
            assert_eq!(ask().await.header("x-obleth-cache"), Some("miss"));
            let other = &cluster.replicas[1 - replica];
            let latest = books.number("SELECT max(version) AS number FROM registry_log").await;
            until_within(2 * BOUND, "the other has followed", async || {
                (other.metric("obleth_registry_version").await >= latest as f64).then_some(())
            })
            .await;
            assert_eq!(ask().await.header("x-obleth-cache"), Some("hit"));
        }
        let token =
            cluster.api(0).post("/api/v1/admin-tokens", &json!({"name": "t", "role": "viewer"})).await;
        let token = token.expect(201).json();
        let caller = Caller::new(cluster.replicas[1].admin, Some(token["secret"].as_str().unwrap()));
        until_within(BOUND, "the token is known", async || {
            (caller.get("/api/v1/tenants").await.status == 200).then_some(())
        })
        .await;
        let path = format!("/api/v1/admin-tokens/{}", token["id"].as_str().unwrap());
        cluster.api(0).delete(&path).await.expect(204);
        until_within(BOUND, "the token is refused", async || {
            (caller.get("/api/v1/tenants").await.status == 401).then_some(())
        })
        .await;
        mock.stop().await;
    });
}
