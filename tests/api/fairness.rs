//! Shares, caps and refusals as clients meet them.

use crate::support::{Caller, Gate, Mock, Step, TestApp, Upstream, chat_answer, run, until};
use futures_util::future::{AbortHandle, abortable, join_all};
use obleth::mock::MockOptions;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Rows that pass before the window opens, and in the window.
const RAMP: u64 = 120;
const WINDOW: u64 = 800;

fn paced(token_millis: u64) -> Mock {
    let token = Duration::from_millis(token_millis);
    Mock::start(MockOptions { token, tokens: 40, workers: 1, ..MockOptions::default() })
}

fn chat(max_tokens: u32) -> Value {
    json!({"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello"}]})
}

/// Sends one request after the other on each of so many connections until it is aborted.
fn flood(caller: &Caller, connections: usize, max_tokens: u32) -> Vec<AbortHandle> {
    (0..connections)
        .map(|_| {
            let caller = caller.clone();
            let (work, handle) = abortable(async move {
                loop {
                    caller.post("/v1/chat/completions", &chat(max_tokens)).await.expect(200);
                }
            });
            actix_rt::spawn(work);
            handle
        })
        .collect()
}

/// Tokens by group in the ledger.
async fn served(app: &TestApp, by: &str) -> BTreeMap<String, i64> {
    let path = format!("/api/v1/usage/summary?group_by={by}");
    let lines = app.admin().get(&path).await.expect(200).json();
    let line = |line: &Value| {
        let tokens = line["input_tokens"].as_i64().unwrap() + line["output_tokens"].as_i64().unwrap();
        (line["group"].as_str().unwrap().to_owned(), tokens)
    };
    lines["data"].as_array().unwrap().iter().map(line).collect()
}

async fn rows_reach(app: &TestApp, rows: u64) {
    let accounting = &app.running.gateway.handles.accounting;
    until("requests are served", async || (accounting.counts().received >= rows).then_some(())).await;
}

/// The share of `first` in what it and `second` were served in the window, both waiting all along.
async fn share(app: &TestApp, first: &str, second: &str) -> f64 {
    rows_reach(app, RAMP).await;
    let before = served(app, "tenant").await;
    let start = app.running.gateway.handles.accounting.counts().received;
    let begun = Instant::now();
    rows_reach(app, start + WINDOW).await;
    let after = served(app, "tenant").await;
    let got = |tenant: &str| (after[tenant] - before.get(tenant).copied().unwrap_or(0)) as f64;
    let share = got(first) / (got(first) + got(second));
    println!("share {:.2} % of {} tokens in {:?}", share * 100.0, got(first) + got(second), begun.elapsed());
    share
}

async fn tenant(app: &TestApp, name: &str, weight: u32) -> (String, Caller) {
    let id = app.tenant(json!({"name": name, "weight": weight})).await;
    let key = app.key(&id, json!({"name": name})).await;
    (id, app.client(&key))
}

async fn eight_slots(mock: &Mock) -> TestApp {
    let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "8")]).await;
    app.model("m").await;
    app
}

#[test]
fn equal_tenants_get_equal_tokens_however_many_connections_they_open() {
    run(async {
        let mock = paced(1);
        let app = eight_slots(&mock).await;
        let (modest, its) = tenant(&app, "modest", 100).await;
        let (greedy, theirs) = tenant(&app, "greedy", 100).await;
        // Answers of different length, too: shares are of tokens, not of requests.
        let mut floods = flood(&its, 8, 40);
        floods.extend(flood(&theirs, 64, 20));
        let share = share(&app, &modest, &greedy).await;
        floods.iter().for_each(AbortHandle::abort);
        assert!((share - 0.5).abs() <= 0.02, "{share}");
        app.idle().await;
        app.stop().await;
        mock.stop().await;
    });
}

#[test]
fn weights_of_ten_to_one_share_tokens_ten_to_one() {
    run(async {
        let mock = paced(1);
        let app = eight_slots(&mock).await;
        let (heavy, its) = tenant(&app, "heavy", 1000).await;
        let (light, theirs) = tenant(&app, "light", 100).await;
        let mut floods = flood(&its, 24, 30);
        floods.extend(flood(&theirs, 24, 30));
        let share = share(&app, &heavy, &light).await;
        floods.iter().for_each(AbortHandle::abort);
        assert!((share * 11.0 / 10.0 - 1.0).abs() <= 0.05, "{share}");
        app.idle().await;
        app.stop().await;
        mock.stop().await;
    });
}

/// Sends 60 requests at once; the most that ran upstream at a time.
async fn peak(app: &TestApp, mock: &Mock, callers: &[Caller]) -> u64 {
    let requests = (0..60).map(|number| {
        let caller = callers[number % callers.len()].clone();
        async move { caller.post("/v1/chat/completions", &chat(10)).await.expect(200) }
    });
    join_all(requests).await;
    app.idle().await;
    mock.stats().await["peak_running"].as_u64().unwrap()
}

#[test]
fn a_tenants_cap_bounds_what_runs_of_it() {
    run(async {
        let mock = paced(1);
        let app = eight_slots(&mock).await;
        let id = app.tenant(json!({"name": "capped", "max_in_flight": 3})).await;
        let keys = [app.key(&id, json!({"name": "a"})).await, app.key(&id, json!({"name": "b"})).await];
        let callers: Vec<Caller> = keys.iter().map(|key| app.client(key)).collect();
        assert_eq!(peak(&app, &mock, &callers).await, 3);
        app.stop().await;
        mock.stop().await;
    });
}

#[test]
fn a_models_cap_bounds_what_runs_on_it() {
    run(async {
        let mock = paced(1);
        let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "8")]).await;
        app.model_with(json!({"model_name": "m", "max_in_flight": 2})).await;
        let callers = [app.caller("one").await, app.caller("two").await];
        assert_eq!(peak(&app, &mock, &callers).await, 2);
        app.stop().await;
        mock.stop().await;
    });
}

#[test]
fn a_keys_cap_bounds_what_runs_with_it() {
    run(async {
        let mock = paced(1);
        let app = eight_slots(&mock).await;
        let id = app.tenant(json!({"name": "acme"})).await;
        let key = app.key(&id, json!({"name": "capped", "max_in_flight": 2})).await;
        assert_eq!(peak(&app, &mock, &[app.client(&key)]).await, 2);
        app.stop().await;
        mock.stop().await;
    });
}

#[test]
fn the_slots_bound_what_runs_and_all_of_them_are_used() {
    run(async {
        let mock = paced(1);
        let app = eight_slots(&mock).await;
        let callers = [app.caller("one").await, app.caller("two").await];
        assert_eq!(peak(&app, &mock, &callers).await, 8);
        app.stop().await;
        mock.stop().await;
    });
}

/// An upstream that answers when the gate lets it.
async fn held() -> (Upstream, Gate) {
    let gate: Gate = Arc::new(Semaphore::new(0));
    let own = Arc::clone(&gate);
    let script = move |_: &_| vec![Step::Wait(Arc::clone(&own)), Step::Send(chat_answer(1, 1))];
    (Upstream::start(script).await, gate)
}

/// `retry-after`, which lies between 1 and 60 s.
fn assert_retry_after(answer: &crate::support::Answer) {
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[test]
fn a_tenant_whose_queue_is_full_is_refused_and_others_are_not() {
    run(async {
        let (upstream, gate) = held().await;
        let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        app.model("m").await;
        let id = app.tenant(json!({"name": "short", "max_queued": 2})).await;
        let short = app.client(&app.key(&id, json!({"name": "k"})).await);
        let other = app.caller("other").await;
        let mut waiting = Vec::new();
        for queued in 0..3 {
            let own = short.clone();
            waiting.push(actix_rt::spawn(async move { own.chat("m").await }));
            until("it runs or waits", async || {
                (app.running.gateway.running() == queued + 1 && app.queued() as usize == queued).then_some(())
            })
            .await;
        }
        let refused = short.chat("m").await.expect(429);
        assert_eq!(refused.error_code(), "tenant_queue_full");
        assert_retry_after(&refused);
        let row = app.row(refused.header("x-request-id").unwrap()).await;
        assert_eq!((&row["admission"], &row["status"]), (&json!("rejected"), &json!(429)));
        waiting.push(actix_rt::spawn(async move { other.chat("m").await }));
        gate.add_permits(10);
        for answer in waiting {
            let answer = answer.await.unwrap().expect(200);
            assert!(matches!(answer.header("x-obleth-admission"), Some("fast" | "queued")));
        }
        app.stop().await;
    });
}

#[test]
fn a_request_that_gets_no_slot_in_time_is_refused_in_time() {
    run(async {
        let (upstream, gate) = held().await;
        let limits = [("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1"), ("OBLETH_ADMISSION_TIMEOUT_SECS", "1")];
        let app = TestApp::with(&upstream, &limits).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let own = caller.clone();
        let first = actix_rt::spawn(async move { own.chat("m").await });
        until("the first is upstream", async || (!upstream.seen().is_empty()).then_some(())).await;
        let asked = Instant::now();
        let refused = join_all((0..20).map(|_| caller.chat("m"))).await;
        let waited = asked.elapsed();
        println!("20 admission timeouts of 1 s after {waited:?}");
        assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(3), "{waited:?}");
        for answer in refused {
            let answer = answer.expect(503);
            assert_eq!(answer.error_code(), "admission_timeout");
            assert_retry_after(&answer);
            // The deadline counts from the arrival, the wait from the queue.
            let queued: u64 = answer.header("x-obleth-queue-ms").unwrap().parse().unwrap();
            assert!((900..3000).contains(&queued), "{queued}");
        }
        gate.add_permits(1);
        first.await.unwrap().expect(200);
        app.stop().await;
    });
}
