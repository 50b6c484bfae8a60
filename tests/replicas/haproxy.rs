//! Replicas behind HAProxy with the configuration that is shipped: its addresses and its certificate are the test's.

use crate::support::{
    Certificate, Cluster, Door, HaProxy, Load, Mock, Need, Plan, Tally, figure, free_port, have, rounds, run,
    until,
};
use awc::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use obleth::mock::MockOptions;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const NEEDS: [Need; 3] = [Need::Postgres, Need::Redis, Need::HaProxy];

/// `deploy/haproxy.cfg` on this port, with this certificate, in front of two replicas.
pub fn shipped(port: u16, certificate: &str, replicas: &[SocketAddr; 2]) -> String {
    let mut text = include_str!("../../deploy/haproxy.cfg").to_owned();
    for (written, real) in [
        ("bind :443 ", format!("bind 127.0.0.1:{port} ")),
        ("/etc/haproxy/llm.pem", certificate.to_owned()),
        ("obleth-1:8080", replicas[0].to_string()),
        ("obleth-2:8080", replicas[1].to_string()),
    ] {
        assert_eq!(text.matches(written).count(), 1, "{written}");
        text = text.replace(written, &real);
    }
    text
}

/// Two replicas behind HAProxy, a mock behind them, and a tenant.
struct Site {
    cluster: Cluster,
    haproxy: HaProxy,
    certificate: Certificate,
    mock: Mock,
    tenant: String,
    key: String,
}

impl Site {
    async fn start(pace: MockOptions, variables: &[(&str, &str)]) -> Self {
        let mock = Mock::start(pace);
        let plans = Cluster::of(2).upstream(&mock.base());
        let plans = variables.iter().fold(plans, |plans, (name, value)| plans.all(name, value));
        let cluster = plans.start().await;
        cluster.model(json!({"model_name": "m"})).await;
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        let (certificate, port) = (Certificate::make(), free_port());
        let replicas = [cluster.replicas[0].proxy, cluster.replicas[1].proxy];
        let text = shipped(port, certificate.path().to_str().unwrap(), &replicas);
        let haproxy = HaProxy::start(&text, port).await;
        Self { cluster, haproxy, certificate, mock, tenant, key }
    }

    fn door(&self) -> Door {
        self.haproxy.door(&self.certificate)
    }

    fn load(&self, round: usize, clients: usize) -> Load {
        Load::start(Plan::new(&format!("load{round}"), &self.key, &[self.door()], clients))
    }

    /// Waits until HAProxy sends requests to a replica that was started a moment ago.
    async fn used(&self, replica: usize) {
        let received = "obleth_ledger_rows_total{result=\"received\"}";
        until("HAProxy uses the replica", async || {
            (self.cluster.replicas[replica].metric(received).await > 0.0).then_some(())
        })
        .await;
    }

    /// Waits until a replica has several streams running.
    async fn busy(&self, replica: usize) {
        until("the replica is busy", async || {
            (self.cluster.replicas[replica].metric("obleth_in_flight{model=\"m\"}").await >= 4.0)
                .then_some(())
        })
        .await;
    }

    /// SIGTERM amid its streams, its end in good order, and its start again.
    async fn roll(&mut self, replica: usize) -> Duration {
        self.busy(replica).await;
        let one = &mut self.cluster.replicas[replica];
        let asked = Instant::now();
        one.terminate();
        until("it is not ready", async || (one.readiness().await == Some(503)).then_some(())).await;
        assert_eq!(one.exit().await, Some(0), "{}", one.log());
        let took = asked.elapsed();
        one.restart().await;
        self.used(replica).await;
        took
    }

    async fn end(self) {
        for mut replica in self.cluster.replicas {
            replica.kill();
        }
        self.mock.stop().await;
    }
}

fn assert_all_served(tally: &Tally) {
    println!("{:?}", tally.ends());
    let other = tally.all.iter().find(|told| !told.served());
    assert!(other.is_none(), "{other:?} in {:?}", tally.ends());
}

/// When each piece of a streamed answer came, and how many tokens were in it.
async fn pieces(client: &Client, door: &Door, key: &str) -> Vec<(Instant, usize)> {
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hello"}]});
    let request = client
        .post(format!("{}/v1/chat/completions", door.base))
        .insert_header(("authorization", format!("Bearer {key}")))
        .insert_header(("content-type", "application/json"));
    let mut answer = request.send_body(body.to_string()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let tokens = |piece: &Bytes| String::from_utf8_lossy(piece).matches("\"content\":\"").count();
    let mut pieces = Vec::new();
    while let Some(piece) = answer.next().await {
        pieces.push((Instant::now(), tokens(&piece.unwrap())));
    }
    pieces
}

#[test]
fn a_stream_passes_haproxy_and_tls_piece_by_piece() {
    if !have(&NEEDS) {
        return;
    }
    run(async {
        let token = Duration::from_millis(50);
        let pace = MockOptions { ttft: token, token, tokens: 20, ..MockOptions::default() };
        let site = Site::start(pace, &[]).await;
        // The second request of a connection is the one that Nagle's algorithm would hold back.
        let (door, client) = (site.door(), site.door().client());
        let mut longest = Duration::ZERO;
        for round in 0..2 {
            let pieces = pieces(&client, &door, &site.key).await;
            let tokens: Vec<_> = pieces.iter().filter(|(_, tokens)| *tokens > 0).collect();
            let apart = tokens.windows(2).map(|two| two[1].0 - two[0].0).collect::<Vec<_>>();
            println!("round {round}: {} pieces, apart {apart:?}", pieces.len());
            assert!(tokens.iter().map(|(_, tokens)| tokens).sum::<usize>() >= 20);
            assert!(tokens.len() >= 15, "lumps: {} pieces of 20 tokens", tokens.len());
            let spread = tokens[tokens.len() - 1].0 - tokens[0].0;
            assert!(spread >= token * 19 * 8 / 10, "{spread:?} from the first to the last");
            let close = apart.iter().filter(|apart| **apart < token / 5).count();
            assert!(close <= 4, "{close} of {} came together with the one before", apart.len());
            longest = longest.max(*apart.iter().max().unwrap());
        }
        figure("longest pause in a stream of 50 ms a token, ms", longest.as_millis(), "-");
        site.end().await;
    });
}

#[test]
fn a_rolling_restart_under_load_loses_nothing() {
    if !have(&NEEDS) {
        return;
    }
    run(async {
        // Streams of half a second: some always run.
        let token = Duration::from_millis(20);
        let pace = MockOptions { ttft: token, token, tokens: 25, ..MockOptions::default() };
        let mut site = Site::start(pace, &[]).await;
        let (mut streams, mut slowest) = (0, Duration::ZERO);
        for round in 0..rounds() {
            let load = site.load(round, 16);
            for replica in 0..2 {
                let took = site.roll(replica).await;
                println!("round {round}: replica {replica} ended after {took:?}, {} served", load.served());
                assert!(took >= Duration::from_secs(5), "{took:?} are no time to be noticed in");
                slowest = slowest.max(took);
            }
            let tally = load.stop().await;
            assert_all_served(&tally);
            streams += tally.all.len();
            let books = site.cluster.books().await;
            books.agree_with(&tally).await;
            assert!(books.tokens(&site.tenant).await >= tally.tokens() as i64);
        }
        figure("rolling restarts under load", 2 * rounds(), "-");
        figure("streams during them", streams, "-");
        figure("streams lost, refused or without their row", 0, "0");
        figure("longest from SIGTERM to the end, ms", slowest.as_millis(), "-");
        site.end().await;
    });
}

#[test]
fn a_killed_replica_costs_the_streams_it_had_and_no_more() {
    if !have(&NEEDS) {
        return;
    }
    run(async {
        let token = Duration::from_millis(20);
        let pace = MockOptions { ttft: token, token, tokens: 25, ..MockOptions::default() };
        let mut site = Site::start(pace, &[]).await;
        let (clients, mut streams, mut most) = (16, 0, 0);
        for round in 0..rounds() {
            let load = site.load(round, clients);
            site.busy(0).await;
            site.busy(1).await;
            site.cluster.replicas[1].kill();
            let before = load.served();
            until("the other serves all", async || (load.served() > before + 64).then_some(())).await;
            site.cluster.replicas[1].restart().await;
            site.used(1).await;
            let tally = load.stop().await;
            println!("round {round}: {:?}", tally.ends());
            let lost = tally.all.iter().filter(|told| !told.served()).count();
            assert!(lost <= clients, "{lost} of {clients} clients lost an answer");
            (streams, most) = (streams + tally.all.len(), most.max(lost));
            site.cluster.books().await.agree_with(&tally).await;
        }
        figure("replicas killed under load", rounds(), "-");
        figure("streams during that", streams, "-");
        figure("most streams lost by a kill", most, format!("{clients}, the clients"));
        figure("delivered answers without their row, or with two", 0, "0");
        site.end().await;
    });
}
