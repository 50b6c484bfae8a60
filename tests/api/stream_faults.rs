//! Streams that fail: before the first byte an answer of its own, later one event in the route's own shape.

use crate::support::{Answer, Stage, Step, chat_chunks, hang, run, sse};
use serde_json::{Value, json};

const SSE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> Step {
    Step::Send(format!("{:x}\r\n{text}\r\n", text.len()).into())
}

/// The last event of a stream: its name and its data.
fn last_event(answer: &Answer) -> (String, Value) {
    let text = answer.text();
    let event = text.trim_end().rsplit("\n\n").next().unwrap();
    let line = |prefix| event.lines().find_map(|line: &str| line.strip_prefix(prefix)).unwrap_or_default();
    (line("event: ").to_owned(), serde_json::from_str(line("data: ")).unwrap_or_else(|_| panic!("{text}")))
}

fn truncated(row: &Value) {
    assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_truncated")));
}

#[test]
fn a_stream_cut_before_its_first_byte_is_a_502() {
    run(async {
        let stage = Stage::new().await;
        for end in [Step::Close, Step::Reset, Step::Send("0\r\n\r\n".into())] {
            stage.play(vec![Step::Send(SSE.into()), end]);
            let (answer, row) = stage.stream().await;
            assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_truncated"));
            truncated(&row);
            assert_eq!(row["usage_source"], "none");
        }
        stage.stop().await;
    });
}

#[test]
fn a_stream_that_goes_silent_ends_with_an_event() {
    run(async {
        let stage = Stage::with(json!({}), &[("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", "1")]).await;
        stage.play(vec![Step::Send(SSE.into()), chunk(&chat_chunks(&["Hello"], None)[0]), hang()]);
        let (answer, row) = stage.stream().await;
        assert_eq!(answer.status, 200);
        let (_, event) = last_event(&answer);
        assert_eq!(event["error"]["code"], "upstream_timeout");
        assert_eq!(event["error"]["request_id"].as_str(), answer.header("x-request-id"));
        assert!(!answer.text().contains("[DONE]"));
        assert_eq!((&row["status"], &row["error_code"]), (&json!(504), &json!("upstream_timeout")));
        assert_eq!(row["usage_source"], "counted");

        stage.play(vec![Step::Send(SSE.into()), hang()]);
        let (answer, row) = stage.stream().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "upstream_timeout"));
        assert_eq!((&row["status"], &row["usage_source"]), (&json!(504), &json!("none")));
        stage.stop().await;
    });
}

#[test]
fn a_json_answer_that_goes_silent_is_a_504() {
    run(async {
        let stage = Stage::with(json!({}), &[("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", "1")]).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"id\":";
        stage.play(vec![Step::Send(head.into()), hang()]);
        let (answer, row) = stage.chat().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "upstream_timeout"));
        assert_eq!((&row["status"], &row["error_code"]), (&json!(504), &json!("upstream_timeout")));
        stage.stop().await;
    });
}

#[test]
fn a_late_error_is_an_event_of_the_routes_own_shape() {
    run(async {
        let stage = Stage::new().await;
        let responses = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hello\"}\n\n";
        let messages = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
        let text = "data: {\"choices\":[{\"index\":0,\"text\":\"Hello\"}]}\n\n";
        for end in [Step::Close, Step::Reset] {
            stage.play(vec![Step::Send(SSE.into()), chunk(responses), end.clone()]);
            let body = json!({"model": "m", "stream": true, "input": "Hello"});
            let (answer, row) = stage.ask("/v1/responses", &body).await;
            let (name, event) = last_event(&answer);
            assert_eq!(
                (name.as_str(), &event["type"], &event["code"]),
                ("error", &json!("error"), &json!("upstream_truncated"))
            );
            assert_eq!(event["sequence_number"], 2);
            assert_eq!(event["request_id"].as_str(), answer.header("x-request-id"));
            assert!(answer.text().starts_with(responses));
            truncated(&row);

            stage.play(vec![Step::Send(SSE.into()), chunk(messages), end.clone()]);
            let body = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": []});
            let (answer, row) = stage.ask("/v1/messages", &body).await;
            let (name, event) = last_event(&answer);
            assert_eq!((name.as_str(), &event["type"]), ("error", &json!("error")));
            assert_eq!(
                (&event["error"]["type"], &event["error"]["code"]),
                (&json!("api_error"), &json!("upstream_truncated"))
            );
            assert!(!answer.text().contains("message_stop"));
            truncated(&row);
            assert_eq!(row["input_tokens"], 9, "the upstream had named the prompt's tokens");
            assert!(row["output_tokens"].as_i64().unwrap() >= 1);

            stage.play(vec![Step::Send(SSE.into()), chunk(text), end]);
            let body = json!({"model": "m", "stream": true, "prompt": "Hello"});
            let (answer, row) = stage.ask("/v1/completions", &body).await;
            let (name, event) = last_event(&answer);
            assert_eq!((name.as_str(), &event["error"]["code"]), ("", &json!("upstream_truncated")));
            truncated(&row);
        }
        stage.stop().await;
    });
}

#[test]
fn an_error_after_half_an_event_stands_on_its_own() {
    run(async {
        let stage = Stage::new().await;
        stage.play(vec![
            Step::Send(SSE.into()),
            chunk(&chat_chunks(&["Hello"], None)[0]),
            chunk("data: {\"choices\":[{\"delta\":{\"content\":\"half"),
            Step::Close,
        ]);
        let (answer, row) = stage.stream().await;
        let (_, event) = last_event(&answer);
        assert_eq!(event["error"]["code"], "upstream_truncated");
        truncated(&row);
        stage.stop().await;
    });
}

#[test]
fn a_stream_without_its_end_is_cut_however_its_connection_ends() {
    run(async {
        let stage = Stage::new().await;
        let events = chat_chunks(&["Hello"], None);
        let only_text = vec![Step::Send(SSE.into()), chunk(&events[0]), Step::Send("0\r\n\r\n".into())];
        stage.play(only_text);
        let (answer, row) = stage.stream().await;
        assert_eq!(last_event(&answer).1["error"]["code"], "upstream_truncated");
        truncated(&row);
        stage.stop().await;
    });
}

#[test]
fn nothing_follows_the_end_of_a_stream() {
    run(async {
        let stage = Stage::with(json!({}), &[("OBLETH_UPSTREAM_IDLE_TIMEOUT_SECS", "1")]).await;
        let events = chat_chunks(&["Hello"], Some((5, 2)));
        for end in [Step::Close, Step::Reset, hang()] {
            let mut script = sse(&events);
            script.pop();
            script.push(end.clone());
            stage.play(script);
            let (answer, row) = stage.stream().await;
            assert!(answer.text().ends_with("data: [DONE]\n\n"), "{end:?}: {}", answer.text());
            assert_eq!((&row["status"], &row["error_code"]), (&json!(200), &json!(null)));
            assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(5), &json!(2)));
        }
        stage.stop().await;
    });
}

#[test]
fn an_error_event_of_the_upstream_passes_and_is_in_the_ledger() {
    run(async {
        let stage = Stage::new().await;
        for (data, status) in [
            (r#"{"error":{"message":"boom","code":429}}"#, 429),
            (r#"{"error":{"message":"boom","code":"500"}}"#, 500),
            (r#"{"error":{"message":"boom"}}"#, 502),
            (r#"{"object":"error","message":"boom","code":400}"#, 400),
        ] {
            let mut events = chat_chunks(&["Hello"], None);
            events.insert(1, format!("data: {data}\n\n"));
            stage.play(sse(&events));
            let (answer, row) = stage.stream().await;
            assert_eq!(answer.text(), events.concat());
            assert_eq!(
                (&row["status"], &row["error_code"]),
                (&json!(status), &json!("upstream_error")),
                "{data}"
            );
            assert_eq!(row["usage_source"], "counted");
        }
        stage.stop().await;
    });
}
