//! Comments on streams that wait: when they come, when they do not, and what follows them.

use crate::support::{
    Gate, Queue, Seen, Socket, Step, TestApp, Upstream, chat_answer, chat_chunks, post, run, sse,
    stream_body, until,
};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const CHAT: &str = "/v1/chat/completions";
const PINGS: (&str, &str) = ("OBLETH_SSE_PING_SECS", "1");
const PING: &str = ": ping\n\n";

async fn chunk(socket: &mut Socket) -> String {
    let chunk = timeout(Duration::from_secs(10), socket.chunk()).await.expect("a chunk within 10 s");
    String::from_utf8(chunk.expect("a chunk before the end")).unwrap()
}

/// The rest of the body.
async fn rest(socket: &mut Socket) -> String {
    let mut text = String::new();
    loop {
        match chunk(socket).await {
            end if end.is_empty() => return text,
            more => text.push_str(&more),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn a_queued_stream_is_pinged_from_the_first_pause_to_the_first_byte() {
    run(async {
        let events = chat_chunks(&["Hello", " there"], Some((5, 2)));
        let answer: Gate = Arc::new(Semaphore::new(0));
        let (gate, played) = (Arc::clone(&answer), events.clone());
        let queue = Queue::with(&[PINGS], move |_| {
            let mut steps = vec![Step::Wait(Arc::clone(&gate))];
            steps.extend(sse(&played));
            steps
        })
        .await;
        let sent = Instant::now();
        let mut socket = queue.join(CHAT, "pinged", &stream_body()).await;
        assert!(socket.answers().await);
        let first = sent.elapsed();
        assert!((950..2000).contains(&first.as_millis()), "nothing leaves before the pause: {first:?}");
        let head = socket.head().await.unwrap();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        for (name, value) in [
            ("content-type", Some("text/event-stream")),
            ("cache-control", Some("no-cache")),
            ("x-request-id", Some("pinged")),
            ("x-obleth-admission", Some("queued")),
            ("x-obleth-queue-ms", None),
        ] {
            assert_eq!(header(&head, name), value, "{name} in {head}");
        }
        let times = header(&head, "server-timing").unwrap();
        assert!(times.starts_with("auth;dur="), "{times}");
        assert!(!times.contains("queue") && !times.contains("upstream"), "not known yet: {times}");
        assert_eq!(chunk(&mut socket).await, PING);
        let one = Instant::now();
        assert_eq!(chunk(&mut socket).await, PING);
        assert!((900..2000).contains(&one.elapsed().as_millis()), "{:?}", one.elapsed());
        queue.release();
        until("it is upstream", async || (queue.upstream.seen().len() == 2).then_some(())).await;
        assert_eq!(chunk(&mut socket).await, PING, "an upstream that thinks is no less silent than a queue");
        answer.add_permits(1);
        let text = rest(&mut socket).await;
        let wanted: String = [&events[..2], &events[3..]].concat().concat();
        assert_eq!(text.replace(PING, ""), wanted, "without the usage that was not asked for");
        assert!(!text.trim_start_matches(PING).contains(PING), "no comment once the answer has begun");
        queue.app.idle().await;
        let row = queue.app.row("pinged").await;
        assert_eq!((&row["status"], &row["admission"]), (&json!(200), &json!("queued")));
        assert_eq!((&row["error_code"], &row["input_tokens"]), (&json!(null), &json!(5)));
        assert!(row["queue_ms"].as_u64().unwrap() >= 1900, "{row}");
        let passed: usize = events.iter().map(String::len).sum::<usize>() - events[2].len();
        assert_eq!(row["bytes_out"], json!(passed), "comments are not the upstream's");
        queue.stop().await;
    });
}

/// An answer after the gate has let one through.
fn late(gate: &Gate, answer: Vec<Step>) -> impl Fn(&Seen) -> Vec<Step> + Send + Sync + use<> {
    let gate = Arc::clone(gate);
    move |_| [vec![Step::Wait(Arc::clone(&gate))], answer.clone()].concat()
}

#[test]
fn only_streams_that_stand_in_the_queue_are_pinged() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let queue = Queue::with(&[PINGS], late(&gate, vec![Step::Send(chat_answer(1, 1))])).await;
        gate.add_permits(9);
        // What is no stream keeps its status to the end.
        let mut whole = stream_body();
        whole["stream"] = json!(false);
        let mut socket = queue.join(CHAT, "whole", &whole).await;
        let mut embedding = queue.join("/v1/embeddings", "embedding", &stream_body()).await;
        for socket in [&mut socket, &mut embedding] {
            assert!(timeout(Duration::from_millis(1500), socket.answers()).await.is_err());
        }
        queue.release();
        let head = socket.head().await.unwrap();
        assert!(head.starts_with("http/1.1 200") && header(&head, "x-obleth-queue-ms").is_some(), "{head}");
        assert!(embedding.head().await.unwrap().contains("application/json"));
        queue.app.idle().await;
        queue.stop().await;
    });
}

#[test]
fn a_stream_with_a_slot_of_its_own_keeps_its_status_however_long_the_upstream_thinks() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let busy = Step::Send(crate::support::json(429, r#"{"error":{"message":"busy"}}"#));
        let upstream = Upstream::start(late(&gate, vec![busy])).await;
        let app = TestApp::with(&upstream, &[PINGS]).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        let mut socket = Socket::sent(app.running.proxy, &post(CHAT, &key, "fast", &stream_body())).await;
        assert!(timeout(Duration::from_millis(1500), socket.answers()).await.is_err());
        gate.add_permits(1);
        assert!(socket.head().await.unwrap().starts_with("http/1.1 429"));
        app.idle().await;
        app.stop().await;
    });
}

#[test]
fn nothing_is_pinged_unless_it_is_asked_for() {
    run(async {
        let queue = Queue::with(&[], |_| sse(&chat_chunks(&["Hello"], None))).await;
        let mut socket = queue.join(CHAT, "off", &stream_body()).await;
        assert!(timeout(Duration::from_millis(1500), socket.answers()).await.is_err());
        queue.release();
        let head = socket.head().await.unwrap();
        assert!(header(&head, "x-obleth-queue-ms").unwrap().parse::<u64>().unwrap() >= 1400, "{head}");
        assert!(!rest(&mut socket).await.contains("ping"));
        queue.stop().await;
    });
}

#[test]
fn a_client_that_leaves_a_pinged_stream_gives_up_its_place_at_once() {
    run(async {
        let queue = Queue::with(&[PINGS], |_| sse(&chat_chunks(&["Hello"], None))).await;
        let mut gone = queue.join(CHAT, "gone", &stream_body()).await;
        assert!(gone.head().await.is_some());
        assert_eq!(chunk(&mut gone).await, PING);
        let left = Instant::now();
        drop(gone);
        until("its place is free", async || (queue.app.queued() == 0).then_some(())).await;
        let noticed = left.elapsed();
        println!("the place of a client that left was free after {noticed:?}");
        assert!(noticed < Duration::from_millis(200), "{noticed:?}");
        let row = queue.app.row("gone").await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
        assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")));
        assert_eq!(queue.upstream.seen().len(), 1);
        queue.stop().await;
    });
}

#[test]
fn a_client_that_leaves_after_the_grant_cancels_the_upstream_request() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let queue = Queue::with(&[PINGS], late(&gate, Vec::new())).await;
        let mut gone = queue.join(CHAT, "gone", &stream_body()).await;
        assert!(gone.head().await.is_some());
        queue.release();
        until("it is upstream", async || (queue.upstream.seen().len() == 2).then_some(())).await;
        drop(gone);
        until("the upstream was left", async || (queue.upstream.left() == 1).then_some(())).await;
        queue.app.idle().await;
        let row = queue.app.row("gone").await;
        assert_eq!((&row["status"], &row["usage_source"]), (&json!(499), &json!("estimated")));
        queue.stop().await;
    });
}
