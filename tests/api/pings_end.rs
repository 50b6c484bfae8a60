//! How a stream ends whose head has left before the failure came: with one event in the shape of its route,
//! without the mark of a whole answer, and with a row that says what happened.

use crate::support::{Queue, Socket, Step, chat_chunks, json as answer, run, sse, stream_body};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const ROUTES: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];

/// The events after the comments, and the end of the body.
async fn events(socket: &mut Socket) -> String {
    let head = timeout(Duration::from_secs(10), socket.head()).await.expect("a head within 10 s").unwrap();
    assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
    let mut text = String::new();
    loop {
        let chunk = timeout(Duration::from_secs(10), socket.chunk()).await.expect("a chunk within 10 s");
        match chunk.expect("the body ends in good order") {
            end if end.is_empty() => break,
            more => text.push_str(std::str::from_utf8(&more).unwrap()),
        }
    }
    let comments = text.matches(": ping\n\n").count();
    assert!(comments > 0 && text.starts_with(": ping\n\n"), "{text}");
    text.replace(": ping\n\n", "")
}

/// The one event of a failure: `error` in the shape of the route.
fn failure(route: &str, text: &str) -> Value {
    let named = matches!(route, "/v1/responses" | "/v1/messages");
    let data = match named {
        true => text.strip_prefix("event: error\ndata: "),
        false => text.strip_prefix("data: "),
    };
    let data = data.and_then(|data| data.strip_suffix("\n\n")).unwrap_or_else(|| panic!("{route}: {text}"));
    let event: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{route}: {text}"));
    if route == "/v1/responses" { event } else { event["error"].clone() }
}

#[test]
fn a_wait_that_was_too_long_is_an_event_in_the_shape_of_the_route() {
    run(async {
        let limits = [("OBLETH_SSE_PING_SECS", "1"), ("OBLETH_ADMISSION_TIMEOUT_SECS", "2")];
        let queue = Queue::with(&limits, |_| Vec::new()).await;
        let mut waiting = Vec::new();
        for route in ROUTES {
            waiting.push((route, queue.join(route, route, &stream_body()).await));
        }
        for (route, mut socket) in waiting {
            let error = failure(route, &events(&mut socket).await);
            assert_eq!((&error["code"], &error["request_id"]), (&json!("admission_timeout"), &json!(route)));
            assert_eq!(error["source"], "gateway");
            // The connection is whole: it can be used again.
            let key = queue.caller.credential.clone().unwrap();
            socket.send(&format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n\r\n")).await;
            assert!(socket.head().await.unwrap().starts_with("http/1.1 200"));
        }
        assert_eq!(queue.upstream.seen().len(), 1);
        for row in queue.app.rows().await {
            assert_eq!((&row["status"], &row["admission"]), (&json!(503), &json!("rejected")), "{row}");
            assert_eq!((&row["error_code"], &row["bytes_out"]), (&json!("admission_timeout"), &json!(0)));
            assert!(row["queue_ms"].as_u64().unwrap() >= 1800, "{row}");
        }
        let metrics = queue.app.metrics().await;
        let series = r#"obleth_requests_total{route="/v1/responses",status="503",admission="rejected"} 1"#;
        assert!(metrics.lines().any(|line| line == series), "{metrics}");
        queue.stop().await;
    });
}

/// What the client and the ledger see when the upstream answers with `steps` after a wait with comments.
async fn after_a_wait(route: &str, steps: Vec<Step>) -> (String, Value) {
    let pings = [("OBLETH_SSE_PING_SECS", "1")];
    let queue = Queue::with(&pings, move |_| steps.clone()).await;
    let mut socket = queue.join(route, "late", &stream_body()).await;
    assert!(socket.answers().await);
    queue.release();
    let text = events(&mut socket).await;
    queue.app.idle().await;
    let row = queue.app.row("late").await;
    assert_eq!(queue.app.rows().await.len(), 2);
    assert_eq!(row["admission"], "queued");
    queue.stop().await;
    (text, row)
}

#[test]
fn an_upstreams_own_error_keeps_its_words() {
    run(async {
        let body = "{\"error\": {\n \"message\": \"too\\nlong\", \"type\": \"invalid_request_error\",\n \
            \"code\": \"context_length_exceeded\", \"param\": \"messages\"}}";
        for route in ROUTES {
            let (text, row) = after_a_wait(route, vec![Step::Send(answer(400, body))]).await;
            let error = failure(route, &text);
            assert_eq!(error["message"], "too\nlong");
            let code = json!("context_length_exceeded");
            assert_eq!((&error["code"], &error["source"]), (&code, &json!("upstream")));
            assert_eq!((&row["status"], &row["error_code"]), (&json!(400), &json!("upstream_error")));
            assert_eq!(row["cost_usd"], "0");
        }
    });
}

#[test]
fn what_is_no_stream_is_an_error() {
    run(async {
        let route = ROUTES[0];
        let page = "HTTP/1.1 500 X\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
        let (text, row) = after_a_wait(route, vec![Step::Send(page.into())]).await;
        let error = failure(route, &text);
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("upstream_error"), &json!("the upstream answered 500"))
        );
        assert_eq!((&row["status"], &row["error_code"]), (&json!(500), &json!("upstream_error")));

        let missing = answer(400, r#"{"error":{"message":"no","code":"model_not_found"}}"#);
        let (text, row) = after_a_wait(route, vec![Step::Send(missing)]).await;
        assert_eq!(failure(route, &text)["code"], "model_not_found");
        assert_eq!((&row["status"], &row["error_code"]), (&json!(404), &json!("model_not_found")));

        for steps in [
            vec![Step::Send(crate::support::chat_answer(1, 1))],
            vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into())],
            vec![Step::Send(
                "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 2\r\n\r\nok".into(),
            )],
        ] {
            let (text, row) = after_a_wait(route, steps).await;
            assert_eq!(failure(route, &text)["code"], "upstream_error");
            assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_error")));
        }
    });
}

#[test]
fn an_upstream_that_fails_is_an_error() {
    run(async {
        let route = ROUTES[0];
        let (text, row) = after_a_wait(route, vec![Step::Close]).await;
        assert_eq!(failure(route, &text)["code"], row["error_code"]);
        assert_eq!(row["status"], 502);

        let mut cut = sse(&chat_chunks(&["Hello"], None));
        cut.truncate(2);
        cut.push(Step::Close);
        let (text, row) = after_a_wait(route, cut).await;
        let (before, error) = text.split_once("data: {\"error\"").unwrap();
        assert!(before.contains("Hello") && error.contains("upstream_truncated"), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_truncated")));
    });
}

#[test]
fn a_tenant_suspended_while_it_waits_hears_it_in_the_stream() {
    run(async {
        let queue = Queue::with(&[("OBLETH_SSE_PING_SECS", "1")], |_| Vec::new()).await;
        let mut socket = queue.join(ROUTES[0], "late", &stream_body()).await;
        assert!(socket.answers().await);
        let path = format!("/api/v1/tenants/{}", queue.tenant);
        queue.app.admin().patch(&path, &json!({"status": "suspended"})).await.expect(200);
        assert_eq!(failure(ROUTES[0], &events(&mut socket).await)["code"], "tenant_suspended");
        let row = queue.app.row("late").await;
        assert_eq!((&row["status"], &row["admission"]), (&json!(403), &json!("rejected")));
        queue.stop().await;
    });
}

#[test]
fn a_gateway_that_stops_says_so_in_the_stream() {
    run(async {
        let limits = [("OBLETH_SSE_PING_SECS", "1"), ("OBLETH_SHUTDOWN_GRACE_SECS", "1")];
        let queue = Queue::with(&limits, |_| Vec::new()).await;
        let mut socket = queue.join(ROUTES[0], "late", &stream_body()).await;
        assert!(socket.answers().await);
        let Queue { app, .. } = queue;
        let stopping = actix_rt::spawn(app.stop());
        assert_eq!(failure(ROUTES[0], &events(&mut socket).await)["code"], "draining");
        stopping.await.unwrap();
    });
}
