//! What changed while a request waited holds for it too; and what waits is bounded.

use crate::support::{Caller, Gate, Stage, Step, TestApp, Upstream, chat_answer, json as answer, run, until};
use actix_web::http::Method;
use obleth_actors::fairshare::Fairshare;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// One slot that is taken, and one request of each of these callers behind it.
struct Waiting {
    app: TestApp,
    upstream: Upstream,
    gate: Gate,
    tenant: String,
    key: Value,
    first: actix_rt::task::JoinHandle<u16>,
    second: actix_rt::task::JoinHandle<(u16, String)>,
}

fn fairshare(app: &TestApp) -> &Fairshare {
    &app.running.gateway.handles.fairshare
}

async fn waiting() -> Waiting {
    let gate: Gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let script = move |_: &_| vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))];
    let upstream = Upstream::start(script).await;
    let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
    app.model("busy").await;
    app.model("m").await;
    let other = app.caller("other").await;
    let first = spawn_local(async move { other.chat("busy").await.status });
    until("the slot is taken", async || (upstream.seen().len() == 1).then_some(())).await;
    let tenant = app.tenant(json!({"name": "acme"})).await;
    let made = app.admin().post(&format!("/api/v1/tenants/{tenant}/keys"), &json!({"name": "k"})).await;
    let made = made.expect(201).json();
    let caller = app.client(made["secret"].as_str().unwrap());
    let second = spawn_local(async move {
        let answer = caller.chat("m").await;
        let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (answer.status, code)
    });
    until("the second waits", async || (fairshare(&app).dump()?.queued == 1).then_some(())).await;
    Waiting { app, upstream, gate, tenant, key: made["key"]["id"].clone(), first, second }
}

/// Makes `change` while a request waits, and says how that request ended.
async fn after(change: impl AsyncFnOnce(&Caller, &str, &str)) -> (u16, String) {
    let Waiting { app, upstream, gate, tenant, key, first, second } = waiting().await;
    change(&app.admin(), &tenant, key.as_str().unwrap()).await;
    gate.add_permits(2);
    assert_eq!(first.await.unwrap(), 200);
    let ended = second.await.unwrap();
    app.idle().await;
    let sent = if ended.0 == 200 { 2 } else { 1 };
    assert_eq!(upstream.seen().len(), sent, "a refused request never went upstream");
    assert_eq!(app.rows().await.len(), 2);
    app.stop().await;
    ended
}

#[test]
fn what_was_revoked_while_a_request_waited_holds_for_it() {
    run(async {
        let nothing = after(async |_, _, _| {}).await;
        assert_eq!(nothing, (200, String::new()));
        let disabled = after(async |admin, _, key| {
            admin.patch(&format!("/api/v1/keys/{key}"), &json!({"disabled": true})).await.expect(200);
        });
        assert_eq!(disabled.await, (403, "key_disabled".to_owned()));
        let deleted = after(async |admin, _, key| {
            admin.delete(&format!("/api/v1/keys/{key}")).await.expect(204);
        });
        assert_eq!(deleted.await, (403, "key_disabled".to_owned()));
        let narrowed = after(async |admin, tenant, _| {
            let none = json!({"allowed_models": []});
            admin.patch(&format!("/api/v1/tenants/{tenant}"), &none).await.expect(200);
        });
        assert_eq!(narrowed.await, (403, "model_not_allowed".to_owned()));
        let suspended = after(async |admin, tenant, _| {
            let status = json!({"status": "suspended"});
            admin.patch(&format!("/api/v1/tenants/{tenant}"), &status).await.expect(200);
        });
        assert_eq!(suspended.await, (403, "tenant_suspended".to_owned()));
        let off = after(async |admin, _, _| {
            admin.patch("/api/v1/models/m", &json!({"enabled": false})).await.expect(200);
        });
        assert_eq!(off.await, (403, "model_disabled".to_owned()));
        let gone = after(async |admin, _, _| {
            admin.delete("/api/v1/models/m").await.expect(204);
        });
        assert_eq!(gone.await, (404, "model_not_found".to_owned()));
    });
}

#[test]
fn request_bodies_are_bounded_all_together() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let script = move |_: &_| vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))];
        let upstream = Upstream::start(script).await;
        let limits = [("OBLETH_MAX_BODY_BYTES", "100000"), ("OBLETH_MAX_BUFFERED_BYTES", "150000")];
        let app = TestApp::with(&upstream, &limits).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let large = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(90_000)}]});
        let text = large.to_string();
        let request = caller.request(Method::POST, "/v1/chat/completions");
        let first = spawn_local(async move { Caller::send(request, text).await.status });
        until("the first is upstream", async || (upstream.seen().len() == 1).then_some(())).await;
        let refused = caller.post("/v1/chat/completions", &large).await.expect(503);
        assert_eq!(refused.error_code(), "overloaded");
        assert!(refused.header("retry-after").is_some());
        gate.add_permits(3);
        assert_eq!(first.await.unwrap(), 200);
        caller.post("/v1/chat/completions", &large).await.expect(200);
        app.idle().await;
        assert_eq!(app.running.gateway.buffered.load(std::sync::atomic::Ordering::SeqCst), 0);
        app.stop().await;
    });
}

#[test]
fn a_stream_that_says_why_it_ended_is_whole_without_a_terminator() {
    run(async {
        let event = r#"data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason": "stop"}]}"#;
        let stage = Stage::new().await;
        stage.play(crate::support::sse(&[format!("{event}\n\n")]));
        let (answer, row) = stage.stream().await;
        assert_eq!(answer.expect(200).text(), format!("{event}\n\n"));
        assert_eq!((&row["status"], &row["usage_source"]), (&json!(200), &json!("counted")));
        stage.stop().await;
    });
}

#[test]
fn after_its_terminator_a_stream_ends_even_if_the_upstream_does_not() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let mut script = crate::support::sse(&crate::support::chat_chunks(&["Hi"], Some((1, 1))));
        script.pop();
        script.push(Step::Wait(gate));
        let stage = Stage::new().await;
        stage.play(script);
        let (answer, _) = stage.stream().await;
        let answer = answer.expect(200);
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        stage.stop().await;
    });
}

#[test]
fn a_nul_is_refused_on_either_database() {
    run(async {
        let upstream = Upstream::always(answer(200, "{}")).await;
        let app = TestApp::start(&upstream).await;
        let admin = app.admin();
        for path in ["tenants/%00", "models/a%00", "groups/%00", "keys/%00", "usage/logs/%00"] {
            assert_eq!(admin.get(&format!("/api/v1/{path}")).await.expect(404).error_code(), "not_found");
        }
        for path in ["usage/logs?model=%00", "usage/logs?session_id=a%00b", "keys?cursor=AAAA"] {
            assert_eq!(
                admin.get(&format!("/api/v1/{path}")).await.expect(400).error_code(),
                "invalid_request"
            );
        }
        let model = json!({"model_name": "m", "description": "a\u{0}b"});
        let refused = admin.post("/api/v1/models", &model).await.expect(400);
        assert_eq!(refused.json()["error"]["param"], "description");
        app.stop().await;
    });
}
