//! Fallbacks and budgets: each attempt reserves at the price and the bound of its own model.

use super::{House, broken};
use crate::support::{Answer, Gate, Step, chat_answer, run, until};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// A micro-dollar a token, both ways.
fn cheap() -> Value {
    json!({"input_cost_per_token": "0.000001", "output_cost_per_token": "0.000001"})
}

/// A thousand times as much.
fn dear() -> Value {
    json!({"input_cost_per_token": "0.001", "output_cost_per_token": "0.001"})
}

const BOUND: u64 = 100;

fn body() -> Value {
    json!({"model": "m", "max_tokens": BOUND, "messages": [{"role": "user", "content": "Hello"}]})
}

/// Tokens that a request with this body reserves.
fn held() -> u64 {
    u64::try_from(body().to_string().len()).unwrap() + 64 + BOUND
}

impl House {
    async fn limit(&self, fields: Value) {
        self.app.admin().patch(&format!("/api/v1/tenants/{}", self.tenant), &fields).await.expect(200);
    }

    /// What was used and what is reserved in total.
    async fn total(&self) -> Value {
        let budget = self.app.admin().get(&format!("/api/v1/tenants/{}/budget", self.tenant)).await;
        budget.expect(200).json()["usage"]["total"].clone()
    }

    async fn ask(&self) -> Answer {
        self.caller.post("/v1/chat/completions", &body()).await
    }
}

/// What a hard budget of so many micro-dollars in total looks like.
fn micro_dollars(amount: u64) -> Value {
    let usd = format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000);
    json!({"budgets": [{"period": "total", "max_cost_usd": usd}]})
}

#[test]
fn a_fallback_that_does_not_fit_into_the_budget_leaves_the_first_failure() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], cheap()).await;
        house.model("fb", &[], dear()).await;
        house.play("m", broken());
        house.limit(micro_dollars(held() * 1000 - 1)).await;
        let answer = house.ask().await.expect(500);
        assert_eq!((answer.text().as_str(), answer.header("x-obleth-model")), (r#"{"error":"mine"}"#, None));
        house.app.idle().await;
        let row = house.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["model"], &row["cost_usd"]), (&json!("m"), &json!("0")));
        assert_eq!(house.order(), ["up-m"]);
        let total = house.total().await;
        assert_eq!((&total["tokens"], &total["reserved_tokens"]), (&json!(0), &json!(0)));
        // One micro-dollar more, and it fits: the hold of the model that failed is not beside it.
        house.limit(micro_dollars(held() * 1000)).await;
        assert_eq!(house.ask().await.expect(200).header("x-obleth-model"), Some("fb"));
        house.stop().await;
    });
}

#[test]
fn the_next_fallback_is_tried_where_one_is_too_dear() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb", "third"], cheap()).await;
        house.model("fb", &[], dear()).await;
        house.model("third", &[], cheap()).await;
        house.play("m", broken());
        house.limit(micro_dollars(held() * 2)).await;
        assert_eq!(house.ask().await.expect(200).header("x-obleth-model"), Some("third"));
        assert_eq!(house.order(), ["up-m", "up-third"]);
        house.stop().await;
    });
}

#[test]
fn what_the_failed_model_held_is_given_back_before_the_fallback_holds_its_own() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], cheap()).await;
        house.model("fb", &[], dear()).await;
        let (first, second): (Gate, Gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        house.play("m", [vec![Step::Wait(Arc::clone(&first))], broken()].concat());
        house.play("fb", vec![Step::Wait(Arc::clone(&second)), Step::Send(chat_answer(10, 20))]);
        house.limit(micro_dollars(10_000_000_000)).await;
        let watch = async {
            for (count, gate, price) in [(1, &first, 1), (2, &second, 1000)] {
                until("the call is upstream", async || (house.order().len() == count).then_some(())).await;
                let total = house.total().await;
                assert_eq!(total["reserved_tokens"], held());
                let reserved: f64 = total["reserved_cost_usd"].as_str().unwrap().parse().unwrap();
                let expected = f64::from(u32::try_from(held() * price).unwrap());
                assert!((reserved * 1e6 - expected).abs() < 0.5, "{total}");
                assert_eq!(house.app.running.gateway.handles.budget.holds(), 1);
                gate.add_permits(1);
            }
        };
        let (answer, ()) = tokio::join!(house.ask(), watch);
        answer.expect(200);
        house.app.idle().await;
        let total = house.total().await;
        assert_eq!((&total["tokens"], &total["cost_usd"]), (&json!(30), &json!("0.03")));
        assert_eq!(total["reserved_tokens"], 0);
        assert_eq!(house.app.running.gateway.handles.budget.holds(), 0);
        house.stop().await;
    });
}

#[test]
fn the_bound_that_is_set_is_that_of_the_model_that_serves() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], json!({"max_output_tokens": 50})).await;
        house.model("fb", &[], json!({"max_output_tokens": 70})).await;
        house.play("m", broken());
        house.limit(json!({"budgets": [{"period": "total", "max_tokens": 100_000}]})).await;
        let answer = house.caller.chat("m").await.expect(200);
        assert_eq!(answer.header("x-obleth-max-tokens"), Some("70"));
        let bounds: Vec<Value> =
            house.upstream.seen().iter().map(|seen| seen.json()["max_tokens"].clone()).collect();
        assert_eq!(bounds, [50, 70]);
        house.stop().await;
    });
}

#[test]
fn a_request_that_falls_back_counts_once_a_minute_and_one_that_fails_not_at_all() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], json!({})).await;
        house.model("fb", &[], json!({})).await;
        house.play("m", broken());
        house.limit(json!({"requests_per_minute": 2})).await;
        for left in ["1", "0"] {
            let answer = house.ask().await.expect(200);
            assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
        }
        // Its own limit is the first model's refusal: that does not fall back.
        assert_eq!(house.ask().await.expect(429).error_code(), "requests_per_minute");
        assert_eq!(house.order().len(), 4);
        house.stop().await;
    });
}

#[test]
fn many_at_once_that_fall_back_do_not_pass_a_hard_budget() {
    run(async {
        let house = House::with(&[("OBLETH_BREAKER_FAILURES", "0")]).await;
        house.model("m", &["fb"], cheap()).await;
        house.model("fb", &[], dear()).await;
        house.play("m", broken());
        // As much as it is allowed, and the most that its prompt can be.
        let prompt = held() - BOUND;
        house.play("fb", vec![Step::Send(chat_answer(prompt, BOUND))]);
        let fit = 20;
        house.limit(micro_dollars(held() * 1000 * fit + 500)).await;
        let served = AtomicU64::new(0);
        let ask = || async {
            let answer = house.ask().await;
            match answer.status {
                200 => _ = served.fetch_add(1, Ordering::SeqCst),
                500 => assert_eq!(answer.text(), r#"{"error":"mine"}"#),
                402 | 429 => assert!(answer.error_code().starts_with("budget_"), "{}", answer.text()),
                other => panic!("{other}: {}", answer.text()),
            }
        };
        for _ in 0..4 {
            join_all((0..60).map(|_| ask())).await;
        }
        assert_eq!(served.load(Ordering::SeqCst), fit);
        house.app.idle().await;
        let total = house.total().await;
        assert_eq!((&total["tokens"], &total["reserved_tokens"]), (&json!(held() * fit), &json!(0)));
        assert_eq!(house.app.running.gateway.handles.budget.holds(), 0);
        house.stop().await;
    });
}
