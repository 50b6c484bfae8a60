//! What neither clients nor servers should say.

use super::{gateway, rows, rpc_error, with_server};
use crate::support::{Caller, FakeMcp, McpClient, Seen, Step, Upstream, exchange, modern, post, run};
use actix_web::http::Method;
use serde_json::json;

/// A server without sessions that offers one tool and answers a call with this.
async fn answers_calls_with(status: u16, kind: &'static str, body: &'static str) -> Upstream {
    Upstream::start(move |seen: &Seen| {
        let asked = seen.json();
        let id = &asked["id"];
        let (status, kind, body) = match asked["method"].as_str() {
            Some("server/discover") => {
                let result = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"]});
                (200, "application/json", json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
            }
            Some("tools/list") => {
                let result = json!({"resultType": "complete", "tools": [{"name": "t"}], "ttlMs": 60000});
                (200, "application/json", json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
            }
            _ => (status, kind, body.to_owned()),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
        vec![Step::Send(format!("{head}{body}").into())]
    })
    .await
}

#[test]
fn on_the_merged_endpoint_only_an_answer_is_an_answer() {
    run(async {
        let (json, events) = ("application/json", "text/event-stream");
        let app = gateway().await;
        let caller = app.caller("t").await;
        for (name, status, kind, body, told) in [
            ("good", 200, json, r#"{"jsonrpc":"2.0","id":"\u0061","result":{"resultType":"complete"}}"#, 200),
            ("error", 200, json, r#"{"jsonrpc":"2.0","id":"a","error":{"code":1,"message":"m"}}"#, 200),
            ("stream", 200, events, "data: {\"jsonrpc\":\"2.0\",\"id\":\"a\",\"result\":{}}\n\n", 200),
            ("cut", 200, json, r#"{"jsonrpc":"2.0","id":"a","result":{"#, 502),
            ("page", 200, "text/html", "<html>", 502),
            ("empty", 200, json, "", 502),
            ("taken", 202, json, "", 502),
            ("other", 200, json, r#"{"jsonrpc":"2.0","id":"zzz","result":{}}"#, 502),
            ("asks", 200, json, r#"{"jsonrpc":"2.0","id":"a","method":"ping","result":{}}"#, 502),
            ("silent", 200, events, ": nothing\n\n", 200),
        ] {
            let server = answers_calls_with(status, kind, body).await;
            let fields = json!({"name": name, "upstream_url": format!("http://{}/", server.address)});
            app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
            let tool = format!("{name}__t");
            let mut call = modern("tools/call", json!({"name": tool, "arguments": {}}));
            call["id"] = json!("a");
            let headers = format!(
                "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: {tool}\r\ncontent-type"
            );
            let text = post("/mcp", caller.credential.as_ref().unwrap(), "r", &call);
            let answer = exchange(caller.address, text.replacen("content-type", &headers, 1)).await.unwrap();
            assert_eq!(answer.status, told, "{name}: {}", answer.text());
            let row = rows(&app).await.pop().unwrap();
            match (told, name) {
                (200, "silent") => {
                    assert!(!answer.whole, "the connection breaks");
                    assert_eq!((row.0, row.1.as_deref()), (502, Some("upstream_truncated")));
                }
                (200, _) => assert_eq!((row.0, answer.text().as_str()), (200, body)),
                _ => {
                    let error: serde_json::Value = serde_json::from_str(&answer.text()).unwrap();
                    assert_eq!(
                        (&error["id"], &error["error"]["data"]["code"]),
                        (&json!("a"), &json!("upstream_error"))
                    );
                    assert_eq!((row.0, row.1.as_deref()), (502, Some("upstream_error")), "{name}");
                }
            }
        }
    });
}

#[test]
fn a_message_that_cannot_be_carried_is_answered_under_its_id() {
    run(async {
        let server = FakeMcp::stateless().await;
        let (app, caller) = with_server(&server).await;
        for path in ["/mcp/s", "/mcp"] {
            let client = McpClient::new(&caller, path);
            let before = server.upstream.seen().len();
            for (body, id, code) in [
                (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#, json!(7), -32602),
                (r#"{"jsonrpc":"2.0","id":"x","method":"tools/list","params":[]}"#, json!("x"), -32602),
                (r#"{"jsonrpc":"2.0","id":7,"Method":"ping","method":"ping"}"#, json!(7), -32600),
                (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, json!(null), -32600),
                (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null), -32600),
                (r#"{"jsonrpc":"2.0","method":"tools/list"}"#, json!(null), -32600),
            ] {
                let answer = client.send(Method::POST, body, &[]).await.expect(400);
                assert_eq!((rpc_error(&answer).0, &answer.json()["id"]), (code, &id), "{path} {body}");
            }
            let ping = r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#;
            for kind in [
                None,
                Some("text/plain"),
                Some("application/x-www-form-urlencoded"),
                Some("application/jsonp"),
            ] {
                let mut request = caller.request(Method::POST, path);
                if let Some(kind) = kind {
                    request = request.insert_header(("content-type", kind));
                }
                let answer = Caller::send(request, ping).await.expect(400);
                assert_eq!(
                    (rpc_error(&answer).1.as_str(), &answer.json()["id"]),
                    ("invalid_request", &json!(3))
                );
            }
            assert_eq!(server.upstream.seen().len(), before, "nothing went upstream");
        }
        let client = McpClient::new(&caller, "/mcp");
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        for version in ["2099-01-01", "1999-01-01"] {
            let answer =
                client.send(Method::POST, list, &[("mcp-protocol-version", version)]).await.expect(400);
            assert_eq!(rpc_error(&answer).0, -32022, "{version}");
        }
        app.stop().await;
    });
}

#[test]
fn a_session_stays_behind_when_its_server_moves() {
    run(async {
        let (server, elsewhere) = (FakeMcp::with_sessions().await, FakeMcp::with_sessions().await);
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        app.admin().patch("/api/v1/mcp-servers/s", &json!({"description": "the same"})).await.expect(200);
        client.call("echo").await.expect(200);
        let moved = json!({"upstream_url": elsewhere.url()});
        app.admin().patch("/api/v1/mcp-servers/s", &moved).await.expect(200);
        let answer = client.call("echo").await.expect(404);
        assert_eq!(rpc_error(&answer).1, "session_not_found");
        assert!(elsewhere.upstream.seen().is_empty(), "the other one learns nothing of it");
        McpClient::opened(&caller, "/mcp/s").await.call("echo").await.expect(200);
    });
}
