//! The response cache beside a hard budget: an output bound that the gateway sets may change the answer.

use super::{Limited, prompt_bound, total};
use crate::support::{Answer, Upstream, chat_answer, chat_body, run};
use serde_json::json;

fn told(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("x-obleth-cache"), answer.header("x-obleth-max-tokens"))
}

async fn cached(upstream: &Upstream, budget: u64) -> Limited {
    let model = json!({"cache_enabled": true, "cache_ttl_secs": 600, "max_output_tokens": 40});
    Limited::with(upstream, model, total(budget), json!({}), &[]).await
}

#[test]
fn the_models_own_bound_changes_nothing_and_its_answer_is_kept() {
    run(async {
        let upstream = Upstream::always(chat_answer(10, 20)).await;
        let limited = cached(&upstream, 10_000).await;
        let first = limited.caller.chat("m").await;
        assert_eq!(told(&first), (200, Some("miss"), Some("40")));
        let second = limited.caller.chat("m").await;
        assert_eq!(told(&second), (200, Some("hit"), None));
        assert_eq!(second.body, first.body);
        assert_eq!(limited.tokens().await, (30, 0), "a kept answer spends nothing");
        assert_eq!(upstream.seen().len(), 1);
        limited.stop().await;
    });
}

#[test]
fn what_the_budget_made_shorter_is_not_kept() {
    run(async {
        let upstream = Upstream::always(chat_answer(10, 20)).await;
        let limited = cached(&upstream, prompt_bound(&chat_body()) + 30).await;
        let first = limited.caller.chat("m").await;
        assert_eq!(told(&first), (200, Some("miss"), Some("30")));
        let path = format!("/api/v1/tenants/{}", limited.tenant);
        limited.app.admin().patch(&path, &total(10_000)).await.expect(200);
        let second = limited.caller.chat("m").await;
        assert_eq!(told(&second), (200, Some("miss"), Some("40")));
        let third = limited.caller.chat("m").await;
        assert_eq!(told(&third), (200, Some("hit"), None));
        assert_eq!(upstream.seen().len(), 2);
        limited.stop().await;
    });
}
