//! Which headers pass, in both directions (contract §2), and how a base and a path are joined.

use crate::support::{
    Caller, Raw, RawAnswer, Stage, TestApp, Upstream, chat_answer, chat_body, exchange, run,
};
use actix_web::http::Method;
use serde_json::json;

const CHAT: &str = "/v1/chat/completions";

/// Posts a chat completion with these headers; no others but `host` and `content-length` are sent.
async fn send(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> RawAnswer {
    let body = chat_body().to_string();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: client.example\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    exchange(stage.app.running.proxy, request + "\r\n" + &body).await.expect("an answer")
}

fn bearer(stage: &Stage) -> String {
    format!("Bearer {}", stage.caller.credential.as_ref().unwrap())
}

async fn stage(model: serde_json::Value, variables: &[(&str, &str)]) -> Stage {
    let stage = Stage::with(model, variables).await;
    stage.answer(chat_answer(1, 1));
    stage
}

#[test]
fn a_clients_authorization_passes_as_it_came() {
    run(async {
        let stage = stage(json!({}), &[]).await;
        let (bearer, key) = (bearer(&stage), stage.caller.credential.clone().unwrap());
        send(&stage, CHAT, &[("Authorization", &bearer)]).await;
        assert_eq!(stage.upstream.last().header("authorization"), Some(bearer.as_str()));
        let odd = format!("bEARER   {key}");
        assert_eq!(send(&stage, CHAT, &[("Authorization", &odd)]).await.status, 200);
        assert_eq!(stage.upstream.last().header("authorization"), Some(odd.as_str()));
        send(&stage, CHAT, &[("authorization", "Bearer other"), ("x-api-key", &key)]).await;
        assert_eq!(stage.upstream.last().header("authorization"), Some("Bearer other"));
        send(&stage, CHAT, &[("x-api-key", &key)]).await;
        let sent = stage.upstream.last();
        assert_eq!((sent.header("authorization"), sent.header("x-api-key")), (None, None));
        stage.stop().await;
    });
}

#[test]
fn the_operators_key_takes_the_place_of_the_clients() {
    run(async {
        let stage = stage(json!({"api_key": "operator"}), &[]).await;
        let (bearer, key) = (bearer(&stage), stage.caller.credential.clone().unwrap());
        for headers in [vec![("authorization", bearer.as_str())], vec![("x-api-key", &key)]] {
            send(&stage, CHAT, &headers).await;
            let sent = stage.upstream.last();
            assert_eq!(sent.header("authorization"), Some("Bearer operator"));
            assert!(sent.headers.values().all(|value| !value.contains(&key)));
        }
        stage.stop().await;
    });
}

#[test]
fn forwarding_of_authorization_can_be_switched_off() {
    run(async {
        let stage = stage(json!({}), &[("OBLETH_FORWARD_AUTHORIZATION", "false")]).await;
        send(&stage, CHAT, &[("authorization", &bearer(&stage))]).await;
        assert_eq!(stage.upstream.last().header("authorization"), None);
        stage.stop().await;
    });
}

#[test]
fn hop_by_hop_and_steering_headers_never_pass_from_a_client() {
    run(async {
        let stage = stage(json!({}), &[]).await;
        let bearer = bearer(&stage);
        let kept_back = [
            ("user", "u"),
            ("routing-strategy", "random"),
            ("config-profile", "p"),
            ("external-filter", "f"),
            ("x-session-id", "session-1"),
            ("x-aibrix-session-key", "k"),
            ("model", "other"),
            ("target-pod", "10.0.0.1:8000"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x-t"),
            ("x-named", "1"),
            ("x-named-too", "1"),
            ("X-Api-Key", "sk_other"),
        ];
        let mut headers =
            vec![("authorization", bearer.as_str()), ("connection", "X-Named, keep-alive ,x-named-too")];
        headers.extend(kept_back);
        let answer = send(&stage, CHAT, &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = stage.upstream.last();
        for (name, _) in kept_back {
            assert_eq!(sent.header(&name.to_ascii_lowercase()), None, "{name}");
        }
        assert_ne!(sent.header("host"), Some("client.example"));
        let row = stage.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!(row["session_id"], "session-1");
        stage.stop().await;
    });
}

#[test]
fn other_headers_pass_and_none_is_invented() {
    run(async {
        let stage = stage(json!({}), &[]).await;
        let bearer = bearer(&stage);
        let passing = [
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b"),
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "text/event-stream"),
            ("openai-organization", "org"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "x"),
            ("user-agent", "OpenAI/Python"),
            ("x-stainless-lang", "python"),
            ("x-forwarded-for", "10.1.2.3"),
            ("cookie", "a=b; c=d"),
            ("x-request-id", "client-1"),
        ];
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(passing);
        let answer = send(&stage, CHAT, &headers).await;
        assert_eq!(answer.header("x-request-id"), Some("client-1"));
        let sent = stage.upstream.last();
        for (name, value) in passing {
            assert_eq!(sent.header(name), Some(value), "{name}");
        }
        let mut names: Vec<&str> = sent.headers.keys().map(String::as_str).collect();
        names.retain(|name| !passing.iter().any(|(passing, _)| passing == name));
        // The HTTP library dates each message.
        assert_eq!(names, ["authorization", "content-length", "date", "host"]);

        let answer = send(&stage, CHAT, &[("authorization", &bearer)]).await;
        let sent = stage.upstream.last();
        assert_eq!(sent.header("x-request-id"), answer.header("x-request-id"), "a made id is forwarded too");
        assert_eq!((sent.header("user-agent"), sent.header("content-type")), (None, None));
        stage.stop().await;
    });
}

#[test]
fn the_operators_headers_reach_the_upstream_and_win() {
    run(async {
        let headers = json!({"routing-strategy": "least-request", "X-Team": "ops", "user": "obleth"});
        let stage = stage(json!({"upstream_headers": headers}), &[]).await;
        let bearer = bearer(&stage);
        send(&stage, CHAT, &[("authorization", &bearer), ("x-team", "mine"), ("user", "me")]).await;
        let sent = stage.upstream.last();
        assert_eq!(sent.header("routing-strategy"), Some("least-request"));
        assert_eq!((sent.header("x-team"), sent.header("user")), (Some("ops"), Some("obleth")));
        stage.stop().await;
    });
}

#[test]
fn an_upstreams_own_headers_pass_and_those_of_its_layer_do_not() {
    run(async {
        let stage = Stage::new().await;
        let body = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        let gone = [
            ("target-pod", "10.0.0.7:8000"),
            ("target-pod-name", "p"),
            ("x-error-routing", "1"),
            ("x-error-no-model-backends", "1"),
            ("x-went-into-req-headers", "true"),
            ("x-update-rpm", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("trailer", "x"),
            ("x-hop", "1"),
            ("x-obleth-admission", "forged"),
            ("x-obleth-max-tokens", "9"),
        ];
        let kept = [
            ("content-type", "application/json"),
            ("server", "uvicorn"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("openai-processing-ms", "12"),
            ("x-ratelimit-remaining-upstream", "3"),
            ("cache-control", "no-cache"),
        ];
        for status in [200, 400] {
            let mut head =
                format!("HTTP/1.1 {status} X\r\nconnection: x-hop\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n");
            for (name, value) in gone.iter().chain(&kept) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str(&format!(
                "x-request-id: upstreams\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
            stage.answer(head);
            let answer = send(
                &stage,
                CHAT,
                &[("authorization", &bearer(&stage)), ("x-request-id", &format!("r{status}"))],
            )
            .await;
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            for (name, value) in gone {
                assert_ne!(answer.header(name), Some(value), "{name}");
            }
            for (name, value) in kept {
                assert_eq!(answer.header(name), Some(value), "{name}");
            }
            let cookies: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
            assert_eq!(cookies.len(), 2, "{cookies:?}");
            let ids: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "x-request-id").collect();
            assert_eq!(ids.len(), 1, "{ids:?}");
            assert_eq!(answer.header("x-request-id"), Some(format!("r{status}").as_str()));
            assert_eq!(stage.app.row(&format!("r{status}")).await["target_pod"], "10.0.0.7:8000");
        }
        stage.stop().await;
    });
}

#[test]
fn an_upstreams_wish_to_close_its_connection_is_not_the_clients_concern() {
    run(async {
        let stage = Stage::new().await;
        let body = r#"{"choices":[]}"#;
        stage.answer(format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        let request = chat_body().to_string();
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\ncontent-length: {}\r\n\r\n{request}",
            bearer(&stage),
            request.len()
        );
        let mut raw = Raw::open(stage.app.running.proxy).await;
        for _ in 0..3 {
            raw.send(&request).await;
            assert_eq!(raw.answer().await.expect("the same connection").status, 200);
        }
        stage.stop().await;
    });
}

#[test]
fn a_base_with_and_without_v1_and_with_a_path_gets_each_route_once() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        let caller = app.caller("acme").await;
        let address = upstream.address;
        for (number, (base, target)) in [
            (format!("http://{address}"), CHAT.to_owned()),
            (format!("http://{address}/"), CHAT.to_owned()),
            (format!("http://{address}/v1"), CHAT.to_owned()),
            (format!("http://{address}/v1/"), CHAT.to_owned()),
            (format!("http://{address}/openai"), format!("/openai{CHAT}")),
            (format!("http://{address}/openai/v1"), format!("/openai{CHAT}")),
            (format!("http://{address}/v1/v1"), format!("/v1{CHAT}")),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("m{number}");
            app.model_with(json!({"model_name": name, "api_base": base})).await;
            caller.chat(&name).await.expect(200);
            assert_eq!(upstream.last().target, target, "{base}");
        }
        app.stop().await;
    });
}

#[test]
fn a_query_passes_as_it_came() {
    run(async {
        let stage = stage(json!({}), &[]).await;
        for query in ["?api-version=2024-02-01", "?a=%2F..%2f&b=%20+&a=1", "?", "?x=[1]"] {
            let answer = send(&stage, &format!("{CHAT}{query}"), &[("authorization", &bearer(&stage))]).await;
            assert_eq!(answer.status, 200, "{query}: {}", answer.text());
            let expected = if query == "?" { CHAT.to_owned() } else { format!("{CHAT}{query}") };
            assert_eq!(stage.upstream.last().target, expected);
        }
        stage.stop().await;
    });
}

#[test]
fn an_answer_says_how_it_was_admitted() {
    run(async {
        let stage = stage(json!({}), &[]).await;
        let answer = stage.caller.chat("m").await.expect(200);
        assert_eq!(answer.header("x-obleth-admission"), Some("fast"));
        assert_eq!(answer.header("x-obleth-queue-ms"), Some("0"));
        assert_eq!(answer.header("x-obleth-cache"), Some("off"));
        let refused = stage.caller.chat("none").await.expect(404);
        assert_eq!(refused.header("x-obleth-admission"), None);
        let body = json!({"model": "m", "messages": []});
        let free = stage.caller.post("/v1/messages/count_tokens", &body).await.expect(200);
        assert_eq!(free.header("x-obleth-admission"), None, "no seat was asked for");
        let listed = Caller::send(stage.caller.request(Method::GET, "/v1/models"), "").await.expect(200);
        assert_eq!(listed.header("x-obleth-admission"), None);
        stage.stop().await;
    });
}
