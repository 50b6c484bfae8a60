//! Slots of the fleet: never more than there are, used, and shared by weight wherever a tenant enters.

use crate::support::{Cluster, Load, Mock, Need, Plan, figure, have, run, until};
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const SLOTS: u64 = 8;
/// One request takes 20 + 20 × 10 ms.
const TOKENS: u32 = 20;
const EACH: Duration = Duration::from_millis(220);

fn pace() -> MockOptions {
    MockOptions {
        ttft: Duration::from_millis(20),
        token: Duration::from_millis(10),
        tokens: TOKENS,
        ..MockOptions::default()
    }
}

/// How long the shares are watched; the long form by `scripts/chaos.sh`.
fn span() -> Duration {
    let secs = std::env::var("OBLETH_CHAOS_SECS").ok().and_then(|secs| secs.parse().ok());
    Duration::from_secs(secs.unwrap_or(8))
}

async fn started(replicas: usize, mock: &Mock) -> Cluster {
    let cluster = Cluster::of(replicas)
        .upstream(&mock.base())
        .all("OBLETH_GLOBAL_MAX_IN_FLIGHT", &SLOTS.to_string())
        .start()
        .await;
    cluster.model(json!({"model_name": "m"})).await;
    cluster
}

/// Of the slots, in percent: what was generated, times as long as it takes.
async fn slot_use(mock: &Mock, span: impl AsyncFnOnce()) -> f64 {
    let generated = async || mock.stats().await["output_tokens"].as_u64().unwrap();
    let (before, begun) = (generated().await, Instant::now());
    span().await;
    let requests = (generated().await - before) as f64 / f64::from(TOKENS);
    100.0 * requests * EACH.as_secs_f64() / (SLOTS as f64 * begun.elapsed().as_secs_f64())
}

async fn shares(replicas: usize) {
    let mock = Mock::start(pace());
    let cluster = started(replicas, &mock).await;
    let a = cluster.tenant(json!({"name": "a", "weight": 300})).await;
    let a = cluster.key(&a, json!({"name": "k"})).await;
    let b = cluster.tenant(json!({"name": "b", "weight": 100})).await;
    let b = cluster.key(&b, json!({"name": "k"})).await;
    cluster.knows(&a).await;
    cluster.knows(&b).await;
    let doors = cluster.doors();
    let at_first = Load::start(Plan::new("a", &a, &doors[..1], 24));
    let at_others = Load::start(Plan::new("b", &b, &doors[1..], 24));
    until("both are served", async || (at_first.served() > 150 && at_others.served() > 50).then_some(()))
        .await;
    let begun = Instant::now();
    let used = slot_use(&mock, async || sleep(span()).await).await;
    let ended = Instant::now();
    let (a, b) = (at_first.stop().await, at_others.stop().await);
    let ratio = a.tokens_between(begun, ended) as f64 / b.tokens_between(begun, ended) as f64;
    let peak = mock.stats().await["peak_running"].as_u64().unwrap();
    figure(&format!("{replicas} replicas: tokens 3 : 1"), format!("{ratio:.3}"), "2.85 to 3.15");
    figure(&format!("{replicas} replicas: slot use"), format!("{used:.1} %"), "95 %");
    figure(&format!("{replicas} replicas: most at once"), peak, SLOTS);
    assert!(peak <= SLOTS, "{peak} at once");
    assert!((2.85..=3.15).contains(&ratio), "tokens {ratio:.3} : 1");
    assert!(used >= 95.0, "slot use {used:.1} %");
    assert_eq!(a.ends().keys().collect::<Vec<_>>(), ["200"]);
    assert_eq!(b.ends().keys().collect::<Vec<_>>(), ["200"]);
    mock.stop().await;
}

#[test]
fn two_replicas_share_by_weight() {
    if have(&[Need::Postgres, Need::Redis]) {
        run(shares(2));
    }
}

#[test]
fn four_replicas_share_by_weight() {
    if have(&[Need::Postgres, Need::Redis]) {
        run(shares(4));
    }
}

#[test]
fn a_weight_that_changes_under_load_holds_everywhere_at_once() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let mock = Mock::start(pace());
        let cluster = started(2, &mock).await;
        let a = cluster.tenant(json!({"name": "a", "weight": 300})).await;
        let path = format!("/api/v1/tenants/{a}");
        let a = cluster.key(&a, json!({"name": "k"})).await;
        let b = cluster.tenant(json!({"name": "b", "weight": 100})).await;
        let b = cluster.key(&b, json!({"name": "k"})).await;
        cluster.knows(&a).await;
        cluster.knows(&b).await;
        let doors = cluster.doors();
        let (first, other) = (
            Load::start(Plan::new("a", &a, &doors[..1], 24)),
            Load::start(Plan::new("b", &b, &doors[1..], 24)),
        );
        // Both replicas have charged: what they did before the change must not count after it.
        until("both are served", async || (first.served() > 90 && other.served() > 30).then_some(())).await;
        cluster.api(1).patch(&path, &json!({"weight": 100})).await.expect(200);
        // What was granted by the old weights, and a second to hear of the new one.
        sleep(Duration::from_secs(1) + 2 * EACH).await;
        let begun = Instant::now();
        sleep(span()).await;
        let ended = Instant::now();
        let (a, b) = (first.stop().await, other.stop().await);
        let ratio = a.tokens_between(begun, ended) as f64 / b.tokens_between(begun, ended) as f64;
        figure("3 : 1 made 1 : 1 under load: tokens after a second", format!("{ratio:.3}"), "0.95 to 1.05");
        assert!((0.95..=1.05).contains(&ratio), "tokens {ratio:.3} : 1");
        mock.stop().await;
    });
}

#[test]
fn one_of_four_replicas_may_use_all_slots() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let mock = Mock::start(pace());
        let cluster = started(4, &mock).await;
        let tenant = cluster.tenant(json!({"name": "a"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        let load = Load::start(Plan::new("a", &key, &cluster.doors()[2..3], 16));
        until("it is served", async || (load.served() > 20).then_some(())).await;
        let used = slot_use(&mock, async || sleep(span() / 2).await).await;
        let tally = load.stop().await;
        let peak = mock.stats().await["peak_running"].as_u64().unwrap();
        figure("all load on one of four: slot use", format!("{used:.1} %"), "95 %");
        figure("all load on one of four: most at once", peak, SLOTS);
        assert!(peak <= SLOTS, "{peak} at once");
        assert!(used >= 95.0, "slot use {used:.1} %");
        assert_eq!(tally.ends().keys().collect::<Vec<_>>(), ["200"]);
        mock.stop().await;
    });
}

#[test]
fn fewer_slots_hold_for_the_fleet_although_everybody_waits() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let mock = Mock::start(pace());
        let cluster = started(3, &mock).await;
        let tenant = cluster.tenant(json!({"name": "a"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        let load = Load::start(Plan::new("a", &key, &cluster.doors(), 36));
        let at_least =
            async |running: u64| (mock.stats().await["running"].as_u64() >= Some(running)).then_some(());
        until("all slots are used", async || at_least(SLOTS).await).await;
        let lowered = json!({"max_in_flight": 3});
        cluster.api(1).put("/api/v1/capacity", &lowered).await.expect(200);
        // What ran when it was lowered ends, and what is too much is called back.
        sleep(Duration::from_millis(500) + EACH).await;
        let (begun, mut most) = (Instant::now(), 0);
        while begun.elapsed() < Duration::from_secs(3) {
            most = most.max(mock.stats().await["running"].as_u64().unwrap());
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(most, 3);
        cluster.api(2).put("/api/v1/capacity", &json!({"max_in_flight": SLOTS})).await.expect(200);
        until("all slots are used again", async || at_least(SLOTS).await).await;
        let tally = load.stop().await;
        assert_eq!(tally.ends().keys().collect::<Vec<_>>(), ["200"]);
        assert_eq!(mock.stats().await["peak_running"], SLOTS);
        mock.stop().await;
    });
}
