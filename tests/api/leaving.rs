//! Clients that leave: the upstream hears of it at once, the seat comes back, one row says 499.

use crate::support::{Gate, Raw, Seen, Step, TestApp, Upstream, chat_chunks, run, until};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

const SSE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn closed_gate() -> Gate {
    Arc::new(Semaphore::new(0))
}

fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into())
}

/// A chat request with this id.
fn request(key: &str, id: &str, stream: bool) -> String {
    let body = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
        .to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\nx-api-key: {key}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn start(
    variables: &[(&str, &str)],
    script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
) -> (Upstream, TestApp, String) {
    let upstream = Upstream::start(script).await;
    let app = TestApp::with(&upstream, variables).await;
    app.model("m").await;
    let key = app.caller("acme").await.credential.unwrap();
    (upstream, app, key)
}

fn left(row: &Value, source: &str) {
    assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
    assert_eq!(row["usage_source"], source);
}

#[test]
fn a_client_that_leaves_before_the_answer_cancels_the_upstream_request() {
    run(async {
        for stream in [false, true] {
            let gate = closed_gate();
            let (upstream, app, key) = start(&[], move |_| vec![Step::Wait(Arc::clone(&gate))]).await;
            let mut raw = Raw::open(app.running.proxy).await;
            raw.send(request(&key, "gone", stream)).await;
            until("the upstream has it", async || (upstream.seen().len() == 1).then_some(())).await;
            assert_eq!(app.in_flight(), 1);
            drop(raw);
            until("the upstream was left", async || {
                (upstream.left() == 1 && upstream.open() == 0).then_some(())
            })
            .await;
            app.idle().await;
            let row = app.row("gone").await;
            left(&row, "estimated");
            assert_eq!(row["admission"], "fast");
            assert_eq!(app.rows().await.len(), 1);
            app.stop().await;
        }
    });
}

#[test]
fn a_client_that_leaves_within_a_stream_cancels_the_upstream_request() {
    run(async {
        let gate = closed_gate();
        let words = chat_chunks(&["Hello", " there"], None);
        let (upstream, app, key) = start(&[], move |_| {
            vec![Step::Send(SSE.into()), chunk(&words[0]), chunk(&words[1]), Step::Wait(Arc::clone(&gate))]
        })
        .await;
        let mut raw = Raw::open(app.running.proxy).await;
        raw.send(request(&key, "gone", true)).await;
        until("the upstream has it", async || (upstream.seen().len() == 1).then_some(())).await;
        assert!(raw.begins("HTTP/1.1 200").await);
        drop(raw);
        until("the upstream was left", async || (upstream.left() == 1 && upstream.open() == 0).then_some(()))
            .await;
        app.idle().await;
        let row = app.row("gone").await;
        left(&row, "counted");
        assert!(row["output_tokens"].as_i64().unwrap() > 0);
        assert_eq!(app.rows().await.len(), 1);
        app.stop().await;
    });
}

#[test]
fn a_client_that_leaves_the_queue_was_never_upstream() {
    run(async {
        let gate = closed_gate();
        let shared = Arc::clone(&gate);
        let (upstream, app, key) = start(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")], move |_| {
            vec![Step::Wait(Arc::clone(&shared)), Step::Send(crate::support::chat_answer(1, 1))]
        })
        .await;
        let mut first = Raw::open(app.running.proxy).await;
        first.send(request(&key, "first", false)).await;
        until("the first runs", async || (upstream.seen().len() == 1).then_some(())).await;
        let mut second = Raw::open(app.running.proxy).await;
        second.send(request(&key, "second", false)).await;
        until("the second waits", async || (app.running.gateway.running() == 2).then_some(())).await;
        until("it has waited a while", async || {
            let told = app.admin().get("/api/v1/fairshare/explain/second").await;
            (told.status == 200 && told.json()["waited_ms"].as_u64()? >= 20).then_some(())
        })
        .await;
        drop(second);
        until("the second is gone", async || (app.running.gateway.running() == 1).then_some(())).await;
        gate.add_permits(1);
        assert_eq!(first.answer().await.unwrap().status, 200);
        app.idle().await;
        assert_eq!(upstream.seen().len(), 1);
        let row = app.row("second").await;
        left(&row, "none");
        assert_eq!(row["cost_usd"], "0");
        let (queued, total) = (row["queue_ms"].as_u64().unwrap(), row["total_ms"].as_u64().unwrap());
        assert!(20 <= queued && queued <= total, "{row}");
        let metrics = app.metrics().await;
        assert!(metrics.contains("status=\"499\""), "{metrics}");
        app.stop().await;
    });
}
