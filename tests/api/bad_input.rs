//! Requests that are wrong: refused in one envelope, forwarded never, and harmless to what comes after.

use crate::support::{Answer, Caller, Raw, TestApp, Upstream, chat_answer, exchange, run, until};
use actix_web::http::Method;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";

struct Stand {
    upstream: Upstream,
    app: TestApp,
    caller: Caller,
    key: String,
}

impl Stand {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(variables: &[(&str, &str)]) -> Self {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::with(&upstream, variables).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let key = caller.credential.clone().unwrap();
        Self { upstream, app, caller, key }
    }

    /// The head of a raw request with the key.
    fn head(&self, first: &str, headers: &[&str]) -> String {
        let mut head = format!("{first} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", self.key);
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }

    /// A refused request is no request to the upstream, leaves nothing behind, and the next one is served.
    async fn finish(self, rows: usize) {
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

#[test]
fn odd_paths_are_not_ours() {
    run(async {
        let stand = Stand::new().await;
        let long = format!("/v1/{}", "a".repeat(20_000));
        let body = r#"{"model":"m","messages":[]}"#;
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/../v1/chat/completions",
            "/v1/./chat/completions",
            "/x/../v1/chat/completions",
            "/v1/%2e%2e/v1/chat/completions",
            "/v1/%2e/chat/completions",
            "/v1/chat%2fcompletions",
            "/v1/chat%2Fcompletions",
            "/v1/chat/%63ompletions",
            "//v1/chat/completions",
            "/v1//chat/completions",
            "/v1/chat/completions/",
            "/v1/chat/completions%00",
            "/v1/chat/completions;x=1",
            "/v1/chat/completions%3fx=1",
            "/v1/chat\\completions",
            "/V1/chat/completions",
            "/v1/CHAT/completions",
            "/v1/audio/../chat/completions",
            "/v1/audio/a/b",
            "/v1/audio/A",
            "/v1/images/..",
            "/v1/files",
            "/v1/fine_tuning/jobs",
            "/v1/load_lora_adapter",
            "/metrics",
            "/api/v1/models",
            "/admin",
            long.as_str(),
        ] {
            let length = format!("content-length: {}", body.len());
            let head = stand.head(&format!("POST {path}"), &["content-type: application/json", &length]);
            let shown = &path[..path.len().min(60)];
            let answer = exchange(stand.app.running.proxy, head + body).await.expect(shown);
            if answer.status == 400 && answer.body.is_empty() {
                // Not even HTTP: the parser refuses it.
                assert!(path.contains('\\'), "{shown}");
                continue;
            }
            assert_eq!((answer.status, answer.error_code().as_str()), (404, "not_found"), "{shown}");
        }
        stand.finish(0).await;
    });
}

#[test]
fn a_target_in_absolute_form_is_the_same_route_and_an_asterisk_is_none() {
    run(async {
        let stand = Stand::new().await;
        let body = r#"{"model":"m","messages":[]}"#;
        let length = format!("content-length: {}", body.len());
        let head = stand.head("POST http://elsewhere:1/v1/chat/completions", &[&length]);
        let answer = exchange(stand.app.running.proxy, head + body).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = stand.upstream.last();
        assert_eq!(sent.target, "/v1/chat/completions");
        assert_eq!(sent.header("host"), Some(stand.upstream.address.to_string().as_str()));
        let head = stand.head("OPTIONS *", &[]);
        let answer = exchange(stand.app.running.proxy, head).await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "not_found"));
        stand.app.stop().await;
    });
}

#[test]
fn a_wrong_method_is_a_405_that_names_the_right_one() {
    run(async {
        let stand = Stand::new().await;
        for (path, allow) in [
            (CHAT, "POST"),
            ("/v1/embeddings", "POST"),
            ("/v1/messages/count_tokens", "POST"),
            ("/v1/audio/speech", "POST"),
            ("/v1/models", "GET"),
            ("/v1/models/m", "GET"),
            ("/health", "GET"),
            ("/ready", "GET"),
        ] {
            for method in
                [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS]
            {
                if method.as_str() == allow {
                    continue;
                }
                let answer = Caller::send(stand.caller.request(method.clone(), path), "").await.expect(405);
                assert_eq!(answer.error_code(), "method_not_allowed", "{method} {path}");
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            }
        }
        stand.finish(0).await;
    });
}

#[test]
fn garbage_on_the_socket_ends_its_connection_and_nothing_else() {
    run(async {
        let stand = Stand::new().await;
        let proxy = stand.app.running.proxy;
        let huge = stand.head("POST /v1/chat/completions", &[&format!("x-huge: {}", "a".repeat(300_000))]);
        let many: Vec<String> = (0..500).map(|number| format!("x-{number}: 1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let many = stand.head("POST /v1/chat/completions", &many);
        let smuggled = stand
            .head("POST /v1/chat/completions", &["content-length: 4", "transfer-encoding: chunked"])
            + "0\r\n\r\nGET /x HTTP/1.1\r\n\r\n";
        let lengths =
            stand.head("POST /v1/chat/completions", &["content-length: 2", "content-length: 5"]) + "{}";
        for garbage in [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"garbage\r\n\r\n".to_vec(),
            b"GET\r\n\r\n".to_vec(),
            b"\0\0\0\0\0\0\r\n\r\n".to_vec(),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_vec(),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n".to_vec(),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_vec(),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
                .to_vec(),
            huge.into_bytes(),
            many.into_bytes(),
            smuggled.into_bytes(),
            lengths.into_bytes(),
        ] {
            let mut raw = Raw::open(proxy).await;
            raw.send(&garbage).await;
            raw.half_close().await;
            if let Some(answer) = raw.answer().await {
                let shown = String::from_utf8_lossy(&garbage[..garbage.len().min(80)]).into_owned();
                assert!((400..500).contains(&answer.status), "{shown}: {answer:?}");
            }
        }
        stand.app.idle().await;
        assert_eq!(stand.upstream.seen().len(), 0, "nothing may be forwarded");
        stand.caller.chat("m").await.expect(200);
        stand.app.stop().await;
    });
}

#[test]
fn the_body_of_a_refused_request_is_never_read_as_another_request() {
    run(async {
        let stand = Stand::new().await;
        let inner = stand.head("POST /v1/chat/completions", &["content-length: 27"])
            + r#"{"model":"m","messages":[]}"#;
        let outer = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk_no\r\ncontent-length: {}\r\n\r\n{inner}",
            inner.len()
        );
        let mut raw = Raw::open(stand.app.running.proxy).await;
        raw.send(outer).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "invalid_api_key"));
        raw.half_close().await;
        if let Some(second) = raw.answer().await {
            panic!("a second answer: {second:?}");
        }
        stand.finish(0).await;
    });
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    run(async {
        let stand = Stand::new().await;
        let body = r#"{"model":"m","messages":[]}"#;
        let good = stand.head("POST /v1/chat/completions", &["content-length: 27"]) + body;
        let bad = stand.head("POST /v1/chat/completions", &["content-length: 2"]) + "{}";
        let mut raw = Raw::open(stand.app.running.proxy).await;
        raw.send(format!("{good}{bad}{good}")).await;
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(raw.answer().await.unwrap().status);
        }
        assert_eq!(statuses, [200, 400, 200]);
        stand.app.idle().await;
        stand.app.stop().await;
    });
}

#[test]
fn a_sane_request_id_is_kept_and_any_other_replaced() {
    run(async {
        let stand = Stand::new().await;
        let longest = "a".repeat(128);
        let too_long = "a".repeat(129);
        for (given, kept) in [
            ("abc-123", true),
            ("~!@#$%^&*()", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("two words", false),
            ("", false),
            ("ä", false),
            ("tab\there", false),
        ] {
            for (path, status) in [(CHAT, 400), ("/v1/models", 405), ("/nowhere", 404)] {
                let id = format!("x-request-id: {given}");
                let head = stand.head(&format!("POST {path}"), &[&id, "content-length: 2"]);
                let answer = exchange(stand.app.running.proxy, head + "{}").await.unwrap();
                assert_eq!(answer.status, status, "{given} {path}");
                answer.error_code();
                let id = answer.header("x-request-id").unwrap();
                assert_eq!(id == given, kept, "{given}: {id}");
                assert!(!id.is_empty() && id.len() <= 128 && id.is_ascii(), "{given}: {id}");
            }
        }
        stand.app.stop().await;
    });
}

#[test]
fn every_answer_has_a_request_id() {
    run(async {
        let stand = Stand::new().await;
        for path in ["/health", "/ready", "/v1/models", "/v1/models/m", "/v1/models/none", "/nowhere"] {
            let answer = stand.caller.get(path).await;
            assert!(answer.header("x-request-id").is_some(), "{path}");
        }
        let admin = stand.app.admin();
        for path in ["/health", "/ready", "/nowhere", "/api/v1/models", "/api/v1/models/m", "/api/v1/nowhere"]
        {
            assert!(
                admin.get(path).await.header("x-request-id").is_some(),
                "{path} of the management listener"
            );
        }
        for path in ["/health", "/ready", "/api/v1/models", "/api/v1/version"] {
            let request = admin.request(Method::DELETE, path);
            let answer = Caller::send(request, "").await.expect(405);
            assert_eq!(answer.error_code(), "method_not_allowed", "{path}");
            assert!(answer.header("allow").is_some(), "{path}");
        }
        stand.finish(0).await;
    });
}
