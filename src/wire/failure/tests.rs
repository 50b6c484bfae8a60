use super::*;
use serde_json::{Value, json};

const FAILURE: Failure<'static> = Failure {
    code: "upstream_truncated",
    kind: "api_error",
    message: "cut \"short\"\n",
    param: None,
    source: Source::Gateway,
    request_id: "r-1",
};

fn event(path: &str, at: Position) -> (String, Value) {
    let bytes = FAILURE.event(Route::of(path).unwrap(), at);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, data) = text.split_once("data: ").unwrap();
    assert!(data.ends_with("\n\n") && !data.trim_end().contains('\n'), "{text}");
    (head.to_owned(), serde_json::from_str(data).unwrap())
}

#[test]
fn chunks_end_in_the_openai_envelope() {
    let error = json!({"message": "cut \"short\"\n", "type": "api_error", "code": "upstream_truncated",
        "param": null, "source": "gateway", "request_id": "r-1"});
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/audio/speech"] {
        assert_eq!(event(path, Position::default()), (String::new(), json!({ "error": error })));
    }
}

#[test]
fn messages_end_in_an_error_event() {
    let (head, data) = event("/v1/messages", Position::default());
    assert_eq!(head, "event: error\n");
    assert_eq!(data["type"], "error");
    assert_eq!(data["error"]["type"], "api_error");
    assert_eq!(data["error"]["request_id"], "r-1");
}

#[test]
fn responses_end_in_a_numbered_error_event() {
    let (head, data) = event("/v1/responses", Position { mid_event: false, sequence: 9 });
    assert_eq!(head, "event: error\n");
    assert_eq!((&data["type"], &data["code"]), (&json!("error"), &json!("upstream_truncated")));
    assert_eq!(data["sequence_number"], 9);
}

#[test]
fn a_half_event_is_ended_first() {
    let (head, _) = event("/v1/responses", Position { mid_event: true, sequence: 0 });
    assert_eq!(head, "\n\nevent: error\n");
}

#[test]
fn an_upstreams_error_keeps_its_words_in_whichever_envelope_they_came() {
    let otherwise = ("it said nothing", "upstream_error");
    for (body, words) in [
        (
            r#"{"error":{"message":"too long","type":"bad","code":"context_length_exceeded","param":"messages"}}"#,
            ("too long", "bad", "context_length_exceeded", Some("messages")),
        ),
        (r#"{"object":"error","message":"no","type":"T","param":null,"code":404}"#, ("no", "T", "404", None)),
        (
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
            ("slow", "rate_limit_error", "upstream_error", None),
        ),
        (r#"{"error":"plain"}"#, ("plain", "upstream_error", "upstream_error", None)),
        (r#"{"detail":"Not Found"}"#, ("Not Found", "upstream_error", "upstream_error", None)),
        ("<html>", ("it said nothing", "upstream_error", "upstream_error", None)),
        ("[1]", ("it said nothing", "upstream_error", "upstream_error", None)),
    ] {
        let told = Told::of(body.as_bytes());
        let failure = told.failure(otherwise, "r-1");
        assert_eq!((failure.message, failure.kind, failure.code, failure.param), words, "{body}");
        let event = failure.event(Route::Messages, Position::default());
        let text = String::from_utf8(event.to_vec()).unwrap();
        let data: Value = serde_json::from_str(text.split_once("data: ").unwrap().1).unwrap();
        assert_eq!((&data["error"]["type"], &data["error"]["source"]), (&json!(words.1), &json!("upstream")));
    }
}
