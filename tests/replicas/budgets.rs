//! Budgets of the fleet: hard ones are never passed and used to the end, a minute gives what it gives, whatever
//! replica a request comes through, and whatever happens to Redis and to replicas.

use crate::support::{Cluster, Load, Mock, Need, Plan, Tally, figure, have, run, until, until_within};
use obleth::mock::MockOptions;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What one request reserves at most: its body in bytes, a frame, its output.
const ONE: i64 = 300;

fn pace() -> MockOptions {
    MockOptions {
        ttft: Duration::from_millis(5),
        token: Duration::from_millis(2),
        tokens: 12,
        ..MockOptions::default()
    }
}

/// Replicas that know a tenant with these fields; its id and a key.
async fn started(replicas: usize, mock: &Mock, fields: Value) -> (Cluster, String, String) {
    let cluster = Cluster::of(replicas).upstream(&mock.base()).start().await;
    cluster.model(json!({"model_name": "m"})).await;
    let tenant = cluster.tenant(fields).await;
    let key = cluster.key(&tenant, json!({"name": "k"})).await;
    cluster.knows(&key).await;
    (cluster, tenant, key)
}

fn plan(cluster: &Cluster, key: &str, clients: usize) -> Plan {
    Plan { max_tokens: Some(12), ..Plan::new("a", key, &cluster.doors(), clients) }
}

fn count(tally: &Tally, end: &str) -> usize {
    tally.ends().get(end).copied().unwrap_or(0)
}

/// What the upstream counted.
async fn counted(mock: &Mock) -> i64 {
    let stats = mock.stats().await;
    stats["prompt_tokens"].as_i64().unwrap() + stats["output_tokens"].as_i64().unwrap()
}

#[test]
fn a_hard_budget_is_used_to_the_end_by_four_replicas_and_never_passed() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        const LIMIT: i64 = 20_000;
        let mock = Mock::start(pace());
        let budgets = json!([{"period": "total", "max_tokens": LIMIT, "hard": true}]);
        let (cluster, tenant, key) = started(4, &mock, json!({"name": "a", "budgets": budgets})).await;
        let load = Load::start(plan(&cluster, &key, 16));
        until_within(Duration::from_secs(60), "it is spent", async || {
            (count(&load.tally(), "402 budget_exhausted") > 300).then_some(())
        })
        .await;
        let tally = load.stop().await;
        let used = counted(&mock).await;
        println!("{used} of {LIMIT}: {:?}", tally.ends());
        figure("a hard budget at four replicas: tokens", used, LIMIT);
        assert!(used <= LIMIT, "{used} of {LIMIT}");
        assert!(used > LIMIT - ONE, "{used} of {LIMIT} could be used");
        for door in 0..4 {
            assert!(tally.served().any(|told| told.door == door), "replica {door} served nothing");
        }
        let books = cluster.books().await;
        books.agree_with(&tally).await;
        let spent = until("the ledger has it", async || {
            let tokens = books.tokens(&tenant).await;
            (tokens == used).then_some(tokens)
        })
        .await;
        // Every replica shows what all have used.
        for replica in 0..4 {
            let shown = cluster.api(replica).get(&format!("/api/v1/tenants/{tenant}/budget")).await;
            let shown: Value = shown.expect(200).json();
            assert_eq!(shown["budgets"][0]["tokens"]["used"], json!(spent), "replica {replica}: {shown}");
            assert_eq!(shown["usage"]["total"]["tokens"], json!(spent), "replica {replica}: {shown}");
        }
        mock.stop().await;
    });
}

#[test]
fn four_replicas_give_what_a_minute_gives() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        const A_MINUTE: u64 = 60_000;
        let mock = Mock::start(pace());
        let (cluster, _, key) = started(4, &mock, json!({"name": "a", "tokens_per_minute": A_MINUTE})).await;
        let load = Load::start(plan(&cluster, &key, 96));
        until_within(Duration::from_secs(120), "the bucket is empty", async || {
            (count(&load.tally(), "429 tokens_per_minute") > 100).then_some(())
        })
        .await;
        // What the full bucket gave is on its way still.
        sleep(Duration::from_secs(3)).await;
        let (before, begun) = (counted(&mock).await, Instant::now());
        sleep(Duration::from_secs(20)).await;
        let (given, span) = (counted(&mock).await - before, begun.elapsed());
        let tally = load.stop().await;
        let percent = given as f64 * 100.0 / (A_MINUTE as f64 / 60.0 * span.as_secs_f64());
        println!("{percent:.1} % of what a minute gives: {:?}", tally.ends());
        figure("tokens a minute at four replicas", format!("{percent:.1} %"), "95 to 105 %");
        assert!((95.0..=105.0).contains(&percent), "{percent:.1} %");
        mock.stop().await;
    });
}

#[test]
fn a_hard_budget_holds_while_redis_is_lost_and_a_replica_is_killed() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        const LIMIT: i64 = 60_000;
        let mock = Mock::start(pace());
        let budgets = json!([{"period": "day", "max_tokens": LIMIT, "hard": true}]);
        let (mut cluster, tenant, key) = started(3, &mock, json!({"name": "a", "budgets": budgets})).await;
        let load = Load::start(plan(&cluster, &key, 12));
        until("some are served", async || (load.served() > 200).then_some(())).await;
        cluster.redis.as_mut().unwrap().kill();
        until_within(Duration::from_secs(60), "slices are spent", async || {
            (count(&load.tally(), "503 store_unavailable") > 50).then_some(())
        })
        .await;
        assert!(counted(&mock).await <= LIMIT);
        let served = load.served();
        cluster.redis.as_mut().unwrap().restart().await;
        until("claims are given again", async || (load.served() > served + 100).then_some(())).await;
        cluster.replicas[2].kill();
        cluster.redis.as_mut().unwrap().restart().await;
        sleep(Duration::from_secs(1)).await;
        cluster.replicas[2].restart().await;
        until_within(Duration::from_secs(90), "it is spent", async || {
            (count(&load.tally(), "402 budget_exhausted") > 100).then_some(())
        })
        .await;
        let tally = load.stop().await;
        let books = cluster.books().await;
        books.agree_with(&tally).await;
        sleep(Duration::from_secs(1)).await;
        let (used, charged) = (counted(&mock).await, books.tokens(&tenant).await);
        println!("{used} counted, {charged} charged of {LIMIT}: {:?}", tally.ends());
        figure("a hard budget, Redis lost and a replica killed: tokens", charged, LIMIT);
        assert!(used <= LIMIT && charged <= LIMIT, "{used} counted, {charged} charged of {LIMIT}");
        assert!(charged > LIMIT - ONE, "{charged} of {LIMIT} could be used");
        mock.stop().await;
    });
}

/// Tokens a minute give so much within five seconds while Redis is away, in percent, and how requests end.
async fn without_redis(fail_open: bool) -> (f64, Tally) {
    const A_MINUTE: u64 = 60_000;
    let mock = Mock::start(pace());
    let fields = json!({"name": "a", "tokens_per_minute": A_MINUTE});
    let (mut cluster, _, key) = started(2, &mock, fields).await;
    for replica in &mut cluster.replicas {
        replica.set("OBLETH_FAIL_OPEN", if fail_open { "true" } else { "false" });
        replica.restart().await;
    }
    let load = Load::start(plan(&cluster, &key, 64));
    until_within(Duration::from_secs(120), "the bucket is empty", async || {
        (count(&load.tally(), "429 tokens_per_minute") > 100).then_some(())
    })
    .await;
    cluster.redis.as_ref().unwrap().pause();
    sleep(Duration::from_secs(2)).await;
    let (before, begun) = (counted(&mock).await, Instant::now());
    sleep(Duration::from_secs(6)).await;
    let given =
        (counted(&mock).await - before) as f64 / (A_MINUTE as f64 / 60.0 * begun.elapsed().as_secs_f64());
    cluster.redis.as_ref().unwrap().resume();
    let served = load.served();
    until("it goes on by Redis", async || (load.served() > served + 50).then_some(())).await;
    let tally = load.stop().await;
    println!("fail open {fail_open}: {:.1} %, {:?}", 100.0 * given, tally.ends());
    let limit = if fail_open { "90 to 110 %" } else { "10 %" };
    let what = format!("tokens a minute while Redis hangs, fail open {fail_open}");
    figure(&what, format!("{:.1} %", 100.0 * given), limit);
    mock.stop().await;
    (100.0 * given, tally)
}

#[test]
fn while_redis_hangs_each_replica_goes_by_its_part_of_a_minute_or_refuses() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let (given, tally) = without_redis(true).await;
        assert!((90.0..=110.0).contains(&given), "{given:.1} %");
        assert_eq!(count(&tally, "503 store_unavailable"), 0);
        let (given, tally) = without_redis(false).await;
        assert!(given < 10.0, "{given:.1} %");
        assert!(count(&tally, "503 store_unavailable") > 10);
    });
}
