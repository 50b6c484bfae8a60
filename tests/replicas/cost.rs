//! What a second replica costs each request: nothing that waits on Redis is on its path.

use crate::support::{Cluster, Load, Mock, Need, Plan, Replica, figure, have, run};
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::Duration;

/// CPU time of a process, in ticks of 10 ms: fields 14 and 15 of its `stat` (proc(5)).
fn ticks(replica: &Replica) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", replica.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Clients of each replica.
const CLIENTS: usize = 16;

/// How replicas are set up.
#[derive(Clone, Copy, PartialEq)]
enum Setup {
    /// Each by itself.
    Apart,
    /// With Redis between them.
    Fleet,
}

/// Microseconds of CPU a request, of all replicas together. Each has the same load, however many they are, and the
/// machine has time to spare: how much is done at one wakeup is the same.
async fn cost(replicas: usize, setup: Setup, requests: u64) -> f64 {
    let pace = MockOptions { ttft: Duration::from_millis(20), tokens: 8, ..MockOptions::default() };
    let mock = Mock::start(pace);
    let plans = Cluster::of(replicas).upstream(&mock.base());
    let plans = if setup == Setup::Apart { plans.without_redis() } else { plans };
    let cluster = plans.start().await;
    cluster.model(json!({"model_name": "m"})).await;
    let tenant = cluster.tenant(json!({"name": "a"})).await;
    let key = cluster.key(&tenant, json!({"name": "k"})).await;
    cluster.knows(&key).await;
    let requests = requests * replicas as u64;
    let plan = |name: &str, requests| Plan {
        stream: false,
        requests: Some(requests),
        ..Plan::new(name, &key, &cluster.doors(), replicas * CLIENTS)
    };
    Load::start(plan("a", requests / 10)).done().await;
    let before: u64 = cluster.replicas.iter().map(ticks).sum();
    let tally = Load::start(plan("b", requests)).done().await;
    let after: u64 = cluster.replicas.iter().map(ticks).sum();
    assert_eq!(tally.ends().keys().collect::<Vec<_>>(), ["200"]);
    mock.stop().await;
    (after - before) as f64 * 10_000.0 / requests as f64
}

#[test]
fn a_request_costs_no_more_in_a_fleet() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    // Times are measured by `scripts/chaos.sh cost` alone; here it is shown that it can be.
    let measured = std::env::var_os("OBLETH_CHAOS_SECS").is_some();
    let requests = if measured { 10_000 } else { 250 };
    run(async {
        let alone = cost(1, Setup::Apart, requests).await;
        let apart = cost(2, Setup::Apart, requests).await;
        let fleet = cost(2, Setup::Fleet, requests).await;
        let ratio = fleet / alone;
        figure("CPU a request, of one replica alone", format!("{alone:.0} µs"), "-");
        figure("of two that share, each with the same load, over that", format!("{ratio:.2}"), "1.20");
        figure("of two that share, over two that do not", format!("{:.2}", fleet / apart), "-");
        assert!(!measured || ratio <= 1.2, "{ratio:.2}");
    });
}
