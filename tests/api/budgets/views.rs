//! What is shown of budgets, and what budgets do that are not hard.

use super::{Limited, number};
use crate::support::{Upstream, chat_answer, run};
use serde_json::{Value, json};

#[test]
fn used_reserved_left_and_reset_are_shown_to_operator_and_key() {
    run(async {
        let upstream = Upstream::always(chat_answer(30, 12)).await;
        let tenant = json!({"tokens_per_minute": 1_000, "budgets": [
            {"period": "day", "max_tokens": 10_000, "max_cost_usd": "1"}, {"period": "total", "max_cost_usd": "0.5", "hard": false}]});
        let key = json!({"requests_per_minute": 5, "budgets": [{"period": "month", "max_tokens": 500}]});
        let limited = Limited::with(&upstream, json!({}), tenant, key, &[]).await;
        limited.chat(20).await.expect(200);
        let view = limited.budget().await;
        assert_eq!(view["tenant_id"], json!(limited.tenant));
        let minute = &view["minute"];
        assert_eq!((&minute["requests"], &minute["tokens"]["limit"]), (&Value::Null, &json!(1_000)));
        assert!((958..1_000).contains(&minute["tokens"]["remaining"].as_u64().unwrap()), "{view}");
        // 30 × 0.0000005 + 12 × 0.0000015.
        let (cost, left) = (json!("0.000033"), json!("0.999967"));
        let day = &view["budgets"][0];
        assert_eq!((&day["period"], &day["hard"]), (&json!("day"), &json!(true)));
        assert_eq!(day["tokens"], json!({"limit": 10_000, "used": 42, "reserved": 0, "left": 9_958}));
        assert_eq!(day["cost_usd"], json!({"limit": "1", "used": cost, "reserved": "0", "left": left}));
        assert!(day["resets_at"].as_str().unwrap().ends_with("T00:00:00Z"), "{day}");
        let total = &view["budgets"][1];
        assert_eq!(
            (&total["resets_at"], &total["tokens"], &total["hard"]),
            (&Value::Null, &Value::Null, &json!(false))
        );
        let sum = json!({"tokens": 42, "cost_usd": cost, "reserved_tokens": 0, "reserved_cost_usd": "0"});
        assert_eq!(view["usage"], json!({"day": sum, "month": sum, "total": sum}));
        let limits = limited.caller.get("/v1/limits").await.expect(200).json();
        assert_eq!(limits["budget"]["tenant"]["budgets"], view["budgets"]);
        let own = &limits["budget"]["key"];
        assert_eq!(
            own["budgets"][0]["tokens"],
            json!({"limit": 500, "used": 42, "reserved": 0, "left": 458})
        );
        assert_eq!(own["minute"]["requests"]["remaining"], 4);
        let key_id = limits["key"]["id"].as_str().unwrap();
        let view = limited.app.admin().get(&format!("/api/v1/keys/{key_id}/budget")).await.expect(200).json();
        assert_eq!((&view["key_id"], &view["budgets"]), (&json!(key_id), &own["budgets"]));
        for path in ["/api/v1/tenants/x/budget", "/api/v1/keys/x/budget"] {
            limited.app.admin().get(path).await.expect(404);
        }
        limited.stop().await;
    });
}

#[test]
fn a_soft_budget_only_warns() {
    run(async {
        let upstream = Upstream::always(chat_answer(30, 70)).await;
        let soft = json!({"budgets": [{"period": "day", "max_tokens": 150, "hard": false}]});
        let limited = Limited::new(&upstream, soft).await;
        // What is expected counts: the client's bound, and two tokens of prompt.
        let answer = limited.chat(100).await.expect(200);
        assert_eq!(answer.header("x-obleth-budget-warning"), None);
        for used in [100, 200] {
            let answer = limited.chat(100).await.expect(200);
            let said = format!("tenant; period=day; unit=tokens; used={used}; limit=150");
            assert_eq!(answer.header("x-obleth-budget-warning"), Some(said.as_str()));
        }
        let metrics = limited.app.metrics().await;
        let line = "obleth_budget_warnings_total{period=\"day\",scope=\"tenant\"} 2";
        assert!(metrics.contains(line), "{metrics}");
        limited.stop().await;
    });
}

#[test]
fn a_budget_that_is_set_later_counts_from_the_beginning_of_its_period() {
    run(async {
        let upstream = Upstream::always(chat_answer(30, 12)).await;
        let limited = Limited::new(&upstream, json!({})).await;
        let answer = limited.chat(20).await.expect(200);
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
        let path = format!("/api/v1/tenants/{}", limited.tenant);
        let budgets = json!({"budgets": [{"period": "month", "max_tokens": 250}]});
        limited.app.admin().patch(&path, &budgets).await.expect(200);
        let refused = limited.chat(100).await.expect(402).json();
        assert_eq!(refused["error"]["budget"]["used"], 42);
        assert_eq!(refused["error"]["budget"]["left"], 208);
        assert_eq!(refused["error"]["type"], "insufficient_quota");
        let answer = limited.caller.chat("m").await.expect(200);
        assert!(number(&answer, "x-obleth-max-tokens") < 100);
        limited.stop().await;
    });
}
