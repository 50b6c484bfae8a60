//! Requests that are odd on the wire: paths, methods, garbage, request ids.

use crate::bad_input::{CHAT, Stand};
use crate::support::{Caller, Raw, exchange, run};
use actix_web::http::Method;

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
fn a_body_in_broken_chunks_is_a_bad_request_and_not_a_client_that_left() {
    run(async {
        let stand = Stand::new().await;
        for body in ["zz\r\nabc", "fffffffffffffffff\r\n", "3\r\nabcX"] {
            let head = stand.head("POST /v1/chat/completions", &["transfer-encoding: chunked"]);
            let answer = exchange(stand.app.running.proxy, head + body).await.unwrap();
            assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_request"), "{body:?}");
        }
        stand.finish(3).await;
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
