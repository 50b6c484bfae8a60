//! The way down: not ready at once, then draining, then cut; and every row in the database.

use super::Serving;
use super::spawned::get;
use crate::support::{Socket, post, run, silent_streams, until};
use obleth_schema::Store;
use obleth_schema::ledger::{LedgerFilter, LedgerRecord, page};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// A stream that has given its first event.
async fn stream(serving: &Serving, key: &str) -> Socket {
    let body = json!({"model": "m", "stream": true, "messages": []});
    let mut raw = Socket::sent(serving.proxy, &post("/v1/chat/completions", key, "stream", &body)).await;
    assert!(raw.head().await.unwrap().starts_with("http/1.1 200"));
    assert!(!raw.chunk().await.unwrap().is_empty());
    raw
}

/// The last event of a stream that was cut, and its end.
async fn assert_cut(raw: &mut Socket) {
    let event = String::from_utf8(raw.chunk().await.expect("an error event")).unwrap();
    assert!(event.starts_with("data: {\"error\":") && event.ends_with("\n\n"), "{event}");
    assert!(event.contains("\"code\":\"draining\""), "{event}");
    assert_eq!(raw.chunk().await, Some(Vec::new()), "the body is ended in good order");
}

async fn not_ready(serving: &Serving) {
    until("it is not ready", async || {
        get(serving.proxy, "/ready").await.filter(|answer| answer.starts_with("HTTP/1.1 503"))
    })
    .await;
}

/// The ledger's rows as they lie in the file.
async fn rows(directory: &Path) -> Vec<LedgerRecord> {
    let url = format!("sqlite://{}", directory.join("obleth.db").display());
    let store = Store::connect(&url.parse().unwrap()).unwrap();
    page(&store, &LedgerFilter::default(), None, 1000).await.unwrap()
}

#[test]
fn sigterm_lets_a_load_balancer_notice_then_drains_then_cuts() {
    run(async {
        let upstream = silent_streams().await;
        let mut serving = Serving::start(&upstream, &[("OBLETH_SHUTDOWN_GRACE_SECS", "1")]).await;
        let caller = serving.furnish().await;
        let key = caller.credential.clone().unwrap();
        let mut running = stream(&serving, &key).await;
        let asked = Instant::now();
        serving.process.signal("TERM");
        not_ready(&serving).await;
        println!("not ready {:?} after SIGTERM", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(2));
        let mut served = 1;
        let draining = until("new requests are refused", async || {
            let answer = caller.chat("m").await;
            assert_eq!(answer.header("connection"), Some("close"));
            if answer.status == 200 {
                served += 1;
                return None;
            }
            Some(answer.expect(503))
        })
        .await;
        let closed_for = asked.elapsed();
        println!("{served} requests served while closing, refused from {closed_for:?} on");
        assert!(served > 1 && closed_for >= Duration::from_millis(4900), "{served}, {closed_for:?}");
        assert_eq!(draining.error_code(), "draining");
        assert!(draining.header("retry-after").is_some());
        assert_cut(&mut running).await;
        let cut = asked.elapsed();
        assert!(cut >= Duration::from_millis(5900), "the grace is a second: {cut:?}");
        assert_eq!(serving.process.exit().await, Some(0), "{}", serving.process.stderr());
        println!("cut after {cut:?}, ended after {:?}", asked.elapsed());
        let rows = rows(serving.directory.path()).await;
        assert_eq!(rows.len(), served);
        let cut = rows.iter().find(|row| row.request_id == "stream").unwrap();
        assert_eq!((cut.status, cut.error_code.as_deref()), (503, Some("draining")));
        assert!(cut.output_tokens > 0);
    });
}

#[test]
fn without_a_delay_sigterm_drains_at_once() {
    run(async {
        let upstream = silent_streams().await;
        let variables = [("OBLETH_SHUTDOWN_DELAY_SECS", "0"), ("OBLETH_SHUTDOWN_GRACE_SECS", "1")];
        let mut serving = Serving::start(&upstream, &variables).await;
        let caller = serving.furnish().await;
        let mut running = stream(&serving, caller.credential.as_ref().unwrap()).await;
        let asked = Instant::now();
        serving.process.signal("TERM");
        let refused = until("new requests are refused", async || {
            let answer = caller.chat("m").await;
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(refused.await.expect(503).error_code(), "draining");
        println!("refused after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
        assert_cut(&mut running).await;
        assert_eq!(serving.process.exit().await, Some(0), "{}", serving.process.stderr());
        println!("ended after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_millis(4900), "{:?}", asked.elapsed());
    });
}

#[test]
fn a_second_sigterm_hurries() {
    run(async {
        let upstream = silent_streams().await;
        let mut serving = Serving::start(&upstream, &[]).await;
        let key = serving.furnish().await.credential.unwrap();
        let mut running = stream(&serving, &key).await;
        let asked = Instant::now();
        serving.process.signal("TERM");
        not_ready(&serving).await;
        serving.process.signal("TERM");
        assert_cut(&mut running).await;
        assert_eq!(serving.process.exit().await, Some(0), "{}", serving.process.stderr());
        println!("two SIGTERM end it after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(rows(serving.directory.path()).await.len(), 1);
    });
}

#[test]
fn every_row_is_in_the_database_when_a_loaded_gateway_is_interrupted() {
    run(async {
        let upstream = silent_streams().await;
        let mut serving = Serving::start(&upstream, &[]).await;
        let caller = serving.furnish().await;
        for round in 0..10 {
            let answers = futures_util::future::join_all((0..20).map(|_| caller.chat("m"))).await;
            assert!(answers.iter().all(|answer| answer.status == 200), "round {round}");
        }
        let asked = Instant::now();
        serving.process.signal("INT");
        assert_eq!(serving.process.exit().await, Some(0), "{}", serving.process.stderr());
        println!("SIGINT ends it after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert_eq!(rows(serving.directory.path()).await.len(), 200);
    });
}
