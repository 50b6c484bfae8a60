//! Clients that leave: their places and seats are free at once, their upstream calls end, the ledger knows.

use crate::support::{
    Dice, Gate, Seen, Socket, Step, TestApp, Upstream, chat_answer, chat_chunks, post, run,
};
use crate::support::{sse, until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// A gate that never opens.
fn closed() -> Gate {
    Arc::new(Semaphore::new(0))
}

/// What the upstream does, as the request's `plan` says. Only `whole` and `answer` come to their end.
fn script(seen: &Seen) -> Vec<Step> {
    let plan = seen.json()["plan"].as_str().unwrap().to_owned();
    let mut stream = sse(&chat_chunks(&["Hello", " there", " you"], Some((5, 3))));
    match plan.as_str() {
        "silent" => vec![Step::Wait(closed())],
        "stream" => {
            stream.truncate(3);
            stream.push(Step::Wait(closed()));
            stream
        }
        "half" => {
            let answer = chat_answer(5, 3);
            vec![Step::Send(answer.slice(..answer.len() - 20)), Step::Wait(closed())]
        }
        "whole" => stream,
        _ => vec![Step::Send(chat_answer(5, 3))],
    }
}

const PLANS: [&str; 5] = ["silent", "stream", "half", "whole", "answer"];

fn body(plan: &str) -> Value {
    let stream = matches!(plan, "stream" | "whole");
    json!({"model": "m", "plan": plan, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
}

/// Sends a request and leaves at a moment of the dice.
async fn come_and_leave(app: &TestApp, key: &str, number: u64, mut dice: Dice) -> (String, &'static str) {
    let plan = PLANS[dice.below(5) as usize];
    let request_id = format!("leaver-{number}");
    let text = post("/v1/chat/completions", key, &request_id, &body(plan));
    let mut raw = Socket::connect(app.running.proxy).await;
    let half = dice.below(10) == 0;
    if half {
        raw.send(&text[..text.len() - 10]).await;
    } else {
        raw.send(&text).await;
    }
    for _ in 0..dice.below(400) {
        yield_now().await;
    }
    if plan == "stream" && !half && dice.below(2) == 0 {
        raw.answers().await;
    }
    (request_id, plan)
}

#[test]
fn a_thousand_clients_that_leave_at_any_moment_leave_nothing_behind() {
    const SEED: u64 = 7;
    println!("seed {SEED}");
    run(async {
        let upstream = Upstream::start(script).await;
        let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "30")]).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let key = caller.credential.clone().unwrap();
        let mut plans = BTreeMap::new();
        for round in 0..20 {
            let numbers = round * 50..(round + 1) * 50;
            let clients = numbers.map(|n| come_and_leave(&app, &key, n, Dice::new(SEED * 10_000 + n)));
            plans.extend(join_all(clients).await);
        }
        app.idle().await;
        assert_eq!(app.queued(), 0);
        let endless = |seen: &&Seen| !matches!(seen.json()["plan"].as_str(), Some("whole" | "answer"));
        until("the upstream sees each call cancelled", async || {
            (upstream.left() >= upstream.seen().iter().filter(endless).count()).then_some(())
        })
        .await;
        check_rows(&app, &upstream, &plans).await;
        assert_eq!(caller.post("/v1/chat/completions", &body("answer")).await.status, 200);
        app.stop().await;
    });
}

/// One row for each request the upstream saw, none twice, and only endings that can have been.
async fn check_rows(app: &TestApp, upstream: &Upstream, plans: &BTreeMap<String, &'static str>) {
    let rows = app.all_rows().await;
    let mut noted = BTreeSet::new();
    let mut endings: BTreeMap<(String, String), u32> = BTreeMap::new();
    for row in &rows {
        let id = row["request_id"].as_str().unwrap();
        assert!(noted.insert(id.to_owned()), "{id} has two rows");
        let plan = plans[id];
        let status = row["status"].as_u64().unwrap();
        let finished = status == 200 && matches!(plan, "whole" | "answer");
        assert!(finished || (status == 499 && row["error_code"] == "client_left"), "{plan}: {row}");
        let admission = row["admission"].as_str().unwrap().to_owned();
        *endings.entry((admission, status.to_string())).or_default() += 1;
    }
    println!("{} rows of {} requests: {endings:?}", rows.len(), plans.len());
    for seen in upstream.seen() {
        assert!(noted.contains(seen.header("x-request-id").unwrap()), "a call without a row");
    }
    assert!(rows.len() > 500, "most requests were read before their client left: {}", rows.len());
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place() {
    run(async {
        let gate = closed();
        let own = Arc::clone(&gate);
        let upstream =
            Upstream::start(move |_| vec![Step::Wait(Arc::clone(&own)), Step::Send(chat_answer(1, 1))]).await;
        let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        let text = |id: &str| post("/v1/chat/completions", &key, id, &body("answer"));
        let mut first = Socket::sent(app.running.proxy, &text("first")).await;
        until("the first is upstream", async || (!upstream.seen().is_empty()).then_some(())).await;
        let leaver = Socket::sent(app.running.proxy, &text("leaver")).await;
        until("the leaver waits", async || (app.queued() == 1).then_some(())).await;
        let mut last = Socket::sent(app.running.proxy, &text("last")).await;
        until("the last waits", async || (app.queued() == 2).then_some(())).await;
        let left = Instant::now();
        drop(leaver);
        until("the place is free", async || (app.queued() == 1).then_some(())).await;
        println!("a place in the queue is free {:?} after its client left", left.elapsed());
        gate.add_permits(2);
        assert!(first.head().await.unwrap().starts_with("http/1.1 200"));
        assert!(last.head().await.unwrap().starts_with("http/1.1 200"));
        assert_eq!(upstream.seen().len(), 2, "the leaver's request never went upstream");
        let row = app.row("leaver").await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
        assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")));
        app.stop().await;
    });
}

#[test]
fn a_client_that_leaves_ends_its_upstream_call_quickly() {
    run(async {
        let upstream = Upstream::start(script).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        for plan in ["silent", "stream", "half"] {
            let mut longest = Duration::ZERO;
            for number in 0..20 {
                let (seen, left) = (upstream.seen().len(), upstream.left());
                let id = format!("{plan}-{number}");
                let text = post("/v1/chat/completions", &key, &id, &body(plan));
                let mut raw = Socket::sent(app.running.proxy, &text).await;
                until("the call is upstream", async || (upstream.seen().len() > seen).then_some(())).await;
                if plan == "stream" {
                    assert!(raw.answers().await);
                }
                let leaving = Instant::now();
                drop(raw);
                until("the upstream sees it", async || (upstream.left() > left).then_some(())).await;
                longest = longest.max(leaving.elapsed());
                app.idle().await;
                let row = app.row(&id).await;
                assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
                // The upstream has worked: the estimate stands, or what was counted.
                assert!(row["input_tokens"].as_i64().unwrap() > 0, "{row}");
            }
            println!("{plan}: the upstream call ends at most {longest:?} after the client left");
            assert!(longest < Duration::from_secs(1), "{plan}: {longest:?}");
        }
        app.stop().await;
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_has_left_and_is_not_at_fault() {
    run(async {
        let upstream = Upstream::start(script).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let key = app.caller("acme").await.credential.unwrap();
        let text = post("/v1/chat/completions", &key, "half", &body("answer"));
        let raw = Socket::sent(app.running.proxy, &text[..text.len() - 10]).await;
        until("the request runs", async || (app.running.gateway.running() == 1).then_some(())).await;
        drop(raw);
        app.idle().await;
        let row = app.row("half").await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
        assert!(upstream.seen().is_empty());
        app.stop().await;
    });
}
