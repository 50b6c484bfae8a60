use super::*;
use serde_json::{Value, json};

const FAILURE: Failure<'static> =
    Failure { code: "upstream_truncated", kind: "api_error", message: "cut \"short\"\n", request_id: "r-1" };

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
