use super::*;
use proptest::prelude::*;

const CHAT: Route = Route::ChatCompletions;

/// input, cached, output, reasoning
fn of(path: &str, body: &str) -> Option<(u64, u64, u64, u64)> {
    tuple(usage_of_answer(Route::of(path).unwrap(), body.as_bytes()))
}

fn tuple(usage: Option<Usage>) -> Option<(u64, u64, u64, u64)> {
    usage.map(|u| {
        assert_eq!(u.source, UsageSource::Upstream);
        (u.input, u.cached_input, u.output, u.reasoning)
    })
}

#[test]
fn each_route_has_its_own_words() {
    for (path, body, expected) in [
        (
            "/v1/chat/completions",
            r#"{"id":"chatcmpl-1","choices":[{"message":{"role":"assistant","content":"Hi \"usage\":{}"}}],"usage":{
            "prompt_tokens":20,"completion_tokens":9,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":16,"audio_tokens":0},
            "completion_tokens_details":{"reasoning_tokens":4,"accepted_prediction_tokens":0}},"service_tier":"default"}"#,
            (20, 16, 9, 4),
        ),
        (
            "/v1/chat/completions",
            r#"{"usage":{"prompt_tokens":12,"total_tokens":20,"completion_tokens":8,"prompt_tokens_details":null}}"#,
            (12, 0, 8, 0),
        ),
        (
            "/v1/completions",
            r#"{"object":"text_completion","choices":[{"text":"x"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            (3, 0, 2, 0),
        ),
        (
            "/v1/embeddings",
            r#"{"object":"list","data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            (8, 0, 0, 0),
        ),
        (
            "/v1/responses",
            r#"{"output":[],"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":5},"output_tokens":87,
            "output_tokens_details":{"reasoning_tokens":50},"total_tokens":123},"user":null}"#,
            (36, 5, 87, 50),
        ),
        (
            "/v1/messages",
            r#"{"type":"message","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":10,
            "cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":25}}"#,
            (1110, 1000, 25, 0),
        ),
        ("/v1/messages/count_tokens", r#"{"usage":{"input_tokens":14}}"#, (14, 0, 0, 0)),
        (
            "/v1/rerank",
            r#"{"id":"r","results":[{"index":0,"relevance_score":0.9}],"usage":{"total_tokens":56}}"#,
            (56, 0, 0, 0),
        ),
        (
            "/v1/rerank",
            r#"{"results":[],"meta":{"billed_units":{"input_tokens":12,"output_tokens":1}}}"#,
            (12, 0, 1, 0),
        ),
        (
            "/v1/rerank",
            r#"{"meta":{"billed_units":{"search_units":1},"tokens":{"input_tokens":9}}}"#,
            (9, 0, 0, 0),
        ),
        (
            "/v1/score",
            r#"{"usage":{"prompt_tokens":17,"total_tokens":17,"completion_tokens":0}}"#,
            (17, 0, 0, 0),
        ),
        (
            "/v1/images/generations",
            r#"{"created":1,"data":[],"usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,
            "input_tokens_details":{"text_tokens":10,"image_tokens":40}}}"#,
            (50, 0, 50, 0),
        ),
        (
            "/v1/audio/transcriptions",
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#,
            (14, 0, 45, 0),
        ),
    ] {
        assert_eq!(of(path, body), Some(expected), "{path}");
    }
}

#[test]
fn what_is_no_whole_number_is_as_if_absent() {
    for usage in [
        "null",
        "{}",
        "[]",
        r#""x""#,
        r#"{"prompt_tokens":"5","completion_tokens":"6"}"#,
        r#"{"prompt_tokens":-5,"completion_tokens":6}"#,
        r#"{"prompt_tokens":5.5,"completion_tokens":6}"#,
        r#"{"prompt_tokens":5,"completion_tokens":null}"#,
        r#"{"prompt_tokens":5}"#,
        r#"{"total_tokens":5}"#,
    ] {
        assert_eq!(of("/v1/chat/completions", &format!(r#"{{"usage":{usage}}}"#)), None, "{usage}");
    }
    let duration = r#"{"text":"hi","usage":{"type":"duration","seconds":9}}"#;
    assert_eq!(of("/v1/audio/transcriptions", duration), None);
}

#[test]
fn zeros_and_whole_floats_are_believed() {
    let chat = |usage: &str| of("/v1/chat/completions", &format!(r#"{{"usage":{usage}}}"#));
    assert_eq!(chat(r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some((0, 0, 0, 0)));
    assert_eq!(chat(r#"{"prompt_tokens":5.0,"completion_tokens":6.00}"#), Some((5, 0, 6, 0)));
}

#[test]
fn a_total_fills_in_what_is_missing() {
    let chat = |usage: &str| of("/v1/chat/completions", &format!(r#"{{"usage":{usage}}}"#));
    assert_eq!(chat(r#"{"prompt_tokens":5,"total_tokens":9}"#), Some((5, 0, 4, 0)));
    let beside = r#"{"prompt_tokens":5,"completion_tokens":2,"total_tokens":10,"completion_tokens_details":{"reasoning_tokens":3}}"#;
    assert_eq!(chat(beside), Some((5, 0, 5, 3)));
}

#[test]
fn nonsense_figures_stay_within_belief() {
    let chat = |usage: &str| of("/v1/chat/completions", &format!(r#"{{"usage":{usage}}}"#));
    let big = r#"{"prompt_tokens":18446744073709551615,"completion_tokens":99999999999999999999999}"#;
    assert_eq!(chat(big), None);
    let usage = chat(
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":18446744073709551615}}"#,
    );
    assert_eq!(usage, Some((Usage::MAX_TOKENS, Usage::MAX_TOKENS, 7, 0)));
    let more = chat(
        r#"{"prompt_tokens":1,"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":9}}"#,
    );
    assert_eq!(more, Some((1, 0, 2, 2)));
}

#[test]
fn the_last_of_repeated_keys_wins() {
    let body = r#"{"usage":{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":3},"usage":{"prompt_tokens":4,"prompt_tokens":6,"completion_tokens":5}}"#;
    assert_eq!(of("/v1/chat/completions", body), Some((6, 0, 5, 0)));
}

#[test]
fn usage_is_found_in_the_end_of_a_long_answer() {
    let whole = r#"{"choices":[{"message":{"content":"say \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}"}}],
        "usage" : {"prompt_tokens":7,"completion_tokens":8},"x":{"usage":null}}"#;
    let tail = |from: usize| tuple(usage_in_tail(CHAT, &whole.as_bytes()[from..]));
    assert_eq!(tail(0), Some((7, 0, 8, 0)));
    assert_eq!(tail(70), Some((7, 0, 8, 0)));
    assert_eq!(tail(whole.len() - 20), None);
    let cut = br#"{"usage":{"prompt_tokens":7,"completion_tokens":8"#;
    assert_eq!(usage_in_tail(CHAT, b""), None);
    assert_eq!(usage_in_tail(CHAT, &cut[..30]), None);
}

#[test]
fn the_text_of_an_answer_is_counted() {
    for (path, body, bytes) in [
        (
            "/v1/chat/completions",
            r#"{"choices":[{"message":{"content":"ab\n","reasoning_content":"cde","reasoning":"cde"}},
            {"message":{"content":null,"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#,
            9,
        ),
        ("/v1/completions", r#"{"choices":[{"text":"abc"},{"text":"d"}]}"#, 4),
        (
            "/v1/messages",
            r#"{"content":[{"type":"text","text":"ab"},{"type":"thinking","thinking":"c"}]}"#,
            3,
        ),
        (
            "/v1/responses",
            r#"{"output":[{"type":"reasoning","summary":[{"text":"s"}]},{"type":"message","content":[{"type":"output_text","text":"abc"}]},
            {"type":"function_call","name":"f","arguments":"{}"}]}"#,
            7,
        ),
        ("/v1/audio/transcriptions", r#"{"text":"hello"}"#, 5),
        ("/v1/audio/transcriptions", "hello there", 11),
        ("/v1/audio/speech", "hello there", 0),
        ("/v1/embeddings", r#"{"data":[{"embedding":"AAAA"}]}"#, 0),
    ] {
        assert_eq!(answer_text_bytes(Route::of(path).unwrap(), body.as_bytes()), bytes, "{path}");
    }
}

proptest! {
    #[test]
    fn arbitrary_answers_do_no_harm(parts in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", "\"usage\"", "\"choices\"", "\"message\"", "\"prompt_tokens\"", ":", ",", "\"x", "1", "-1.5e9", "null",
        "\\", "\"total_tokens\"", "\"prompt_tokens_details\"", "\"meta\"", "\"output\"", "\"content\"",
    ]), 0..50)) {
        let body = parts.concat();
        for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/rerank", "/v1/audio/x"] {
            let route = Route::of(path).unwrap();
            usage_of_answer(route, body.as_bytes());
            usage_in_tail(route, body.as_bytes());
            answer_text_bytes(route, body.as_bytes());
        }
    }

    #[test]
    fn figures_survive_any_order(input in 0_u64..1_000_000, output in 0_u64..1_000_000, swap in any::<bool>(), text in ".{0,20}") {
        let a = serde_json::json!({"prompt_tokens": input, "completion_tokens": output});
        let text = serde_json::to_string(&text).unwrap();
        let body = if swap { format!(r#"{{"usage":{a},"x":{text}}}"#) } else { format!(r#"{{"x":[{text}], "usage" :{a} }}"#) };
        prop_assert_eq!(tuple(usage_of_answer(CHAT, body.as_bytes())), Some((input, 0, output, 0)));
        prop_assert_eq!(tuple(usage_in_tail(CHAT, body.as_bytes())), Some((input, 0, output, 0)));
    }
}
