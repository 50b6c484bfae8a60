//! What is reserved where a hard budget applies, and the output bound that the gateway sets.

use super::{Limited, chat, number, prompt_bound, total};
use crate::support::{Caller, Step, Upstream, chat_answer, json as answer, run};
use actix_web::http::Method;
use serde_json::{Value, json};

fn body(fields: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// What a 402 says the request needed; it is refused by a budget that is too small for anything.
async fn needed(model: Value, path: &str, body: &Value) -> u64 {
    let upstream = Upstream::always(chat_answer(1, 1)).await;
    let limited = Limited::with(&upstream, model, total(1), json!({}), &[]).await;
    let answer = limited.caller.post(path, body).await.expect(402);
    assert_eq!(answer.error_code(), "budget_exhausted");
    let needed = answer.json()["error"]["budget"]["needed"].as_u64().unwrap();
    limited.stop().await;
    needed
}

#[test]
fn a_reservation_is_the_prompts_bytes_and_every_answer_it_asks_for() {
    run(async {
        let none = || json!({});
        let chat = |fields| body(fields);
        let path = "/v1/chat/completions";
        let asked = chat(json!({"max_tokens": 100}));
        assert_eq!(needed(none(), path, &asked).await, prompt_bound(&asked) + 100);
        let asked = chat(json!({"max_tokens": 100, "n": 3}));
        assert_eq!(needed(none(), path, &asked).await, prompt_bound(&asked) + 300);
        // The larger of two bounds: which of them an upstream obeys is not known.
        let asked = chat(json!({"max_tokens": 300, "max_completion_tokens": 100}));
        assert_eq!(needed(none(), path, &asked).await, prompt_bound(&asked) + 300);
        // One that is set by the gateway is sixteen at least.
        let asked = chat(json!({}));
        assert_eq!(needed(none(), path, &asked).await, prompt_bound(&asked) + 16);
        let asked = json!({"model": "m", "prompt": ["a", "b"], "best_of": 2, "n": 1, "max_tokens": 10});
        assert_eq!(needed(none(), "/v1/completions", &asked).await, prompt_bound(&asked) + 64 + 40);
        let asked = json!({"model": "m", "input": ["a", "b", "c"]});
        assert_eq!(needed(none(), "/v1/embeddings", &asked).await, prompt_bound(&asked) + 2 * 64);
        // The window bounds a prompt, and is what counts for one that is no text or not all here.
        let window = || json!({"context_window": 80});
        let asked = chat(json!({"max_tokens": 10}));
        assert_eq!(needed(window(), path, &asked).await, 90);
        let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]);
        let asked = chat(json!({"max_tokens": 10, "messages": image}));
        assert_eq!(needed(json!({"context_window": 9000}), path, &asked).await, 9010);
        assert_eq!(needed(none(), path, &asked).await, 131_082);
        let asked =
            json!({"model": "m", "input": "go on", "previous_response_id": "r1", "max_output_tokens": 5});
        assert_eq!(needed(json!({"context_window": 9000}), "/v1/responses", &asked).await, 9005);
        let asked = json!({"model": "m", "prompt": "a cat"});
        let bound = prompt_bound(&asked);
        assert_eq!(
            needed(json!({"max_output_tokens": 700}), "/v1/images/generations", &asked).await,
            bound + 700
        );
    });
}

#[test]
fn the_bound_that_is_set_stands_under_the_routes_own_name() {
    run(async {
        let upstream = Upstream::start(|seen| {
            let text = match seen.target.as_str() {
                "/v1/messages" => json!({"type": "message", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}),
                "/v1/responses" => json!({"output": [], "usage": {"input_tokens": 1, "output_tokens": 1}}),
                _ => json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
            };
            vec![Step::Send(answer(200, &text.to_string()))]
        })
        .await;
        let model = json!({"max_output_tokens": 333});
        let limited = Limited::with(&upstream, model, total(1_000_000), json!({}), &[]).await;
        for (path, name) in [
            ("/v1/chat/completions", "max_tokens"),
            ("/v1/completions", "max_tokens"),
            ("/v1/messages", "max_tokens"),
            ("/v1/responses", "max_output_tokens"),
        ] {
            let asked = body(json!({"prompt": "Hello", "input": "Hello"}));
            let answer = limited.caller.post(path, &asked).await.expect(200);
            assert_eq!(number(&answer, "x-obleth-max-tokens"), 333, "{path}");
            assert_eq!(upstream.last().json()[name], 333, "{path}");
            // The client's own bound stays, and nothing is said.
            let mut asked = asked;
            asked[name] = json!(77);
            let answer = limited.caller.post(path, &asked).await.expect(200);
            assert_eq!(answer.header("x-obleth-max-tokens"), None, "{path}");
            assert_eq!(upstream.last().json(), asked, "{path}");
        }
        let asked = json!({"model": "m", "input": "Hello"});
        let answer = limited.caller.post("/v1/embeddings", &asked).await.expect(200);
        assert_eq!((answer.header("x-obleth-max-tokens"), upstream.last().json()), (None, asked));
        limited.stop().await;
    });
}

#[test]
fn the_bound_that_is_set_is_what_the_budget_leaves_and_fits_into_the_window() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let asked = body(json!({}));
        let prompt = prompt_bound(&asked);
        for (model, tokens, bound) in [
            (json!({}), 1_000_000, 4096),
            (json!({}), prompt + 500, 500),
            (json!({}), prompt + 16, 16),
            (json!({"max_output_tokens": 200}), prompt + 500, 200),
            // Two tokens by the estimate.
            (json!({"context_window": 1000}), 1_000_000, 998),
        ] {
            let limited = Limited::with(&upstream, model.clone(), total(tokens), json!({}), &[]).await;
            let answer = limited.caller.post("/v1/chat/completions", &asked).await.expect(200);
            assert_eq!(number(&answer, "x-obleth-max-tokens"), bound, "{model} {tokens}");
            limited.stop().await;
        }
        // Without a hard budget nothing is set.
        let soft = json!({"tokens_per_minute": 100_000, "budgets": [{"period": "day", "max_tokens": 9, "hard": false}]});
        let limited = Limited::new(&upstream, soft).await;
        let answer = limited.caller.post("/v1/chat/completions", &asked).await.expect(200);
        assert_eq!(answer.header("x-obleth-max-tokens"), None);
        assert_eq!(upstream.last().json(), asked);
        limited.stop().await;
    });
}

#[test]
fn money_is_bounded_by_the_same_tokens_at_the_models_prices() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let money = |usd: &str| json!({"budgets": [{"period": "month", "max_cost_usd": usd}]});
        let asked = chat(100);
        // The dearer of the two prices of input.
        let model = json!({"input_cost_per_token": "0.01", "cached_input_cost_per_token": "0.02", "output_cost_per_token": "1"});
        let prompt = prompt_bound(&asked);
        let limited = Limited::with(&upstream, model.clone(), money("1"), json!({}), &[]).await;
        let refused = limited.chat(100).await.expect(402).json();
        let budget = &refused["error"]["budget"];
        let needed = format!("{}.{:02}", 100 + prompt * 2 / 100, prompt * 2 % 100);
        assert_eq!(budget["needed"].as_str().unwrap().trim_end_matches('0'), needed.trim_end_matches('0'));
        assert_eq!(
            (&budget["unit"], &budget["period"], &budget["scope"]),
            (&json!("usd"), &json!("month"), &json!("tenant"))
        );
        assert_eq!(
            (&budget["limit"], &budget["used"], &budget["left"]),
            (&json!("1"), &json!("0"), &json!("1"))
        );
        let resets = budget["resets_at"].as_str().unwrap();
        assert!(resets.ends_with("-01T00:00:00Z"), "{resets}");
        limited.stop().await;
        // What a model without prices costs is nothing.
        let free = json!({"input_cost_per_token": null, "output_cost_per_token": null});
        let limited = Limited::with(&upstream, free, money("0"), json!({}), &[]).await;
        limited.chat(100).await.expect(200);
        limited.stop().await;
    });
}

#[test]
fn each_text_that_is_read_by_itself_has_a_window_of_its_own() {
    run(async {
        let window = || json!({"context_window": 100});
        let text = || "x".repeat(400);
        let asked = json!({"model": "m", "prompt": vec![text(); 7], "max_tokens": 1});
        assert_eq!(needed(window(), "/v1/completions", &asked).await, 7 * 100 + 7);
        let asked = json!({"model": "m", "input": vec![text(); 7]});
        assert_eq!(needed(window(), "/v1/embeddings", &asked).await, 7 * 100);
        let asked = json!({"model": "m", "query": "q", "documents": vec![text(); 7]});
        assert_eq!(needed(window(), "/v1/rerank", &asked).await, 7 * 100);
        // Token lists, too, and one list of tokens is one text.
        let asked = json!({"model": "m", "input": vec![vec![1; 90]; 3]});
        assert_eq!(needed(window(), "/v1/embeddings", &asked).await, 3 * 100);
        let asked = json!({"model": "m", "input": vec![1; 90]});
        assert_eq!(needed(window(), "/v1/embeddings", &asked).await, 100);
        // What fits one by one is no prompt that is too long.
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let limited = Limited::with(&upstream, window(), json!({}), json!({}), &[]).await;
        let asked = json!({"model": "m", "input": vec!["y".repeat(90); 300]});
        limited.caller.post("/v1/embeddings", &asked).await.expect(200);
        let asked = json!({"model": "m", "input": "y".repeat(90 * 300)});
        let refused = limited.caller.post("/v1/embeddings", &asked).await.expect(400);
        assert_eq!(refused.error_code(), "context_length_exceeded");
        limited.stop().await;
    });
}

#[test]
fn a_query_is_read_with_each_document() {
    run(async {
        let none = || json!({});
        let query = "q".repeat(2_000);
        let asked = json!({"model": "m", "query": query, "documents": vec!["d"; 100]});
        // With the quotes: 2 002 bytes, once in the body and 99 times more.
        assert_eq!(needed(none(), "/v1/rerank", &asked).await, prompt_bound(&asked) + 99 * (64 + 2_002));
        let asked = json!({"model": "m", "text_1": query, "text_2": vec!["d"; 100]});
        assert_eq!(needed(none(), "/v1/score", &asked).await, prompt_bound(&asked) + 99 * (64 + 2_002));
        // Two lists of one length are read in step.
        let asked = json!({"model": "m", "text_1": ["a", "b"], "text_2": ["c", "d"]});
        assert_eq!(needed(none(), "/v1/score", &asked).await, prompt_bound(&asked) + 64);
    });
}

#[test]
fn what_no_bound_can_be_set_in_and_what_nobody_would_be_charged_for_is_refused() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let limited = Limited::new(&upstream, json!({})).await;
        let part = |name: &str, value: &str| {
            format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let form = part("model", "m") + &part("prompt", "hi") + &part("max_tokens", "20000") + "--B--\r\n";
        for path in ["/v1/completions", "/v1/chat/completions", "/v1/responses"] {
            let request = limited.caller.request(Method::POST, path);
            let request = request.insert_header(("content-type", "multipart/form-data; boundary=B"));
            let refused = Caller::send(request, form.clone()).await.expect(400);
            assert_eq!(refused.error_code(), "invalid_request", "{path}");
        }
        let asked = json!({"model": "m", "input": "hi", "background": true});
        let refused = limited.caller.post("/v1/responses", &asked).await.expect(400);
        assert_eq!(refused.json()["error"]["param"], "background");
        assert_eq!(upstream.seen().len(), 0);
        limited.stop().await;
    });
}
