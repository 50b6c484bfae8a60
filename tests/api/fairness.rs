//! Caps and refusals as clients meet them. Shares are judged in `shares`.

use crate::support::{Caller, Gate, Mock, Step, TestApp, Upstream, chat_answer, run, until};
use futures_util::future::join_all;
use obleth::mock::MockOptions;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

fn paced(token_millis: u64) -> Mock {
    let token = Duration::from_millis(token_millis);
    Mock::start(MockOptions { token, tokens: 40, workers: 1, ..MockOptions::default() })
}

fn chat(max_tokens: u32) -> Value {
    json!({"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello"}]})
}

async fn eight_slots(mock: &Mock) -> TestApp {
    let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "8")]).await;
    app.model("m").await;
    app
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
