//! `server-timing`: how long the stages took, on every kind of answer, as far as it is known with its head.

use crate::support::{
    Answer, Queue, Stage, Step, TestApp, chat_answer, chat_chunks, hang, json as answer, run, sse,
    stream_body, until,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The times of an answer in ms, in their order.
fn times(answer: &Answer) -> Vec<(String, f64)> {
    let text = answer.header("server-timing").expect("server-timing");
    let one = |part: &str| {
        let (name, span) = part.split_once(";dur=").unwrap();
        assert!(span.split('.').nth(1).is_none_or(|decimals| decimals.len() <= 3), "{text}");
        (name.to_owned(), span.parse().unwrap())
    };
    text.split(", ").map(one).collect()
}

fn names(answer: &Answer) -> Vec<String> {
    times(answer).into_iter().map(|(name, _)| name).collect()
}

async fn overhead(app: &TestApp) -> f64 {
    let text = app.metrics().await;
    let line = |line: &str| line.strip_prefix("obleth_gateway_overhead_seconds_sum ").map(str::to_owned);
    text.lines().find_map(line).expect("the sum").parse().unwrap()
}

#[test]
fn every_answer_has_the_times_of_the_stages_it_reached() {
    run(async {
        let stage = Stage::new().await;
        for (steps, body, status) in [
            (vec![Step::Send(chat_answer(1, 1))], json!({"model": "m", "messages": []}), 200),
            (sse(&chat_chunks(&["Hello"], None)), stream_body(), 200),
            (vec![Step::Send(answer(429, r#"{"error":{}}"#))], stream_body(), 429),
            (vec![Step::Close], stream_body(), 502),
        ] {
            stage.play(steps);
            let answer = stage.caller.post("/v1/chat/completions", &body).await.expect(status);
            let names = names(&answer);
            let known = |name: &String| ["auth", "cache", "budget", "queue", "upstream"].contains(&&**name);
            assert!(names.iter().all(known), "{names:?}");
            assert_eq!(names.first().map(String::as_str), Some("auth"));
            assert!(names.ends_with(&["queue".to_owned(), "upstream".to_owned()]), "{names:?}");
        }
        let unknown = stage.caller.chat("none").await.expect(404);
        assert_eq!(names(&unknown), ["auth"]);
        let stranger = stage.app.client("sk_nobody").chat("m").await.expect(401);
        assert_eq!(names(&stranger), ["auth"]);
        stage.stop().await;
    });
}

#[test]
fn a_wait_in_the_queue_is_told_and_is_not_the_gateways_own_time() {
    run(async {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let queue =
            Queue::with(&[], move |_| vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))])
                .await;
        let caller = queue.caller.clone();
        let waiting = actix_rt::spawn(async move { caller.chat("m").await });
        until("it waits", async || (queue.app.queued() == 1).then_some(())).await;
        queue.release();
        until("it is upstream", async || (queue.upstream.seen().len() == 2).then_some(())).await;
        gate.add_permits(1);
        let answer = waiting.await.unwrap().expect(200);
        let times: BTreeMap<_, _> = times(&answer).into_iter().collect();
        assert!(times["queue"] > 0.0, "{times:?}");
        assert_eq!(answer.header("x-obleth-queue-ms"), Some((times["queue"] as u64).to_string().as_str()));
        queue.stop().await;
    });
}

#[test]
fn neither_queue_nor_upstream_is_the_gateways_own_time() {
    run(async {
        let queue = Queue::with(&[], |_| vec![hang()]).await;
        let before = overhead(&queue.app).await;
        let late = queue.caller.request(actix_web::http::Method::POST, "/v1/chat/completions");
        let late = late.insert_header(("x-obleth-deadline-ms", "700"));
        let body = json!({"model": "m", "messages": []}).to_string();
        let refused = crate::support::Caller::send(late, body).await.expect(503);
        let waited = times(&refused).into_iter().find(|(name, _)| name == "queue").unwrap().1;
        assert!(waited > 600.0, "{waited}");
        let own = (overhead(&queue.app).await - before) * 1000.0;
        assert!(own > 0.0 && own < waited / 2.0, "{own} ms of its own beside {waited} ms in the queue");
        // The holder of the slot was upstream all that time.
        queue.release();
        until("it has ended", async || (queue.app.in_flight() == 0).then_some(())).await;
        queue.app.idle().await;
        let both = (overhead(&queue.app).await - before) * 1000.0;
        assert!(both > own && both < waited / 2.0, "{both} ms beside {waited} ms upstream");
        queue.stop().await;
    });
}
