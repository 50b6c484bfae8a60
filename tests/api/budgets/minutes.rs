//! Limits a minute: refusals with a true `retry-after`, and the headers.

use super::{Limited, chat, number};
use crate::support::{Step, Upstream, chat_answer, run};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// Answers with the tokens that the request's bound says.
async fn obedient() -> Upstream {
    Upstream::start(|seen| vec![Step::Send(chat_answer(0, seen.json()["max_tokens"].as_u64().unwrap()))])
        .await
}

#[test]
fn after_retry_after_the_same_request_passes() {
    run(async {
        let upstream = obedient().await;
        let limited = Limited::new(&upstream, json!({"tokens_per_minute": 6_000})).await;
        let answer = limited.chat(5_900).await.expect(200);
        assert_eq!(number(&answer, "x-ratelimit-limit-tokens"), 6_000);
        assert!((100..110).contains(&number(&answer, "x-ratelimit-remaining-tokens")));
        let reset = answer.header("x-ratelimit-reset-tokens").unwrap();
        assert!(reset == "59s" || reset.starts_with("58."), "{reset}");
        assert_eq!(answer.header("x-ratelimit-limit-requests"), None, "requests are not limited");
        // 256 tokens are expected, the bound cuts it to 200: a second is missing, and some.
        for _ in 0..3 {
            let refused = limited.chat(250).await.expect(429);
            assert_eq!(refused.error_code(), "tokens_per_minute");
            let seconds = number(&refused, "retry-after");
            assert!((1..=4).contains(&seconds), "{seconds}");
            assert!(refused.header("x-ratelimit-remaining-tokens").is_some());
            sleep(Duration::from_secs(seconds)).await;
            limited.chat(250).await.expect(200);
        }
        limited.stop().await;
    });
}

#[test]
fn requests_are_limited_by_the_tighter_of_key_and_tenant() {
    run(async {
        let upstream = obedient().await;
        let (tenant, key) =
            (json!({"requests_per_minute": 100, "tokens_per_minute": 50}), json!({"requests_per_minute": 2}));
        let limited = Limited::with(&upstream, json!({}), tenant, key, &[]).await;
        let answer = limited.chat(1).await.expect(200);
        assert_eq!(
            (
                number(&answer, "x-ratelimit-limit-requests"),
                number(&answer, "x-ratelimit-remaining-requests")
            ),
            (2, 1)
        );
        assert_eq!(number(&answer, "x-ratelimit-limit-tokens"), 50);
        let reset = answer.header("x-ratelimit-reset-requests").unwrap();
        assert!(reset == "30s" || reset.starts_with("29."), "{reset}");
        limited.chat(1).await.expect(200);
        let refused = limited.chat(1).await.expect(429);
        assert_eq!(refused.error_code(), "requests_per_minute");
        assert!((29..=30).contains(&number(&refused, "retry-after")));
        assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
        assert_eq!(limited.app.row(refused.header("x-request-id").unwrap()).await["admission"], "rejected");
        // Another key of the tenant has the tenant's limits alone.
        let other = limited.app.client(&limited.app.key(&limited.tenant, json!({"name": "other"})).await);
        let answer = other.post("/v1/chat/completions", &chat(1)).await.expect(200);
        assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 100);
        assert!((97..=99).contains(&number(&answer, "x-ratelimit-remaining-requests")));
        // Errors say it too.
        let wrong = other.post("/v1/chat/completions", &json!({"model": "unknown"})).await.expect(404);
        assert_eq!(number(&wrong, "x-ratelimit-limit-requests"), 100);
        limited.stop().await;
    });
}

#[test]
fn a_prompt_larger_than_a_whole_minute_is_a_mistake_and_a_large_forecast_is_not() {
    run(async {
        let upstream = Upstream::always(chat_answer(90, 400)).await;
        let limited = Limited::new(&upstream, json!({"tokens_per_minute": 100})).await;
        let body = |bytes: usize| json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(bytes)}]});
        let refused = limited.caller.post("/v1/chat/completions", &body(404)).await.expect(400);
        assert_eq!(
            (refused.error_code(), refused.header("retry-after")),
            ("request_exceeds_limit".to_owned(), None)
        );
        // 100 of prompt and 256 expected: takes the whole bucket.
        let answer = limited.caller.post("/v1/chat/completions", &body(400)).await.expect(200);
        assert_eq!(number(&answer, "x-ratelimit-remaining-tokens"), 0);
        // It used 490: the bucket is 390 tokens behind, which is 234 s, and full after 294.
        let reset = answer.header("x-ratelimit-reset-tokens").unwrap();
        assert!(reset.starts_with("4m5"), "{reset}");
        let refused = limited.chat(1).await.expect(429);
        assert!((234..=236).contains(&number(&refused, "retry-after")));
        let metrics = limited.app.metrics().await;
        for reason in ["request_exceeds_limit", "tokens_per_minute"] {
            assert!(
                metrics.contains(&format!("obleth_budget_rejections_total{{reason=\"{reason}\"}} 1")),
                "{metrics}"
            );
        }
        assert!(metrics.contains("obleth_budget_rejections_total{reason=\"budget_exhausted\"} 0"));
        limited.stop().await;
    });
}

#[test]
fn a_changed_limit_holds_from_the_next_request_on() {
    run(async {
        let upstream = obedient().await;
        let limited = Limited::new(&upstream, json!({"requests_per_minute": 1})).await;
        limited.chat(1).await.expect(200);
        limited.chat(1).await.expect(429);
        let path = format!("/api/v1/tenants/{}", limited.tenant);
        limited.app.admin().patch(&path, &json!({"requests_per_minute": 2})).await.expect(200);
        limited.chat(1).await.expect(200);
        limited.chat(1).await.expect(429);
        limited.app.admin().patch(&path, &json!({"requests_per_minute": null})).await.expect(200);
        let answer = limited.chat(1).await.expect(200);
        assert_eq!(answer.header("x-ratelimit-limit-requests"), None);
        limited.stop().await;
    });
}
