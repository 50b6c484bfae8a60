use super::{rows, rpc_error, with_server};
use crate::support::{FakeMcp, McpClient, messages, run, until};
use actix_web::http::Method;
use serde_json::json;

#[test]
fn a_session_passes_as_it_is() {
    run(async {
        for server in [FakeMcp::with_sessions().await, FakeMcp::with_events().await] {
            let (app, caller) = with_server(&server).await;
            let client = McpClient::opened(&caller, "/mcp/s").await;
            assert_eq!(client.tools().await, ["echo", "slow", "events", "gated", "cut"]);
            let body = r#"{ "method" : "tools/call", "id":"x\u0041", "jsonrpc":"2.0","params":{"name":"echo","arguments":{"n":1.50}, "new":[ ]}}"#;
            let answer = client.send(Method::POST, body, &[]).await.expect(200);
            assert_eq!(server.upstream.last().body, body, "byte by byte");
            assert_eq!(answer.json()["id"], "xA");
            assert_eq!(answer.json()["result"].get("resultType"), None, "nothing is added");
            assert_eq!(
                client.ask("unknown/method", json!({})).await.expect(404).json()["error"]["code"],
                -32601
            );
            client.send(Method::DELETE, "", &[]).await.expect(200);
            assert_eq!(server.sessions(), 0);
            client.call("echo").await.expect(404);
            let rows = rows(&app).await;
            let statuses: Vec<u64> = rows.iter().map(|row| row.0).collect();
            assert_eq!(statuses, [200, 202, 200, 200, 404, 200, 404]);
            assert!(rows.iter().all(|row| row.2.as_deref() == Some("s")));
            assert_eq!(rows[3].3.as_deref(), Some("echo"));
            assert_eq!(rows.iter().filter(|row| row.3.is_some()).count(), 2);
        }
    });
}

#[test]
fn a_stateless_request_passes_as_it_is() {
    run(async {
        let server = FakeMcp::stateless().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::new(&caller, "/mcp/s");
        let found = client.ask_modern("server/discover", json!({})).await.expect(200);
        assert_eq!(found.json()["result"]["cacheScope"], "public");
        client.ask_modern("tools/list", json!({})).await.expect(200);
        let answer = client.ask_modern("tools/call", json!({"name": "echo"})).await.expect(200);
        assert_eq!(answer.header("mcp-session-id"), None);
        // A session has no meaning here: it is dropped, whatever it is.
        let named = McpClient { session: Some("nonsense".to_owned()), ..client.clone() };
        named.ask_modern("tools/call", json!({"name": "echo"})).await.expect(200);
        assert_eq!(server.upstream.last().header("mcp-session-id"), None);
        client.send(Method::GET, "", &[]).await.expect(405);
        let rows = rows(&app).await;
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [200, 200, 200, 200, 405]);
    });
}

#[test]
fn a_stream_leaves_as_it_comes_and_says_so() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let message = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "gated"}})
            .to_string();
        let request =
            caller.request(Method::POST, "/mcp/s").insert_header(("content-type", "application/json"));
        let request = request.insert_header(("mcp-session-id", client.session.clone().unwrap()));
        let mut answer = request.send_body(message).await.unwrap();
        assert_eq!(answer.headers().get("x-accel-buffering").unwrap(), "no");
        let first = futures_util::StreamExt::next(&mut answer).await.unwrap().unwrap();
        assert_eq!(messages(&String::from_utf8_lossy(&first))[0]["method"], "notifications/progress");
        server.gate.add_permits(1);
        let rest = answer.body().await.unwrap();
        assert_eq!(messages(&String::from_utf8_lossy(&rest))[0]["id"], 9);
        let row = app.rows().await.remove(0);
        assert_eq!(
            (&row["stream"], &row["status"], &row["admission"]),
            (&json!(true), &json!(200), &json!("none"))
        );
        assert_eq!(row["bytes_out"], first.len() + rest.len());
        assert!(row["ttft_ms"].is_u64() && row["bytes_in"].as_u64() > Some(50));
    });
}

#[test]
fn what_is_no_message_goes_nowhere() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        for path in ["/mcp/s", "/mcp"] {
            let client = McpClient::new(&caller, path);
            let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
            for (body, code) in [
                ("{", -32700),
                ("", -32700),
                ("\u{feff}{}", -32700),
                (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
                (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, -32600),
                (
                    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"echo"}}"#,
                    -32600,
                ),
                (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, -32602),
            ] {
                let body = if body.is_empty() { " " } else { body };
                let answer = client.send(Method::POST, body, &[]).await.expect(400);
                assert_eq!(rpc_error(&answer), (code, "invalid_request".to_owned()), "{body}");
            }
            client.send(Method::POST, call, &[("content-encoding", "gzip")]).await.expect(400);
        }
        assert!(server.upstream.seen().is_empty());
        assert!(rows(&app).await.iter().all(|row| row.0 == 400));
    });
}

#[test]
fn a_charset_is_not_passed_on() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (_app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}"#;
        let request = caller
            .request(Method::POST, "/mcp/s")
            .insert_header(("content-type", "application/json; charset=utf-7"));
        let request = request.insert_header(("mcp-session-id", client.session.clone().unwrap()));
        crate::support::Caller::send(request, body).await.expect(200);
        assert_eq!(server.upstream.last().header("content-type"), Some("application/json"));
    });
}

#[test]
fn calls_are_counted_by_server_and_status() {
    run(async {
        let server = FakeMcp::stateless().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::new(&caller, "/mcp/s");
        client.ask_modern("tools/call", json!({"name": "echo"})).await.expect(200);
        client.ask_modern("tools/call", json!({"name": "echo"})).await.expect(200);
        client.ask_modern("nothing", json!({})).await.expect(404);
        until("the counts", async || {
            let text = app.metrics().await;
            let has = |line: &str| text.lines().any(|own| own == line);
            (has(r#"obleth_mcp_requests_total{server="s",status="200"} 2"#)
                && has(r#"obleth_mcp_requests_total{server="s",status="404"} 1"#)
                && has(r#"obleth_requests_total{route="mcp",status="200",admission="none"} 2"#))
            .then_some(())
        })
        .await;
    });
}
