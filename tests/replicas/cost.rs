//! What a second replica costs each request: nothing that waits on Redis is on its path.

use crate::support::{Cluster, Load, Mock, Need, Plan, Replica, figure, have, run};
use obleth::mock::MockOptions;
use serde_json::json;

/// CPU time of a process, in ticks of 10 ms: fields 14 and 15 of its `stat` (proc(5)).
fn ticks(replica: &Replica) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", replica.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Microseconds of CPU a request, of all replicas together.
async fn cost(replicas: usize, requests: u64) -> f64 {
    let mock = Mock::start(MockOptions { tokens: 8, ..MockOptions::default() });
    let plans = Cluster::of(replicas).upstream(&mock.base());
    let plans = if replicas == 1 { plans.without_redis() } else { plans };
    let cluster = plans.start().await;
    cluster.model(json!({"model_name": "m"})).await;
    let tenant = cluster.tenant(json!({"name": "a"})).await;
    let key = cluster.key(&tenant, json!({"name": "k"})).await;
    cluster.knows(&key).await;
    let plan = |requests| Plan {
        stream: false,
        requests: Some(requests),
        ..Plan::new("a", &key, &cluster.doors(), 8)
    };
    Load::start(plan(requests / 10)).done().await;
    let before: u64 = cluster.replicas.iter().map(ticks).sum();
    let tally = Load::start(Plan { name: "b".to_owned(), ..plan(requests) }).done().await;
    let after: u64 = cluster.replicas.iter().map(ticks).sum();
    assert_eq!(tally.ends().keys().collect::<Vec<_>>(), ["200"]);
    mock.stop().await;
    (after - before) as f64 * 10_000.0 / requests as f64
}

#[test]
fn two_replicas_serve_a_request_for_the_price_of_one() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    // Times are measured by `scripts/chaos.sh cost` alone; here it is shown that it can be.
    let measured = std::env::var_os("OBLETH_CHAOS_SECS").is_some();
    let requests = if measured { 20_000 } else { 500 };
    run(async {
        let (alone, two) = (cost(1, requests).await, cost(2, requests).await);
        let ratio = two / alone;
        figure("CPU a request with two replicas over one", format!("{ratio:.2}"), "1.2");
        println!("{alone:.0} µs alone, {two:.0} µs with two");
        assert!(!measured || ratio <= 1.2, "{ratio:.2}");
    });
}
