//! Upstreams that fail before or within an answer: what the client sees, and what the ledger says.

use crate::support::{Answer, Stage, Step, TestApp, chat_answer, chat_body, hang, json as json_answer, run};
use serde_json::{Value, json};
use std::net::TcpListener;

const ANSWER: &str =
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}"#;

/// An answer of the gateway's own and its row.
fn refused((answer, row): &(Answer, Value), status: u16, code: &str) {
    assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{}", answer.text());
    assert_eq!((&row["status"], &row["error_code"]), (&json!(status), &json!(code)));
    assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")));
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(0), &json!(0)));
    assert_eq!(row["admission"], "fast");
    assert_eq!(answer.header("x-obleth-admission"), Some("fast"));
}

fn head(status: u16, headers: &[&str]) -> String {
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

#[test]
fn an_upstream_that_cannot_be_reached_is_a_502() {
    run(async {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for base in [format!("http://{free}/v1"), "http://no-such-host.invalid/v1".to_owned()] {
            let app = TestApp::at(&base, &[("OBLETH_UPSTREAM_CONNECT_TIMEOUT_MS", "3000")]).await;
            app.model("m").await;
            let caller = app.caller("acme").await;
            let answer = caller.chat("m").await;
            let row = app.row(answer.header("x-request-id").unwrap()).await;
            refused(&(answer, row), 502, "upstream_unreachable");
            assert_eq!(app.rows().await.len(), 1);
            app.idle().await;
            app.stop().await;
        }
    });
}

#[test]
fn a_silent_upstream_is_a_504_after_the_models_own_time() {
    run(async {
        let stage = Stage::with(json!({"request_timeout_secs": 1}), &[]).await;
        stage.play(vec![hang()]);
        refused(&stage.chat().await, 504, "upstream_timeout");
        refused(&stage.stream().await, 504, "upstream_timeout");
        stage.stop().await;
    });
}

#[test]
fn an_upstream_that_ends_before_its_head_is_a_502() {
    run(async {
        let stage = Stage::new().await;
        for steps in [
            vec![Step::Reset],
            vec![Step::Close],
            vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-ty".into()), Step::Close],
            vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-ty".into()), Step::Reset],
            vec![Step::Send("\x15\x03\x01\0\x02\x02\x28".into()), Step::Close],
            vec![Step::Send("SSH-2.0-OpenSSH_9.2\r\n".into()), Step::Close],
            vec![Step::Send("HTTP/1.1 abc OK\r\n\r\n".into()), Step::Close],
            vec![Step::Send("HTTP/1.1 200 OK\r\nbad header line\r\n\r\n".into()), Step::Close],
        ] {
            let shown = format!("{steps:?}");
            let before = stage.upstream.connections();
            stage.play(steps);
            let outcome = stage.chat().await;
            println!("{shown}");
            refused(&outcome, 502, "upstream_error");
            assert_eq!(
                stage.upstream.connections(),
                before + 1,
                "a fresh connection is not tried again: {shown}"
            );
        }
        stage.stop().await;
    });
}

#[test]
fn a_json_answer_that_is_cut_is_a_502() {
    run(async {
        let stage = Stage::new().await;
        let sized = head(200, &["content-type: application/json", "content-length: 200"]);
        let chunked = head(200, &["content-type: application/json", "transfer-encoding: chunked"]);
        let one = format!("{:x}\r\n{ANSWER}\r\n", ANSWER.len());
        for (start, body) in [
            (&sized, ANSWER.to_owned()),
            (&sized, String::new()),
            (&chunked, one.clone()),
            (&chunked, one[..40].to_owned()),
            (&chunked, String::new()),
            (&chunked, "zz\r\n".to_owned()),
        ] {
            for end in [Step::Close, Step::Reset] {
                let script = [start.as_str(), &body].concat();
                println!("{script:?} {end:?}");
                stage.play(vec![Step::Send(script.into()), end]);
                refused(&stage.chat().await, 502, "upstream_truncated");
            }
        }
        stage.stop().await;
    });
}

#[test]
fn a_success_that_is_no_json_is_a_502() {
    run(async {
        let stage = Stage::new().await;
        for kind in
            ["content-type: application/json", "content-type: text/html", "content-type: text/plain", "x: y"]
        {
            for body in ["<html>Welcome</html>", "", "Hello", "\"Hello\"", "{\"a\":1}{"] {
                println!("{kind} {body:?}");
                let length = format!("content-length: {}", body.len());
                stage.answer(head(200, &[kind, &length]) + body);
                refused(&stage.chat().await, 502, "upstream_error");
            }
        }
        stage.stop().await;
    });
}

#[test]
fn a_redirect_is_a_502_and_is_not_followed() {
    run(async {
        let stage = Stage::new().await;
        for status in [301, 302, 303, 304, 307, 308] {
            let location = format!("location: http://{}/elsewhere", stage.upstream.address);
            stage.answer(head(status, &[&location, "content-length: 0"]));
            let before = stage.upstream.seen().len();
            let outcome = stage.chat().await;
            refused(&outcome, 502, "upstream_error");
            assert_eq!(stage.upstream.seen().len(), before + 1);
            assert_eq!(outcome.0.header("location"), None);
        }
        stage.stop().await;
    });
}

#[test]
fn a_refused_operator_key_is_a_502_and_a_refused_client_key_passes() {
    run(async {
        let body = r#"{"error":{"message":"bad key sk-operator","code":"invalid_api_key"}}"#;
        for status in [401, 403] {
            let stage = Stage::with(json!({"api_key": "sk-operator"}), &[]).await;
            stage.answer(json_answer(status, body));
            let outcome = stage.chat().await;
            refused(&outcome, 502, "upstream_auth");
            assert!(!outcome.0.text().contains("sk-operator"));
            stage.stop().await;

            let stage = Stage::new().await;
            stage.answer(json_answer(status, body));
            let (answer, row) = stage.chat().await;
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            assert_eq!((&row["status"], &row["error_code"]), (&json!(status), &json!("upstream_error")));
            stage.stop().await;
        }
    });
}

#[test]
fn a_model_the_upstream_does_not_know_is_a_404_with_its_own_body() {
    run(async {
        let stage = Stage::new().await;
        for (status, body, told, code) in [
            (400, r#"{"error":{"code":"model_not_found","message":"x"}}"#, 404, "model_not_found"),
            (404, r#"{"error":{"code":"model_not_found"}}"#, 404, "model_not_found"),
            (422, r#"{"code":"model_not_found"}"#, 404, "model_not_found"),
            (400, r#"{"error":{"code":"other","message":"model_not_found"}}"#, 400, "upstream_error"),
            (400, r#"{"error":{"code":400}}"#, 400, "upstream_error"),
            (400, r#"{"error":"model_not_found"}"#, 400, "upstream_error"),
            (404, r#"{"detail":"Not Found"}"#, 404, "upstream_error"),
            (500, r#"{"error":{"code":"model_not_found"}}"#, 500, "upstream_error"),
        ] {
            stage.answer(json_answer(status, body));
            let (answer, row) = stage.chat().await;
            assert_eq!((answer.status, answer.text().as_str()), (told, body));
            assert_eq!((&row["status"], &row["error_code"]), (&json!(told), &json!(code)), "{status} {body}");
        }
        stage.stop().await;
    });
}

#[test]
fn an_upstreams_own_error_passes_with_its_body_and_costs_nothing() {
    run(async {
        let stage = Stage::new().await;
        let body =
            r#"{"error":{"message":"no", "odd":[1, 2]},"usage":{"prompt_tokens":9,"completion_tokens":9}}"#;
        for status in [400, 402, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529] {
            let streamed = status % 2 == 0;
            stage.answer(json_answer(status, body));
            let (answer, row) = if streamed { stage.stream().await } else { stage.chat().await };
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            let waits = matches!(status, 429 | 503);
            assert_eq!(answer.header("retry-after"), waits.then_some("1"), "{status}");
            assert_eq!((&row["status"], &row["error_code"]), (&json!(status), &json!("upstream_error")));
            assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")));
            assert_eq!(row["stream"], streamed);
        }
        stage.answer(head(429, &["retry-after: 17", "content-length: 0"]));
        assert_eq!(stage.chat().await.0.header("retry-after"), Some("17"));
        stage.stop().await;
    });
}

#[test]
fn an_error_without_a_type_or_of_any_type_passes_untouched() {
    run(async {
        let stage = Stage::new().await;
        for kind in [None, Some("text/html"), Some("text/event-stream"), Some("application/octet-stream")] {
            let body = "\u{1}<b>no \r\n\r\n";
            let length = format!("content-length: {}", body.len());
            let line = kind.map(|kind| format!("content-type: {kind}"));
            let headers: Vec<&str> = line.iter().map(String::as_str).chain([length.as_str()]).collect();
            stage.answer(head(500, &headers) + body);
            let (answer, row) = stage.chat().await;
            assert_eq!((answer.status, answer.text().as_str()), (500, body));
            assert_eq!(answer.header("content-type"), kind);
            assert_eq!((&row["status"], &row["error_code"]), (&json!(500), &json!("upstream_error")));
        }
        stage.stop().await;
    });
}

#[test]
fn an_error_over_a_mebibyte_passes_whole_and_is_an_error_in_the_ledger() {
    run(async {
        let stage = Stage::new().await;
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(3 << 20));
        for status in [429, 500] {
            stage.answer(json_answer(status, &body));
            let (answer, row) = stage.chat().await;
            assert_eq!(answer.status, status);
            assert!(answer.text() == body, "the body passes whole");
            assert_eq!((&row["status"], &row["error_code"]), (&json!(status), &json!("upstream_error")));
            assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")));
            assert_eq!(row["input_tokens"], 0);
            assert_eq!(answer.header("retry-after"), (status == 429).then_some("1"));
            assert_eq!(row["bytes_out"], body.len());
        }
        stage.stop().await;
    });
}

#[test]
fn another_success_than_200_is_kept() {
    run(async {
        let stage = Stage::new().await;
        stage.answer(json_answer(201, ANSWER));
        let (answer, row) = stage.chat().await;
        assert_eq!((answer.status, &row["status"], &row["error_code"]), (201, &json!(201), &json!(null)));
        assert_eq!(row["output_tokens"], 3);
        stage.stop().await;
    });
}

#[test]
fn a_stale_pooled_connection_is_tried_again_once_on_a_fresh_one() {
    run(async {
        let stage = Stage::new().await;
        for end in [Step::Close, Step::Reset] {
            // The first answer leaves a connection in the pool; its next request finds it closed.
            let answered = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
            let shared = std::sync::Arc::clone(&answered);
            let upstream = crate::support::Upstream::start(move |seen| {
                if shared.lock().unwrap().insert(seen.connection) {
                    vec![Step::Send(chat_answer(2, 3))]
                } else {
                    vec![end.clone()]
                }
            })
            .await;
            let app = TestApp::start(&upstream).await;
            app.model("m").await;
            let caller = app.caller("acme").await;
            // Each of the two workers has a pool of its own: one kept-alive client connection uses one worker.
            for turn in 0..6 {
                let answer = caller.chat("m").await.expect(200);
                let row = app.row(answer.header("x-request-id").unwrap()).await;
                assert_eq!((&row["status"], &row["output_tokens"]), (&json!(200), &json!(3)), "turn {turn}");
            }
            assert_eq!(app.rows().await.len(), 6);
            assert!(upstream.seen().len() > 6, "a pooled connection was used");
            app.idle().await;
            app.stop().await;
        }
        stage.stop().await;
    });
}

#[test]
fn unknown_fields_of_an_answer_pass_byte_for_byte() {
    run(async {
        let stage = Stage::new().await;
        let body = "{ \"zeta\" :1.50, \"a\":\"\\u00e9\\/\",\n\"choices\":[{\"message\":{\"reasoning_content\":\"x\",\"content\":null}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"x\":{}} ,\"a\":2}  ";
        stage.answer(json_answer(200, body));
        let (answer, row) = stage.chat().await;
        assert_eq!(answer.text(), body);
        assert_eq!(row["usage_source"], "upstream");
        stage.stop().await;
    });
}

#[test]
fn a_large_json_answer_passes_whole_and_its_usage_is_found_at_its_end() {
    run(async {
        let stage = Stage::new().await;
        let vector = "0.123456789,".repeat(262_144);
        let body = format!(
            r#"{{"object":"list","data":[{{"embedding":[{vector}1]}}],"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#
        );
        assert!(body.len() > 3 << 20);
        let chunked = head(200, &["content-type: application/json", "transfer-encoding: chunked"])
            + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        for script in [json_answer(200, &body), chunked.into()] {
            stage.answer(script);
            let (answer, row) = stage.ask("/v1/embeddings", &json!({"model": "m", "input": "x"})).await;
            assert_eq!(answer.status, 200);
            assert!(answer.text() == body, "the body passes whole");
            assert_eq!((&row["input_tokens"], &row["usage_source"]), (&json!(7), &json!("upstream")));
            assert_eq!(row["cost_usd"], "0.0000035");
            assert_eq!((&row["status"], &row["error_code"]), (&json!(200), &json!(null)));
            assert_eq!(row["bytes_out"], body.len());
        }
        stage.stop().await;
    });
}

#[test]
fn a_large_json_answer_that_is_cut_breaks_the_connection() {
    run(async {
        let stage = Stage::new().await;
        let half = format!("{{\"data\":\"{}", "x".repeat(2 << 20));
        let sized = head(200, &["content-type: application/json", "content-length: 3000000"]) + &half;
        let chunked = head(200, &["content-type: application/json", "transfer-encoding: chunked"])
            + &format!("{:x}\r\n{half}\r\n", half.len());
        for (turn, script) in [sized, chunked].into_iter().enumerate() {
            for end in [Step::Close, Step::Reset] {
                let id = format!("cut-{turn}-{end:?}");
                stage.play(vec![Step::Send(script.clone().into()), end]);
                let mut raw = crate::support::Raw::open(stage.app.running.proxy).await;
                let body = chat_body().to_string();
                raw.send(format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: {id}\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
                    stage.caller.credential.as_ref().unwrap(),
                    body.len()
                ))
                .await;
                let answer = raw.answer().await.unwrap();
                // A reset can overtake what was sent before it: then there is an answer of its own.
                let reset = id.ends_with("Reset") && answer.status == 502;
                assert!(!answer.whole || reset, "the client can see that it was cut");
                stage.app.idle().await;
                let row = stage.app.row(&id).await;
                assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_truncated")));
            }
        }
        assert_eq!(stage.app.rows().await.len(), 4);
        stage.stop().await;
    });
}
