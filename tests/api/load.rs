//! Streams under load: whole, untouched, and on their way as soon as they are there.

use crate::support::{Dice, Gate, Socket, Step, TestApp, Upstream, chat_chunks, post, run, sse};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::timeout;

const STALLED: Duration = Duration::from_secs(10);
const WORDS: [&str; 6] = ["a", "Hello", " wörld", "\\n", "data: [DONE]", "{\\\"usage\\\":1}"];

/// The events of the stream with this number: the same each time.
fn events(number: u64) -> Vec<String> {
    let mut dice = Dice::new(number);
    let words: Vec<&str> = (0..=dice.below(40)).map(|_| WORDS[dice.below(6) as usize]).collect();
    chat_chunks(&words, Some((number, words.len() as u64)))
}

fn streaming(number: u64) -> Value {
    json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "seed": number,
           "messages": [{"role": "user", "content": "Hello"}]})
}

#[test]
fn two_hundred_streams_at_once_arrive_byte_for_byte() {
    run(async {
        let upstream = Upstream::start(|seen| sse(&events(seen.json()["seed"].as_u64().unwrap()))).await;
        let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "50")]).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let streams = (0..200).map(|number| {
            let caller = caller.clone();
            async move {
                let answer = caller.post("/v1/chat/completions", &streaming(number)).await.expect(200);
                assert_eq!(answer.text(), events(number).concat(), "stream {number}");
            }
        });
        join_all(streams).await;
        app.idle().await;
        let rows = app.all_rows().await;
        assert_eq!(rows.len(), 200);
        let output: i64 = rows.iter().map(|row| row["output_tokens"].as_i64().unwrap()).sum();
        let sent: usize = (0..200).map(|number| events(number).len() - 2).sum();
        assert_eq!(output, sent as i64);
        assert!(rows.iter().all(|row| row["status"] == 200 && row["usage_source"] == "upstream"));
        app.stop().await;
    });
}

/// A stream that waits at `gate` before each event but the first.
fn gated(events: &[String], gate: &Gate) -> Vec<Step> {
    let mut steps = Vec::new();
    for (place, step) in sse(events).into_iter().enumerate() {
        // The head, the first event, then the others; the last chunk ends the body.
        if place > 1 {
            steps.push(Step::Wait(Arc::clone(gate)));
        }
        steps.push(step);
    }
    steps
}

#[test]
fn each_chunk_leaves_before_the_next_one_exists() {
    run(async {
        let events = chat_chunks(&["one", " two", " three", " four"], None);
        let gate: Gate = Arc::new(Semaphore::new(0));
        let (sent, own) = (events.clone(), Arc::clone(&gate));
        let upstream = Upstream::start(move |_| gated(&sent, &own)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        let mut raw =
            Socket::sent(app.running.proxy, &post("/v1/chat/completions", &key, "r1", &streaming(1))).await;
        let head = timeout(STALLED, raw.head()).await.expect("the head leaves with the first chunk");
        assert!(head.unwrap().starts_with("http/1.1 200"));
        for event in &events {
            let chunk = timeout(STALLED, raw.chunk()).await.expect("the chunk leaves at once").unwrap();
            assert_eq!(String::from_utf8(chunk).unwrap(), *event);
            gate.add_permits(1);
        }
        assert_eq!(timeout(STALLED, raw.chunk()).await.unwrap(), Some(Vec::new()));
        app.stop().await;
    });
}

#[test]
fn chunks_on_a_kept_connection_are_not_held_back_by_nagle() {
    run(async {
        let events = chat_chunks(&["one", " two", " three"], None);
        let gate: Gate = Arc::new(Semaphore::new(0));
        let (sent, own) = (events.clone(), Arc::clone(&gate));
        let upstream = Upstream::start(move |_| gated(&sent, &own)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        let mut raw = Socket::connect(app.running.proxy).await;
        let mut waits = Vec::new();
        for number in 0..21 {
            raw.send(&post("/v1/chat/completions", &key, &format!("r{number}"), &streaming(1))).await;
            let mut asked = Instant::now();
            raw.head().await.unwrap();
            for _ in &events {
                raw.chunk().await.unwrap();
                waits.push(asked.elapsed());
                asked = Instant::now();
                gate.add_permits(1);
            }
            assert_eq!(raw.chunk().await, Some(Vec::new()));
        }
        // The first request pays for connections.
        waits.drain(..events.len());
        waits.sort();
        let median = waits[waits.len() / 2];
        println!("median time to a chunk on a kept connection: {median:?}, longest {:?}", waits.last());
        assert!(median < Duration::from_millis(20), "{median:?}: Nagle's delay is 40 ms");
        assert_eq!(upstream.connections(), 1, "the upstream's connection is kept too");
        app.stop().await;
    });
}
