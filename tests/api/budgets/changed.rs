//! Limits that change while the body of a request is on its way.

use super::{Limited, chat, total};
use crate::support::{Raw, RawAnswer, Upstream, chat_answer, run, until};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// The answer to a chat of which one half is sent before the change of `path`, and one after.
async fn over(limited: &Limited, path: &str, change: &Value) -> RawAnswer {
    let body = chat(20).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
        limited.caller.credential.as_deref().unwrap(),
        body.len()
    );
    let mut raw = Raw::open(limited.app.running.proxy).await;
    assert!(raw.send(head + first).await);
    // Only one whose caller is known has its body read.
    let gateway = &limited.app.running.gateway;
    until("half a body is there", async || (gateway.buffered.load(Ordering::Acquire) > 0).then_some(()))
        .await;
    limited.app.admin().patch(path, change).await.expect(200);
    assert!(raw.send(rest).await);
    raw.answer().await.unwrap()
}

#[test]
fn limits_that_come_and_go_within_a_body_hold_for_it() {
    run(async {
        let upstream = Upstream::always(chat_answer(10, 20)).await;
        let limited = Limited::new(&upstream, json!({})).await;
        let of_tenant = format!("/api/v1/tenants/{}", limited.tenant);
        let keys = limited.app.admin().get(&format!("{of_tenant}/keys")).await.expect(200).json();
        let of_key = format!("/api/v1/keys/{}", keys["data"][0]["id"].as_str().unwrap());
        for path in [&of_tenant, &of_key] {
            let refused = over(&limited, path, &total(10)).await;
            assert_eq!((refused.status, refused.error_code().as_str()), (402, "budget_exhausted"), "{path}");
            let answer = over(&limited, path, &json!({"budgets": []})).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        assert_eq!(upstream.seen().len(), 2);
        limited.stop().await;
    });
}
