//! Requests that are wrong: refused in one envelope, forwarded never, and harmless to what comes after.

use crate::support::{Answer, Caller, Raw, TestApp, Upstream, chat_answer, run, until};
use actix_web::http::Method;
use serde_json::json;

pub const CHAT: &str = "/v1/chat/completions";

/// A gateway with a model `m`, a key, and an upstream that nothing may reach.
pub struct Stand {
    pub upstream: Upstream,
    pub app: TestApp,
    pub caller: Caller,
    pub key: String,
}

impl Stand {
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    pub async fn with(variables: &[(&str, &str)]) -> Self {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::with(&upstream, variables).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let key = caller.credential.clone().unwrap();
        Self { upstream, app, caller, key }
    }

    /// The head of a raw request with the key.
    pub fn head(&self, first: &str, headers: &[&str]) -> String {
        let mut head = format!("{first} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", self.key);
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }

    /// A refused request is no request to the upstream, leaves nothing behind, and the next one is served.
    pub async fn finish(self, rows: usize) {
        self.app.idle().await;
        assert_eq!(self.upstream.seen().len(), 0, "nothing may be forwarded");
        assert_eq!(self.app.rows().await.len(), rows);
        self.caller.chat("m").await.expect(200);
        self.app.idle().await;
        self.app.stop().await;
    }
}

fn param(answer: &Answer) -> String {
    answer.json()["error"]["param"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_body_is_a_typed_400_and_reaches_no_upstream() {
    run(async {
        let stand = Stand::new().await;
        let deep = format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let unclosed = format!("{{\"model\":\"m\",\"x\":{}", "[".repeat(100_000));
        let bodies: &[(&[u8], &str, &str)] = &[
            (b"", "invalid_request", ""),
            (b"   \n", "invalid_request", ""),
            (b"{", "invalid_request", ""),
            (b"{\"model\":\"m\"", "invalid_request", ""),
            (b"{\"model\":\"m\",}", "invalid_request", ""),
            (b"{'model':'m'}", "invalid_request", ""),
            (b"{\"model\":\"m\"} x", "invalid_request", ""),
            (b"{\"model\":\"m\"}{}", "invalid_request", ""),
            (b"\xef\xbb\xbf{\"model\":\"m\"}", "invalid_request", ""),
            (b"{\"model\":\"m\",\"x\":\"\xff\xfe\"}", "invalid_request", ""),
            (b"{\"model\":\"m\",\"x\":\"\x01\"}", "invalid_request", ""),
            (b"{\"model\":\"m\",\"x\":NaN}", "invalid_request", ""),
            (b"{\"model\":\"m\\ud800\"}", "invalid_request", "model"),
            (b"[]", "invalid_request", ""),
            (b"null", "invalid_request", ""),
            (b"\"m\"", "invalid_request", ""),
            (b"1", "invalid_request", ""),
            (b"\0\0\0\0", "invalid_request", ""),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "invalid_request", ""),
            (b"model=m", "invalid_request", ""),
            (deep.as_bytes(), "invalid_request", ""),
            (unclosed.as_bytes(), "invalid_request", ""),
            (b"{}", "model_required", "model"),
            (b"{\"model\":null}", "model_required", "model"),
            (b"{\"messages\":[]}", "model_required", "model"),
            (b"{\"model\":1}", "invalid_request", "model"),
            (b"{\"model\":true}", "invalid_request", "model"),
            (b"{\"model\":[\"m\"]}", "invalid_request", "model"),
            (b"{\"model\":{\"m\":1}}", "invalid_request", "model"),
            (b"{\"model\":\"\"}", "invalid_request", "model"),
            (b"{\"model\":\"m\",\"model\":\"m\"}", "invalid_request", "model"),
            (b"{\"model\":\"m\",\"mod\\u0065l\":\"n\"}", "invalid_request", "model"),
            (b"{\"model\":null,\"model\":\"m\"}", "invalid_request", "model"),
            (b"{\"model\":\"m\",\"Model\":\"n\"}", "invalid_request", "model"),
            (b"{\"model\":\"m\",\"stream\":\"true\"}", "invalid_request", "stream"),
            (b"{\"model\":\"m\",\"stream\":1}", "invalid_request", "stream"),
            (b"{\"model\":\"m\",\"stream\":true,\"stream\":false}", "invalid_request", "stream"),
            (b"{\"model\":\"m\",\"stream_options\":[]}", "invalid_request", "stream_options"),
            (
                b"{\"model\":\"m\",\"stream_options\":{\"include_usage\":1}}",
                "invalid_request",
                "stream_options.include_usage",
            ),
            (b"{\"model\":\"m\",\"max_tokens\":\"5\"}", "invalid_request", "max_tokens"),
            (b"{\"model\":\"m\",\"max_tokens\":-1}", "invalid_request", "max_tokens"),
            (b"{\"model\":\"m\",\"max_tokens\":1.5}", "invalid_request", "max_tokens"),
            (b"{\"model\":\"m\",\"max_tokens\":99999999999999999999}", "invalid_request", "max_tokens"),
            (b"{\"model\":\"m\",\"max_tokens\":1,\"max_tokens\":2}", "invalid_request", "max_tokens"),
            (b"{\"model\":\"m\",\"max_completion_tokens\":{}}", "invalid_request", "max_completion_tokens"),
            (b"{\"model\":\"m\",\"n\":0}", "invalid_request", "n"),
            (b"{\"model\":\"m\",\"n\":129}", "invalid_request", "n"),
            (b"{\"model\":\"m\",\"n\":\"2\"}", "invalid_request", "n"),
            (b"{\"model\":\"m\",\"n\":-1}", "invalid_request", "n"),
            (b"{\"model\":\"m\",\"messages\":\"hello\"}", "invalid_request", "messages"),
            (b"{\"model\":\"m\",\"messages\":{}}", "invalid_request", "messages"),
        ];
        for (body, code, field) in bodies {
            let answer = stand.caller.post_text(CHAT, body.to_vec()).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
            assert_eq!((answer.error_code().as_str(), param(&answer).as_str()), (*code, *field), "{shown}");
            let row = stand.app.row(answer.header("x-request-id").unwrap()).await;
            assert_eq!((&row["status"], &row["error_code"]), (&json!(400), &json!(code)), "{shown}");
            assert_eq!((&row["usage_source"], &row["cost_usd"]), (&json!("none"), &json!("0")), "{shown}");
        }
        stand.finish(bodies.len()).await;
    });
}

#[test]
fn an_unknown_model_is_a_404_and_its_name_is_not_shown_back() {
    run(async {
        let stand = Stand::new().await;
        for model in ["nope", "M", "m ", "../m", "m\u{0}", "модель"] {
            let answer = stand.caller.chat(model).await.expect(404);
            assert_eq!(answer.error_code(), "model_not_found");
            assert_eq!(param(&answer), "model");
        }
        stand.finish(6).await;
    });
}

#[test]
fn a_compressed_body_is_refused() {
    run(async {
        let stand = Stand::new().await;
        let request = stand.caller.request(Method::POST, CHAT).insert_header(("content-encoding", "gzip"));
        let answer =
            Caller::send(request, &b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV\xcaMLI\x05\0"[..]).await.expect(400);
        assert_eq!(answer.error_code(), "invalid_request");
        stand.finish(1).await;
    });
}

#[test]
fn an_announced_body_too_large_is_refused_before_it_is_read() {
    run(async {
        let stand = Stand::new().await;
        for length in [(65 << 20).to_string(), u64::MAX.to_string()] {
            let length = format!("content-length: {length}");
            let head = stand.head("POST /v1/chat/completions", &["content-type: application/json", &length]);
            let mut raw = Raw::open(stand.app.running.proxy).await;
            raw.send(head).await;
            let answer = raw.answer().await.expect("an answer although no byte of the body was sent");
            assert_eq!((answer.status, answer.error_code().as_str()), (413, "body_too_large"));
            assert!(raw.ended().await, "the connection cannot be used again");
        }
        stand.finish(2).await;
    });
}

#[test]
fn a_chunked_body_too_large_is_refused_once_it_is() {
    run(async {
        let stand = Stand::with(&[("OBLETH_MAX_BODY_BYTES", "1048576")]).await;
        let head = stand.head(
            "POST /v1/chat/completions",
            &["content-type: application/json", "transfer-encoding: chunked"],
        );
        let mut raw = Raw::open(stand.app.running.proxy).await;
        raw.send(head).await;
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(65_536));
        for _ in 0..17 {
            raw.send(&chunk).await;
        }
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (413, "body_too_large"));
        stand.finish(1).await;
    });
}

#[test]
fn a_body_of_exactly_the_limit_passes() {
    run(async {
        let stand = Stand::with(&[("OBLETH_MAX_BODY_BYTES", "1048576")]).await;
        let mut body = r#"{"model":"m","messages":[],"x":""#.to_owned();
        body.push_str(&"a".repeat((1 << 20) - body.len() - 2));
        body.push_str("\"}");
        assert_eq!(body.len(), 1 << 20);
        stand.caller.post_text(CHAT, body.clone()).await.expect(200);
        assert_eq!(
            stand.upstream.last().body,
            body.as_bytes(),
            "a body in which nothing changes passes as it is"
        );
        body.push(' ');
        let answer = stand.caller.post_text(CHAT, body).await.expect(413);
        assert_eq!(answer.error_code(), "body_too_large");
        stand.app.stop().await;
    });
}

#[test]
fn a_client_that_leaves_within_its_body_leaves_one_row() {
    run(async {
        let stand = Stand::new().await;
        let head = stand.head("POST /v1/chat/completions", &["content-length: 100"]);
        for half in [true, false] {
            let mut raw = Raw::open(stand.app.running.proxy).await;
            raw.send(format!("{head}{{\"model\":1")).await;
            until("the request has arrived", async || {
                (stand.app.running.gateway.running() == 1).then_some(())
            })
            .await;
            if half {
                raw.half_close().await;
                raw.answer().await;
            }
            drop(raw);
            stand.app.idle().await;
        }
        let rows = stand.app.rows().await;
        let endings: Vec<_> = rows.iter().map(|row| row["status"].as_i64().unwrap()).collect();
        assert!(endings.iter().all(|status| [400, 499].contains(status)), "{endings:?}");
        stand.finish(2).await;
    });
}
