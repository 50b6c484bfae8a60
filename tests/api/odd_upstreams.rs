//! Upstreams that are odd, yet right; and a mixture of all that can go wrong at once.

use crate::support::{
    Answer, Caller, Raw, Stage, Step, TestApp, Upstream, chat_answer, chat_chunks, hang, json as json_answer,
    run, sse,
};
use actix_web::http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANSWER: &str =
    r#"{"id":"c","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}"#;

fn whole((answer, row): &(Answer, Value)) {
    assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
    assert_eq!(
        (&row["status"], &row["output_tokens"], &row["error_code"]),
        (&json!(200), &json!(3), &json!(null))
    );
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_if_it_is_json() {
    run(async {
        let stage = Stage::new().await;
        for version in ["1.0", "1.1"] {
            for connection in ["", "connection: close\r\n"] {
                let head =
                    format!("HTTP/{version} 200 OK\r\ncontent-type: application/json\r\n{connection}\r\n");
                stage.play(vec![Step::Send([&head, ANSWER].concat().into()), Step::Close]);
                whole(&stage.chat().await);
                let (start, end) = ANSWER.split_at(30);
                stage.play(vec![
                    Step::Send([&head, start].concat().into()),
                    Step::Send(end.into()),
                    Step::Close,
                ]);
                whole(&stage.chat().await);
                stage.play(vec![Step::Send([&head, start].concat().into()), Step::Close]);
                let (answer, row) = stage.chat().await;
                assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_error"));
                assert_eq!(row["error_code"], "upstream_error");
            }
        }
        stage.stop().await;
    });
}

#[test]
fn a_stream_that_ends_with_its_connection_is_whole_if_its_end_was_seen() {
    run(async {
        let stage = Stage::new().await;
        for version in ["1.0", "1.1"] {
            let head =
                format!("HTTP/{version} 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n");
            let events = chat_chunks(&["Hello", " there"], Some((5, 2)));
            let mut steps = vec![Step::Send(head.clone().into())];
            steps.extend(events.iter().map(|event| Step::Send(event.clone().into())));
            steps.push(Step::Close);
            stage.play(steps.clone());
            let (answer, row) = stage.stream().await;
            assert_eq!(answer.text(), [&*events[0], &*events[1], &*events[3]].concat());
            assert_eq!((&row["status"], &row["output_tokens"]), (&json!(200), &json!(2)));
            steps.truncate(3);
            steps.push(Step::Close);
            stage.play(steps);
            let (answer, row) = stage.stream().await;
            assert!(answer.text().contains("upstream_truncated"), "{}", answer.text());
            assert_eq!((&row["status"], &row["error_code"]), (&json!(502), &json!("upstream_truncated")));
        }
        stage.stop().await;
    });
}

#[test]
fn interim_answers_are_not_the_answer() {
    run(async {
        let stage = Stage::new().await;
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
        let body = String::from_utf8(json_answer(200, ANSWER).to_vec()).unwrap();
        stage.answer(format!("{interim}{body}"));
        whole(&stage.chat().await);
        stage.play(vec![Step::Send(interim.into()), Step::Send(body.clone().into())]);
        whole(&stage.chat().await);
        // A head that comes byte by byte.
        stage.play(body.bytes().map(|byte| Step::Send(vec![byte].into())).collect());
        whole(&stage.chat().await);
        stage.stop().await;
    });
}

#[test]
fn lengths_that_contradict_each_other_are_a_502() {
    run(async {
        let stage = Stage::new().await;
        for lengths in [
            "content-length: 90\r\ncontent-length: 91\r\n",
            "content-length: -1\r\n",
            "content-length: x\r\n",
            "transfer-encoding: gzip\r\n",
        ] {
            stage.play(vec![
                Step::Send(
                    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{lengths}\r\n{ANSWER}")
                        .into(),
                ),
                Step::Close,
            ]);
            let (answer, row) = stage.chat().await;
            assert_eq!((answer.status, &row["status"]), (502, &json!(502)), "{lengths}");
            answer.error_code();
        }
        stage.stop().await;
    });
}

#[test]
fn what_follows_an_answer_is_never_the_next_answer() {
    run(async {
        let stage = Stage::new().await;
        let poison = json_answer(200, r#"{"poison":true,"usage":{"prompt_tokens":1,"completion_tokens":1}}"#);
        for again in 0..10 {
            let clean = json_answer(200, ANSWER);
            stage.answer([clean, poison.clone()].concat());
            let (answer, _) = stage.chat().await;
            assert_eq!(answer.text(), ANSWER, "{again}");
        }
        for _ in 0..10 {
            let late = vec![Step::Send(json_answer(200, ANSWER)), Step::Send(poison.clone())];
            stage.play(late);
            assert_eq!(stage.chat().await.0.text(), ANSWER);
        }
        stage.stop().await;
    });
}

#[test]
fn an_encoded_answer_passes_as_it_is_and_is_estimated() {
    run(async {
        let stage = Stage::new().await;
        let bytes: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03not really gzip\0\xff";
        for kind in ["application/json", "text/event-stream"] {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                bytes.len()
            );
            stage.answer([head.as_bytes(), bytes].concat());
            let (answer, row) = if kind.contains("json") { stage.chat().await } else { stage.stream().await };
            assert_eq!((answer.status, &answer.body[..]), (200, bytes), "{kind}");
            assert_eq!(answer.header("content-encoding"), Some("gzip"));
            assert_eq!((&row["status"], &row["error_code"]), (&json!(200), &json!(null)), "{kind}");
            assert_ne!(row["usage_source"], "none");
            assert_eq!(stage.upstream.last().header("accept-encoding"), None);
        }
        stage.stop().await;
    });
}

#[test]
fn a_key_in_the_operators_headers_is_the_operators() {
    run(async {
        for header in ["Authorization", "api-key"] {
            let stage = Stage::with(json!({"upstream_headers": {header: "op"}}), &[]).await;
            stage.answer(json_answer(401, r#"{"error":{"message":"bad key op"}}"#));
            let (answer, row) = stage.chat().await;
            assert_eq!((answer.status, answer.error_code().as_str()), (502, "upstream_auth"));
            assert_eq!(row["error_code"], "upstream_auth");
            stage.stop().await;
        }
    });
}

#[test]
fn a_large_request_changes_in_its_model_alone() {
    run(async {
        let stage = Stage::with(json!({"upstream_model": "an \"odd\" \\ name"}), &[]).await;
        stage.answer(json_answer(200, ANSWER));
        let text = "lorem \\u00e9 ipsum ".repeat(1 << 20);
        let body = |model: &str| {
            format!("{{ \"messages\":[{{\"content\":\"{text}\"}}], \"x\":1.0e2,\"model\" : {model} }}\n")
        };
        let answer = stage.caller.post_text("/v1/chat/completions", body("\"\\u006d\"")).await.expect(200);
        stage.row_of(&answer).await;
        assert!(stage.upstream.last().body == body(r#""an \"odd\" \\ name""#));
        // Chunked, as some clients send everything.
        let request = stage.caller.request(Method::POST, "/v1/chat/completions");
        let pieces: Vec<Result<bytes::Bytes, std::io::Error>> = body("\"m\"")
            .into_bytes()
            .chunks(100_000)
            .map(|piece| Ok(bytes::Bytes::copy_from_slice(piece)))
            .collect();
        let answer = request.send_stream(futures_util::stream::iter(pieces)).await.unwrap();
        assert_eq!(answer.status(), 200);
        let sent = stage.upstream.last();
        assert!(sent.body == body(r#""an \"odd\" \\ name""#));
        assert_eq!(sent.header("transfer-encoding"), None);
        stage.stop().await;
    });
}

#[test]
fn the_clients_stream_options_are_kept_but_for_the_usage() {
    run(async {
        let stage = Stage::new().await;
        for (options, sent) in [
            (json!(null), json!({"include_usage": true})),
            (json!({}), json!({"include_usage": true})),
            (json!({"include_usage": false}), json!({"include_usage": true})),
            (json!({"include_usage": null, "x": [1]}), json!({"include_usage": true, "x": [1]})),
            (json!({"include_usage": true, "x": 1}), json!({"include_usage": true, "x": 1})),
        ] {
            let events = chat_chunks(&["Hello"], Some((5, 2)));
            stage.play(sse(&events));
            let body = json!({"model": "m", "stream": true, "messages": [], "stream_options": options});
            let (answer, row) = stage.ask("/v1/chat/completions", &body).await;
            assert_eq!(stage.upstream.last().json()["stream_options"], sent, "{options}");
            let asked = options["include_usage"] == true;
            assert_eq!(answer.text().contains("prompt_tokens"), asked, "{options}");
            assert_eq!(row["usage_source"], "upstream");
        }
        stage.stop().await;
    });
}

#[test]
fn a_client_of_http_1_0_or_one_that_waits_to_continue_is_served() {
    run(async {
        let stage = Stage::new().await;
        stage.answer(json_answer(200, ANSWER));
        let key = stage.caller.credential.clone().unwrap();
        let body = r#"{"model":"m","messages":[]}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.0\r\nx-api-key: {key}\r\ncontent-length: 27\r\n\r\n{body}"
        );
        let mut raw = Raw::open(stage.app.running.proxy).await;
        raw.send(head).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, ANSWER));
        assert!(raw.ended().await);

        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nexpect: 100-continue\r\ncontent-length: 27\r\n\r\n"
        );
        let mut raw = Raw::open(stage.app.running.proxy).await;
        raw.send(head).await;
        assert_eq!(raw.answer().await.unwrap().status, 100);
        raw.send(body).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        assert_eq!(stage.upstream.last().header("expect"), None);
        stage.stop().await;
    });
}

/// Reads the head of a request, answers at once and closes without reading the body.
async fn hasty(answer: bytes::Bytes) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_rt::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut start = [0; 64];
            if socket.read_exact(&mut start).await.is_ok() {
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            }
        }
    });
    address
}

#[test]
fn an_upstream_that_refuses_a_large_body_before_it_has_read_it_is_heard() {
    run(async {
        let address = hasty(json_answer(413, r#"{"error":{"message":"too large"}}"#)).await;
        let app = TestApp::at(&format!("http://{address}"), &[]).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let body = format!(r#"{{"model":"m","messages":[{{"content":"{}"}}]}}"#, "x".repeat(30 << 20));
        let answer = caller.post_text("/v1/chat/completions", body).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        assert_eq!(app.rows().await[0]["status"], 413);
        app.idle().await;
        app.stop().await;
    });
}

/// What each of many concurrent requests is answered with.
fn mixture(number: usize) -> Vec<Step> {
    let mut cut = sse(&chat_chunks(&["Hello", " there"], None));
    cut.truncate(2);
    cut.push(Step::Close);
    match number % 9 {
        0 | 1 => vec![Step::Send(chat_answer(10, 5))],
        2 => sse(&chat_chunks(&["Hello"], Some((10, 5)))),
        3 => cut,
        4 => vec![Step::Reset],
        5 => vec![Step::Close],
        6 => vec![Step::Send(json_answer(500, "{}"))],
        7 => vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".into()), Step::Close],
        _ => vec![hang()],
    }
}

#[test]
fn among_many_faults_each_request_has_one_row_and_every_seat_comes_back() {
    run(async {
        let upstream = Upstream::start(|seen| {
            let number = seen.json()["number"].as_u64().unwrap();
            mixture(usize::try_from(number).unwrap())
        })
        .await;
        // Most of them fail: each is to be sent all the same.
        let variables = [("OBLETH_GLOBAL_MAX_IN_FLIGHT", "16"), ("OBLETH_BREAKER_FAILURES", "0")];
        let app = TestApp::with(&upstream, &variables).await;
        app.model_with(json!({"model_name": "m", "request_timeout_secs": 1})).await;
        let caller = app.caller("acme").await;
        let ask = async |number: usize| {
            let body =
                json!({"model": "m", "messages": [], "number": number, "stream": number.is_multiple_of(2)});
            let request = caller
                .request(Method::POST, "/v1/chat/completions")
                .insert_header(("x-request-id", format!("n{number}")));
            match request.send_body(body.to_string()).await {
                Ok(mut answer) => {
                    let _ = answer.body().limit(1 << 20).await;
                    answer.status().as_u16()
                }
                Err(error) => panic!("{number}: {error}"),
            }
        };
        let statuses = futures_util::future::join_all((0..180).map(ask)).await;
        app.idle().await;
        let rows = app.rows().await;
        assert_eq!(rows.len(), 180);
        let mut output = 0;
        for row in &rows {
            let number: usize = row["request_id"].as_str().unwrap()[1..].parse().unwrap();
            let expected = match number % 9 {
                0..=2 => 200,
                3..=5 | 7 => 502,
                6 => 500,
                _ => 504,
            };
            assert_eq!(row["status"], expected, "{number}: {row}");
            // The head of a stream was sent before it was cut.
            let told = if number % 9 == 3 { 200 } else { expected };
            assert_eq!(statuses[number], told, "{number}");
            output += row["output_tokens"].as_i64().unwrap();
        }
        let whole = 60 * 5;
        assert!(output >= whole, "{output}");
        let metrics = app.metrics().await;
        assert!(metrics.contains("obleth_in_flight{model=\"m\"} 0"), "{metrics}");
        Caller::send(caller.request(Method::GET, "/health"), "").await.expect(200);
        app.stop().await;
    });
}
