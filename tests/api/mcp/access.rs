use super::{caller_with, gateway, rows, rpc_error, with_server};
use crate::support::{FakeMcp, McpClient, TestApp, run};
use actix_web::http::Method;
use serde_json::json;

#[test]
fn without_a_key_there_is_a_hint_and_no_row() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, _) = with_server(&server).await;
        for path in ["/mcp", "/mcp/s", "/mcp/none", "/mcp/s?api_key=sk_x"] {
            for caller in [app.anonymous(), app.client("sk_wrong")] {
                let refused = McpClient::new(&caller, path).call("echo").await.expect(401);
                assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
                assert_eq!(refused.error_code(), "invalid_api_key");
            }
        }
        assert!(server.upstream.seen().is_empty());
        assert_eq!(rows(&app).await, []);
    });
}

#[test]
fn only_pages_that_the_operator_knows_may_call() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app =
            TestApp::at("http://127.0.0.1:9", &[("OBLETH_MCP_ALLOWED_ORIGINS", "https://app.example")]).await;
        server.register(&app, "s").await;
        let caller = app.caller("t").await;
        for path in ["/mcp", "/mcp/s"] {
            let client = McpClient::new(&caller, path);
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}).to_string();
            for (origin, status) in [
                ("https://app.example", 200),
                ("https://evil.example", 403),
                ("http://localhost", 403),
                ("null", 403),
            ] {
                for method in [Method::POST, Method::GET, Method::DELETE] {
                    if status == 200 && method != Method::POST {
                        continue;
                    }
                    let text = if method == Method::POST { body.as_str() } else { "" };
                    let answer = client.send(method, text, &[("origin", origin)]).await.expect(status);
                    if status == 403 {
                        assert_eq!(answer.error_code(), "origin_not_allowed");
                    }
                }
            }
            let two = [("origin", "https://app.example"), ("origin", "https://evil.example")];
            client.send(Method::POST, &body, &two).await.expect(403);
        }
        assert!(server.upstream.seen().iter().all(|seen| seen.header("origin").is_none()));
    });
}

#[test]
fn unknown_servers_and_methods_are_told_apart() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let other = McpClient::new(&caller, "/mcp/other");
        assert_eq!(other.call("echo").await.expect(404).error_code(), "mcp_server_not_found");
        for path in ["/mcp/", "/mcp/s/", "/mcp/s/x", "/mcp/%73"] {
            let answer = McpClient::new(&caller, path).call("echo").await.expect(404);
            assert!(["not_found", "mcp_server_not_found"].contains(&answer.error_code().as_str()), "{path}");
        }
        for method in [Method::PUT, Method::PATCH, Method::OPTIONS] {
            let refused = McpClient::new(&caller, "/mcp/s").send(method, "", &[]).await.expect(405);
            assert_eq!(refused.header("allow"), Some("GET, POST, DELETE"));
        }
        assert!(server.upstream.seen().is_empty());
        let rows = rows(&app).await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows.iter().all(|row| row.0 == 404 && row.2.is_none()));
    });
}

#[test]
fn credentials_of_the_client_stay_here() {
    run(async {
        let (server, open) = (FakeMcp::with_sessions().await, FakeMcp::with_sessions().await);
        let app = gateway().await;
        server.register(&app, "s").await;
        open.register_with(&app, "open", json!({})).await;
        let caller = app.caller("t").await;
        let key = caller.credential.clone().unwrap();
        for (path, fake, sent) in [("/mcp/s", &server, Some("Bearer operator")), ("/mcp/open", &open, None)] {
            let client = McpClient::opened(&caller, path).await;
            let message =
                json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}})
                    .to_string();
            let own = [
                ("x-api-key", key.as_str()),
                ("cookie", "a=b"),
                ("x-custom", "kept"),
                ("x-session-id", "s1"),
                ("last-event-id", "4"),
            ];
            client.send(Method::POST, &message, &own).await.expect(200);
            let seen = fake.upstream.last();
            assert_eq!(seen.header("authorization"), sent);
            assert_eq!((seen.header("x-custom"), seen.header("last-event-id")), (Some("kept"), Some("4")));
            assert!(!seen.headers.values().any(|value| value.contains(&key)), "{seen:?}");
            for gone in ["cookie", "x-api-key", "x-session-id"] {
                assert_eq!(seen.header(gone), None);
            }
        }
    });
}

#[test]
fn a_server_that_refuses_the_operator_is_the_operators_fault() {
    run(async {
        use crate::support::{Step, Upstream};
        let refuse = Upstream::start(|_| {
            vec![Step::Send("HTTP/1.1 401 X\r\nwww-authenticate: Bearer resource_metadata=\"http://evil\"\r\ncontent-length: 0\r\n\r\n".into())]
        })
        .await;
        let app = gateway().await;
        let fields = json!({"name": "s", "upstream_url": format!("http://{}/", refuse.address)});
        app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
        let caller = app.caller("t").await;
        let answer = McpClient::new(&caller, "/mcp/s").call("echo").await.expect(502);
        assert_eq!(rpc_error(&answer), (502, "upstream_auth".to_owned()));
        assert_eq!(answer.header("www-authenticate"), None);
        assert_eq!(rows(&app).await[0].1.as_deref(), Some("upstream_auth"));
    });
}

#[test]
fn requests_a_minute_count_for_key_tenant_and_server() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register_with(&app, "s", json!({"requests_per_minute": 3})).await;
        server.register(&app, "free").await;
        let two = json!({"requests_per_minute": 2});
        for (name, tenant, key) in [("by-key", json!({}), two.clone()), ("by-tenant", two, json!({}))] {
            let client = McpClient::opened(&caller_with(&app, name, tenant, key).await, "/mcp/free").await;
            let passed = client.call("echo").await.expect(200);
            assert_eq!(passed.header("x-ratelimit-remaining-requests"), Some("0"));
            let refused = client.call("echo").await.expect(429);
            assert_eq!(rpc_error(&refused), (429, "requests_per_minute".to_owned()));
            assert_eq!(refused.header("retry-after"), Some("30"));
            assert_eq!(McpClient::new(&client.caller, "/mcp").ask("ping", json!({})).await.status, 429);
            // Notifications are free.
            let note = json!({"jsonrpc": "2.0", "method": "notifications/x"}).to_string();
            client.send(Method::POST, &note, &[]).await.expect(202);
        }
        let client = McpClient::opened(&app.caller("t").await, "/mcp/s").await;
        client.call("echo").await.expect(200);
        client.call("echo").await.expect(200);
        let refused = McpClient::opened(&app.caller("u").await, "/mcp/free").await;
        let refused =
            McpClient { path: "/mcp/s".to_owned(), session: None, ..refused }.call("echo").await.expect(429);
        assert_eq!(
            (rpc_error(&refused).1.as_str(), refused.header("retry-after")),
            ("requests_per_minute", Some("20"))
        );
    });
}
