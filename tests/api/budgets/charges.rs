//! What a request is charged in the end, whatever the end.

use super::{Limited, chat, prompt_bound, total};
use crate::support::{
    Caller, Gate, Queue, Socket, Step, Upstream, chat_answer, chat_chunks, json as answer, post, run, sse,
    stream_body, until,
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a tenant is charged for one request that the upstream answers by `script`.
async fn charged(script: Vec<Step>, streamed: bool) -> (u64, Value) {
    let upstream = Upstream::start(move |_| script.clone()).await;
    let limited = Limited::new(
        &upstream,
        json!({"requests_per_minute": 10, "budgets": [{"period": "day", "max_tokens": 10_000}]}),
    )
    .await;
    let mut body = chat(100);
    body["stream"] = json!(streamed);
    limited.caller.post("/v1/chat/completions", &body).await;
    limited.app.idle().await;
    let (used, _) = limited.tokens().await;
    let row = limited.app.rows().await.remove(0);
    let recorded = row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
    assert_eq!(used, recorded, "the budget says what the ledger says");
    let requests = limited.budget().await["minute"]["requests"]["remaining"].clone();
    limited.stop().await;
    (used, requests)
}

#[test]
fn an_answer_is_charged_what_the_upstream_says() {
    run(async {
        assert_eq!(charged(vec![Step::Send(chat_answer(30, 12))], false).await, (42, json!(9)));
        assert_eq!(charged(sse(&chat_chunks(&["Hello"], Some((30, 12)))), true).await, (42, json!(9)));
    });
}

#[test]
fn a_failure_of_the_upstream_costs_nothing_and_is_no_request() {
    run(async {
        assert_eq!(charged(vec![Step::Send(answer(500, "{}"))], false).await, (0, json!(10)));
        assert_eq!(charged(vec![Step::Close], false).await, (0, json!(10)));
        let whole = chat_answer(5, 5);
        let cut = vec![Step::Send(whole.slice(..whole.len() - 9)), Step::Close];
        assert_eq!(charged(cut, false).await, (0, json!(10)));
        // A mistake of the client is one.
        assert_eq!(charged(vec![Step::Send(answer(400, "{}"))], false).await, (0, json!(9)));
    });
}

#[test]
fn a_cut_stream_is_charged_what_was_streamed_and_never_more_than_it_may() {
    run(async {
        let cut = |words: &[&str]| {
            let mut steps = sse(&chat_chunks(words, None));
            steps.truncate(1 + words.len());
            steps.push(Step::Reset);
            steps
        };
        // The prompt is estimated at two tokens; 24 bytes of text make six.
        assert_eq!(charged(cut(&["eight by", "eight by", "eight by"]), true).await, (8, json!(9)));
        let long = "x".repeat(4_000);
        assert_eq!(charged(cut(&[&long]), true).await, (102, json!(9)));
    });
}

#[test]
fn who_leaves_in_the_queue_or_waits_too_long_gets_everything_back() {
    run(async {
        let queue = Queue::with(&[("OBLETH_ADMISSION_TIMEOUT_SECS", "1")], |_| vec![]).await;
        let limits = json!({"tokens_per_minute": 10_000, "requests_per_minute": 10, "budgets": [{"period": "day", "max_tokens": 1_000}]});
        let path = format!("/api/v1/tenants/{}", queue.tenant);
        queue.app.admin().patch(&path, &limits).await.expect(200);
        let budget = async || queue.app.admin().get(&format!("{path}/budget")).await.expect(200).json();
        let leaving = queue.join("/v1/chat/completions", "leaving", &stream_body()).await;
        let held = budget().await;
        assert_eq!(held["minute"]["requests"]["remaining"], 9);
        assert!(held["usage"]["day"]["reserved_tokens"].as_u64().unwrap() > 64, "{held}");
        assert_eq!(held["budgets"][0]["tokens"]["reserved"], held["usage"]["day"]["reserved_tokens"]);
        drop(leaving);
        let untouched = |now: &Value| {
            now["usage"]["day"]["reserved_tokens"] == 0
                && now["usage"]["total"]["tokens"] == 0
                && now["minute"]["requests"]["remaining"] == 10
                && now["minute"]["tokens"]["remaining"] == 10_000
        };
        until("it is given back", async || untouched(&budget().await).then_some(())).await;
        let answer = queue.caller.chat("m").await.expect(503);
        assert_eq!(answer.error_code(), "admission_timeout");
        assert!(untouched(&budget().await));
        queue.stop().await;
    });
}

#[test]
fn who_leaves_a_stream_is_charged_what_came_and_who_leaves_before_it_the_prompt() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let upstream = Upstream::start(move |seen| {
            let mut steps = sse(&chat_chunks(&["eight by eight by"], None));
            steps.truncate(if seen.header("x-request-id") == Some("silent") { 0 } else { 2 });
            steps.push(Step::Wait(Arc::clone(&gate)));
            steps
        })
        .await;
        let limited = Limited::new(&upstream, total(10_000)).await;
        let key = limited.caller.credential.clone().unwrap();
        let proxy = limited.app.running.proxy;
        let mut body = chat(100);
        body["stream"] = json!(true);
        let mut stream = Socket::sent(proxy, &post("/v1/chat/completions", &key, "streaming", &body)).await;
        stream.head().await.unwrap();
        stream.chunk().await.unwrap();
        drop(stream);
        limited.app.idle().await;
        // Two of the prompt, five for seventeen bytes.
        assert_eq!(limited.tokens().await, (7, 0));
        let silent = Socket::sent(proxy, &post("/v1/chat/completions", &key, "silent", &body)).await;
        until("it is upstream", async || (upstream.seen().len() == 2).then_some(())).await;
        drop(silent);
        limited.app.idle().await;
        assert_eq!(limited.tokens().await, (9, 0));
        limited.stop().await;
    });
}

#[test]
fn who_leaves_before_an_answer_that_comes_as_a_whole_is_charged_what_it_may_have_become() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let upstream = Upstream::start(move |_| vec![Step::Wait(Arc::clone(&gate))]).await;
        let body = chat(100);
        // A hard budget must not be passed: the most it can be. Otherwise what is expected: 256 tokens at first, here
        // cut to the bound.
        for (limits, used) in [(total(10_000), prompt_bound(&body) + 100), (json!({}), 102)] {
            let limited = Limited::new(&upstream, limits).await;
            let key = limited.caller.credential.clone().unwrap();
            let before = upstream.seen().len();
            let text = post("/v1/chat/completions", &key, "leaves", &body);
            let leaves = Socket::sent(limited.app.running.proxy, &text).await;
            until("it is upstream", async || (upstream.seen().len() > before).then_some(())).await;
            drop(leaves);
            limited.app.idle().await;
            assert_eq!(limited.tokens().await, (used, 0));
            let row = limited.app.row("leaves").await;
            assert_eq!((&row["status"], &row["usage_source"]), (&json!(499), &json!("estimated")));
            let recorded = row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
            assert_eq!(recorded, used);
            limited.stop().await;
        }
    });
}

#[test]
fn some_calls_take_nothing() {
    run(async {
        let upstream = Upstream::always(answer(200, r#"{"input_tokens":5}"#)).await;
        let limits = json!({"requests_per_minute": 1, "budgets": [{"period": "total", "max_tokens": 0}]});
        let limited = Limited::new(&upstream, limits).await;
        limited.caller.post("/v1/messages/count_tokens", &chat(1)).await.expect(200);
        limited.caller.get("/v1/models").await.expect(200);
        limited.caller.get("/v1/limits").await.expect(200);
        assert_eq!(limited.budget().await["minute"]["requests"]["remaining"], 1);
        // A budget of nothing lets nothing pass.
        let refused = limited.chat(1).await.expect(402);
        let row = limited.app.row(refused.header("x-request-id").unwrap()).await;
        assert_eq!(
            (&row["admission"], &row["error_code"], &row["cost_usd"]),
            (&json!("rejected"), &json!("budget_exhausted"), &json!("0"))
        );
        assert!(upstream.seen().len() == 1, "only the count went upstream");
        limited.stop().await;
    });
}

#[test]
fn a_contained_fault_loses_no_hold() {
    run(async {
        let upstream = Upstream::always(chat_answer(3, 4)).await;
        let limited = Limited::new(&upstream, total(10_000)).await;
        let budget = &limited.app.running.gateway.handles.budget;
        let tenant = limited.tenant.parse().unwrap();
        for late in [false, true] {
            budget.plant_fault(tenant, late);
            let answer = limited.chat(10).await.expect(503);
            assert_eq!(answer.error_code(), "restarting");
            assert_eq!(limited.tokens().await.1, 0);
        }
        limited.chat(10).await.expect(200);
        assert_eq!(limited.tokens().await, (7, 0));
        assert_eq!(budget.restarts(), 2);
        budget.crash().unwrap();
        until("the actor is started again", async || (budget.restarts() == 3).then_some(())).await;
        limited.chat(10).await.expect(200);
        assert_eq!(limited.tokens().await, (14, 0));
        limited.stop().await;
    });
}

#[test]
fn estimates_learn_from_what_the_upstream_says() {
    run(async {
        // Two bytes a token.
        let upstream = Upstream::start(|seen| {
            let text = seen.json()["messages"][0]["content"].as_str().unwrap().len();
            vec![Step::Send(chat_answer(u64::try_from(text).unwrap() / 2, 1))]
        })
        .await;
        let limited =
            Limited::new(&upstream, json!({"budgets": [{"period": "day", "max_tokens": 1, "hard": false}]}))
                .await;
        let text = "word ".repeat(2_000);
        let body = json!({"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": text}]});
        let estimate = async |caller: &Caller| {
            let answer = caller.post("/v1/chat/completions", &body).await.expect(200);
            limited.app.row(answer.header("x-request-id").unwrap()).await["estimated_tokens"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(estimate(&limited.caller).await, 2_500 + 16);
        for _ in 0..40 {
            estimate(&limited.caller).await;
        }
        let learned = estimate(&limited.caller).await;
        assert!(learned.abs_diff(5_000) < 100, "{learned}");
        limited.stop().await;
    });
}
