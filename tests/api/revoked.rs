//! Who may not send any more loses what waits in the queue at once; what runs finishes.

use crate::support::{Caller, Gate, Step, TestApp, Upstream, chat_answer, run, until};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// One slot, held by a request of the caller itself, with another one behind it. `change` is made; the second
/// is answered while the first still runs, and the first is answered in full after it.
async fn after(change: impl AsyncFnOnce(&Caller, &str, &str)) -> (u16, String) {
    let gate: Gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let script = move |_: &_| vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))];
    let upstream = Upstream::start(script).await;
    let app = TestApp::with(&upstream, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
    app.model("m").await;
    let tenant = app.tenant(json!({"name": "acme"})).await;
    let made = app.admin().post(&format!("/api/v1/tenants/{tenant}/keys"), &json!({"name": "k"})).await;
    let made: Value = made.expect(201).json();
    let caller = app.client(made["secret"].as_str().unwrap());
    let other = caller.clone();
    let first = spawn_local(async move { other.chat("m").await });
    until("the first runs", async || (upstream.seen().len() == 1).then_some(())).await;
    let second = spawn_local(async move { caller.chat("m").await });
    until("the second waits", async || (app.queued() == 1).then_some(())).await;
    change(&app.admin(), &tenant, made["key"]["id"].as_str().unwrap()).await;
    let ended = second.await.unwrap();
    assert_eq!((app.queued(), app.in_flight(), upstream.seen().len()), (0, 1, 1), "the first still runs");
    gate.add_permits(1);
    let finished = first.await.unwrap().expect(200);
    assert_eq!(app.row(finished.header("x-request-id").unwrap()).await["output_tokens"], 1);
    let row = app.row(ended.header("x-request-id").unwrap()).await;
    assert_eq!((&row["status"], &row["admission"]), (&json!(ended.status), &json!("rejected")));
    assert_eq!((&row["cost_usd"], row["error_code"].as_str().unwrap()), (&json!("0"), &*ended.error_code()));
    app.idle().await;
    app.stop().await;
    (ended.status, ended.error_code())
}

#[test]
fn a_suspended_or_deleted_tenant() {
    run(async {
        let suspended = after(async |admin, tenant, _| {
            let status = json!({"status": "suspended"});
            admin.patch(&format!("/api/v1/tenants/{tenant}"), &status).await.expect(200);
        });
        assert_eq!(suspended.await, (403, "tenant_suspended".to_owned()));
        let deleted = after(async |admin, tenant, _| {
            admin.delete(&format!("/api/v1/tenants/{tenant}")).await.expect(204);
        });
        assert_eq!(deleted.await, (403, "tenant_suspended".to_owned()));
    });
}

#[test]
fn a_disabled_expired_or_deleted_key() {
    run(async {
        let disabled = after(async |admin, _, key| {
            admin.patch(&format!("/api/v1/keys/{key}"), &json!({"disabled": true})).await.expect(200);
        });
        assert_eq!(disabled.await, (403, "key_disabled".to_owned()));
        let expired = after(async |admin, _, key| {
            let past = json!({"expires_at": "2020-01-01T00:00:00Z"});
            admin.patch(&format!("/api/v1/keys/{key}"), &past).await.expect(200);
        });
        assert_eq!(expired.await, (403, "key_expired".to_owned()));
        let deleted = after(async |admin, _, key| {
            admin.delete(&format!("/api/v1/keys/{key}")).await.expect(204);
        });
        assert_eq!(deleted.await, (403, "key_disabled".to_owned()));
    });
}
