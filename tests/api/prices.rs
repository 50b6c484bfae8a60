//! What a row costs: cached input by its own price, reasoning as output, zeros believed, what was streamed charged
//! however the stream ended.

use crate::support::{Stage, Step, chat_chunks, json as answer, run, sse};
use serde_json::{Value, json};

/// Prices of which no two are equal, in USD a token.
fn prices() -> Value {
    json!({
        "input_cost_per_token": "0.0000005",
        "cached_input_cost_per_token": "0.000000125",
        "output_cost_per_token": "0.0000015",
    })
}

fn tokens(row: &Value) -> [&Value; 4] {
    ["input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"].map(|field| &row[field])
}

fn chat_usage() -> Value {
    json!({
        "prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 600},
        "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}, "total_tokens": 1050,
    })
}

/// 400 × 0.0000005 + 600 × 0.000000125 + 50 × 0.0000015.
const COST: &str = "0.00035";

#[test]
fn cached_input_has_its_own_price_and_reasoning_that_of_the_answer() {
    run(async {
        let stage = Stage::with(prices(), &[]).await;
        stage.answer(answer(200, &json!({"choices": [], "usage": chat_usage()}).to_string()));
        let (_, row) = stage.chat().await;
        assert_eq!(tokens(&row), [&json!(1000), &json!(600), &json!(50), &json!(40)]);
        assert_eq!(row["cost_usd"], COST);

        let mut events = chat_chunks(&["Hi"], None);
        events.insert(1, format!("data: {}\n\n", json!({"choices": [], "usage": chat_usage()})));
        stage.play(sse(&events));
        let (_, row) = stage.stream().await;
        assert_eq!(tokens(&row), [&json!(1000), &json!(600), &json!(50), &json!(40)]);
        assert_eq!((&row["cost_usd"], &row["usage_source"]), (&json!(COST), &json!("upstream")));

        // Here the cached part stands beside the rest of the prompt.
        let usage = json!({"input_tokens": 400, "cache_read_input_tokens": 600, "output_tokens": 50});
        stage.answer(answer(200, &json!({"type": "message", "content": [], "usage": usage}).to_string()));
        let body =
            json!({"model": "m", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]});
        let (_, row) = stage.ask("/v1/messages", &body).await;
        assert_eq!(tokens(&row), [&json!(1000), &json!(600), &json!(50), &json!(0)]);
        assert_eq!(row["cost_usd"], COST);
        stage.stop().await;
    });
}

#[test]
fn without_a_price_of_its_own_cached_input_costs_what_input_costs() {
    run(async {
        let stage = Stage::new().await;
        stage.answer(answer(200, &json!({"choices": [], "usage": chat_usage()}).to_string()));
        let (_, row) = stage.chat().await;
        // 1000 × 0.0000005 + 50 × 0.0000015.
        assert_eq!(row["cost_usd"], "0.000575");
        stage.stop().await;
    });
}

#[test]
fn a_zero_of_the_upstream_is_believed() {
    run(async {
        let stage = Stage::with(prices(), &[]).await;
        let usage = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
        let text =
            json!({"choices": [{"message": {"content": "a text that is not counted"}}], "usage": usage});
        stage.answer(answer(200, &text.to_string()));
        let (_, row) = stage.chat().await;
        assert_eq!(tokens(&row), [&json!(0); 4]);
        assert_eq!((&row["cost_usd"], &row["usage_source"]), (&json!("0"), &json!("upstream")));
        stage.stop().await;
    });
}

#[test]
fn a_price_change_leaves_old_rows_alone() {
    run(async {
        let stage = Stage::with(prices(), &[]).await;
        stage.answer(answer(200, &json!({"choices": [], "usage": chat_usage()}).to_string()));
        let (first, row) = stage.chat().await;
        assert_eq!(row["cost_usd"], COST);
        let dearer = json!({"input_cost_per_token": "1", "output_cost_per_token": null});
        stage.app.admin().patch("/api/v1/models/m", &dearer).await.expect(200);
        let (_, row) = stage.chat().await;
        assert_eq!(row["cost_usd"], "400.000075");
        assert_eq!(stage.app.row(first.header("x-request-id").unwrap()).await["cost_usd"], COST);
        stage.stop().await;
    });
}

#[test]
fn what_was_streamed_before_a_cut_is_charged() {
    run(async {
        let stage = Stage::with(json!({"input_cost_per_token": "0"}), &[]).await;
        let words = ["eight by", "eight by", "eight by"];
        let mut steps = sse(&chat_chunks(&words, None));
        steps.truncate(1 + words.len());
        steps.push(Step::Reset);
        stage.play(steps);
        let (answer, row) = stage.stream().await;
        assert!(answer.text().contains("upstream_truncated"), "{}", answer.text());
        assert_eq!((&row["status"], &row["usage_source"]), (&json!(502), &json!("counted")));
        // 24 bytes of text.
        assert_eq!((&row["output_tokens"], &row["cost_usd"]), (&json!(6), &json!("0.000009")));
        stage.stop().await;
    });
}
