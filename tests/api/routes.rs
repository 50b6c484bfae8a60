//! Every route of the data plane: what goes upstream, what comes back, what is counted and billed.

use crate::support::{Answer, Caller, Stage, json as json_answer, run, sse};
use serde_json::{Value, json};

pub async fn stage() -> Stage {
    Stage::with(
        json!({"upstream_model": "org/up", "aliases": ["alias/of m"], "cached_input_cost_per_token": "0.0000001"}),
        &[],
    )
    .await
}

/// Asks and checks what is the same on every route.
async fn ask(stage: &Stage, path: &str, body: &Value, answer: &str) -> (Answer, Value) {
    stage.answer(json_answer(200, answer));
    let (got, row) = stage.ask(path, body).await;
    assert_eq!((got.status, got.text().as_str()), (200, answer), "{path}");
    let sent = stage.upstream.last();
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", path));
    let mut expected = body.clone();
    expected["model"] = json!("org/up");
    assert_eq!(sent.json(), expected, "only the model's name changes");
    assert_eq!((&row["status"], &row["error_code"], &row["model"]), (&json!(200), &json!(null), &json!("m")));
    assert_eq!((&row["upstream_model"], &row["stream"]), (&json!("org/up"), &json!(false)));
    assert_eq!(row["bytes_in"], body.to_string().len());
    assert_eq!(row["bytes_out"], answer.len());
    (got, row)
}

/// Input, cached input, output, source and cost of a row.
pub fn usage(row: &Value) -> (i64, i64, i64, &str, &str) {
    let count = |name: &str| row[name].as_i64().unwrap();
    let text = |name: &str| row[name].as_str().unwrap();
    (
        count("input_tokens"),
        count("cached_input_tokens"),
        count("output_tokens"),
        row["usage_source"].as_str().unwrap(),
        text("cost_usd"),
    )
}

#[test]
fn completions_embeddings_and_the_small_routes_are_counted_as_the_upstream_says() {
    run(async {
        let stage = stage().await;
        for (path, body, answer, expected) in [
            (
                "/v1/completions",
                json!({"model": "m", "prompt": "Hello", "max_tokens": 5, "odd": {"a": [1.50]}}),
                r#"{"choices":[{"text":"Hi"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}"#,
                (4, 0, 2, "upstream", "0.000005"),
            ),
            (
                "/v1/embeddings",
                json!({"model": "m", "input": ["a", "b"]}),
                r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":6,"total_tokens":6}}"#,
                (6, 0, 0, "upstream", "0.000003"),
            ),
            (
                "/v1/rerank",
                json!({"model": "m", "query": "q", "documents": ["a", "b"]}),
                r#"{"results":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":8}}"#,
                (8, 0, 0, "upstream", "0.000004"),
            ),
            (
                "/v1/rerank",
                json!({"model": "m", "query": "q", "documents": ["a"]}),
                r#"{"results":[],"meta":{"tokens":{"input_tokens":10,"output_tokens":0}}}"#,
                (10, 0, 0, "upstream", "0.000005"),
            ),
            (
                "/v1/score",
                json!({"model": "m", "text_1": "a", "text_2": ["b"]}),
                r#"{"data":[{"score":0.5}],"usage":{"prompt_tokens":12,"total_tokens":12,"completion_tokens":0}}"#,
                (12, 0, 0, "upstream", "0.000006"),
            ),
            (
                "/v1/chat/completions",
                json!({"model": "m", "messages": []}),
                r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
                (10, 8, 4, "upstream", "0.0000078"),
            ),
            (
                "/v1/images/generations",
                json!({"model": "m", "prompt": "a cat", "n": 2}),
                r#"{"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":5,"output_tokens":100,"total_tokens":105}}"#,
                (5, 0, 100, "upstream", "0.0001525"),
            ),
        ] {
            let (_, row) = ask(&stage, path, &body, answer).await;
            assert_eq!(usage(&row), expected, "{path}");
            let route = if path.starts_with("/v1/images") { "/v1/images/*" } else { path };
            assert_eq!(row["route"], route);
            assert_eq!(row["admission"], "fast");
        }
        stage.stop().await;
    });
}

#[test]
fn what_the_upstream_does_not_say_is_counted_from_the_text() {
    run(async {
        let stage = stage().await;
        let long = "word ".repeat(40);
        for (path, body, answer) in [
            (
                "/v1/moderations",
                json!({"model": "m", "input": long}),
                r#"{"results":[{"flagged":false}]}"#.to_owned(),
            ),
            (
                "/v1/embeddings",
                json!({"model": "m", "input": long}),
                r#"{"data":[],"usage":{"prompt_tokens":-1}}"#.to_owned(),
            ),
            (
                "/v1/rerank",
                json!({"model": "m", "query": "q", "documents": [long]}),
                r#"{"results":[]}"#.to_owned(),
            ),
        ] {
            let (_, row) = ask(&stage, path, &body, &answer).await;
            let (input, cached, output, source, _) = usage(&row);
            assert_eq!((cached, output, source), (0, 0, "counted"), "{path}");
            assert!((40..=60).contains(&input), "{path}: {input}");
        }
        let answer = format!(r#"{{"choices":[{{"message":{{"content":"{long}"}}}}]}}"#);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": long}]});
        let (_, row) = ask(&stage, "/v1/chat/completions", &body, &answer).await;
        let (input, _, output, source, _) = usage(&row);
        assert_eq!(source, "counted");
        assert!(input >= 40 && (40..=60).contains(&output), "{input} {output}");
        stage.stop().await;
    });
}

#[test]
fn explicit_zeros_of_the_upstream_are_believed() {
    run(async {
        let stage = stage().await;
        let zeros = r#"{"choices":[{"message":{"content":"Hello there"}}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
        let (_, row) = ask(&stage, "/v1/chat/completions", &body, zeros).await;
        assert_eq!(usage(&row), (0, 0, 0, "upstream", "0"));
        let mut events = crate::support::chat_chunks(&["Hello"], Some((0, 0)));
        stage.play(sse(&events));
        let (answer, row) = stage.stream().await;
        assert_eq!(usage(&row), (0, 0, 0, "upstream", "0"));
        events.remove(1);
        assert_eq!(answer.text(), events.concat());
        let (_, row) = ask(
            &stage,
            "/v1/embeddings",
            &json!({"model": "m", "input": "x"}),
            r#"{"data":[],"usage":{"prompt_tokens":0,"total_tokens":0}}"#,
        )
        .await;
        assert_eq!(usage(&row), (0, 0, 0, "upstream", "0"));
        stage.stop().await;
    });
}

#[test]
fn responses_are_counted_as_json_and_as_a_stream() {
    run(async {
        let stage = stage().await;
        let figures = r#""usage":{"input_tokens":20,"input_tokens_details":{"cached_tokens":10},"output_tokens":6,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":26}"#;
        let answer = format!(r#"{{"object":"response","output":[],{figures}}}"#);
        let body = json!({"model": "m", "input": "Hello", "store": false, "reasoning": {"effort": "low"}});
        let (_, row) = ask(&stage, "/v1/responses", &body, &answer).await;
        assert_eq!(usage(&row), (20, 10, 6, "upstream", "0.000015"));
        assert_eq!(row["reasoning_tokens"], 2);

        let events = [
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\n".to_owned(),
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hi\"}\n\n".to_owned(),
            format!("event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{answer}}}\n\n"),
        ];
        stage.play(sse(&events));
        let body = json!({"model": "m", "input": "Hello", "stream": true});
        let (got, row) = stage.ask("/v1/responses", &body).await;
        assert_eq!(got.text(), events.concat());
        let mut expected = body.clone();
        expected["model"] = json!("org/up");
        assert_eq!(stage.upstream.last().json(), expected, "no stream_options where the API has none");
        assert_eq!(usage(&row), (20, 10, 6, "upstream", "0.000015"));
        assert_eq!((&row["stream"], &row["status"]), (&json!(true), &json!(200)));
        stage.stop().await;
    });
}

#[test]
fn messages_count_their_cached_tokens_within_the_input() {
    run(async {
        let stage = stage().await;
        let answer = r#"{"type":"message","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":10,"cache_read_input_tokens":70,"cache_creation_input_tokens":20,"output_tokens":4}}"#;
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]});
        let (_, row) = ask(&stage, "/v1/messages", &body, answer).await;
        assert_eq!(usage(&row), (100, 70, 4, "upstream", "0.000028"));

        let events = [
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":70,\"cache_creation_input_tokens\":20,\"output_tokens\":1}}}\n\n",
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ]
        .map(str::to_owned);
        stage.play(sse(&events));
        let mut streamed = body.clone();
        streamed["stream"] = json!(true);
        let (got, row) = stage.ask("/v1/messages", &streamed).await;
        assert_eq!(got.text(), events.concat());
        assert_eq!(usage(&row), (100, 70, 4, "upstream", "0.000028"));
        stage.stop().await;
    });
}

#[test]
fn counting_tokens_takes_no_seat_and_costs_nothing() {
    run(async {
        let stage = stage().await;
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]});
        let (answer, row) = ask(&stage, "/v1/messages/count_tokens", &body, r#"{"input_tokens":14}"#).await;
        assert_eq!(answer.header("x-obleth-admission"), None);
        assert_eq!(usage(&row), (0, 0, 0, "none", "0"));
        assert_eq!((&row["admission"], &row["estimated_tokens"]), (&json!("none"), &json!(0)));
        stage.stop().await;
    });
}

#[test]
fn an_alias_is_the_model() {
    run(async {
        let stage = stage().await;
        let body = json!({"model": "alias/of m", "messages": []});
        let answer = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        let (_, row) = ask(&stage, "/v1/chat/completions", &body, answer).await;
        assert_eq!(row["model"], "m");
        let one = stage.caller.get("/v1/models/alias%2Fof%20m").await.expect(200).json();
        assert_eq!(one["id"], "alias/of m");
        stage.stop().await;
    });
}

#[test]
fn the_list_of_models_is_what_the_key_may_use() {
    run(async {
        let stage = Stage::new().await;
        let app = &stage.app;
        for name in ["b", "org/a", "zz"] {
            app.model(name).await;
        }
        app.model_with(json!({"model_name": "off", "enabled": false})).await;
        let tenant = app.tenant(json!({"name": "t", "allowed_models": ["b", "org/a", "off", "gone"]})).await;
        let names = async |caller: &Caller| {
            let list = caller.get("/v1/models").await.expect(200).json();
            assert_eq!(list["object"], "list");
            let names =
                list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&stage.caller).await, ["b", "m", "org/a", "zz"]);
        let caller = app.client(&app.key(&tenant, json!({"name": "k"})).await);
        assert_eq!(names(&caller).await, ["b", "org/a"]);
        let narrow =
            app.client(&app.key(&tenant, json!({"name": "n", "allowed_models": ["org/a", "zz"]})).await);
        assert_eq!(names(&narrow).await, ["org/a"]);
        let none = app.client(&app.key(&tenant, json!({"name": "o", "allowed_models": []})).await);
        assert!(names(&none).await.is_empty());
        for (path, status) in [
            ("/v1/models/org/a", 200),
            ("/v1/models/org%2Fa", 200),
            ("/v1/models/b", 404),
            ("/v1/models/zz", 404),
            ("/v1/models/off", 404),
            ("/v1/models/nope", 404),
            ("/v1/models/%ff", 404),
        ] {
            let answer = narrow.get(path).await.expect(status);
            if status == 404 {
                assert_eq!(answer.error_code(), "model_not_found", "{path}");
            }
        }
        assert!(app.rows().await.is_empty(), "looking leaves no row");
        assert_eq!(app.anonymous().get("/v1/models").await.expect(401).error_code(), "invalid_api_key");
        stage.stop().await;
    });
}
