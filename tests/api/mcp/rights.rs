use super::{caller_with, gateway, rows, rpc_error, says};
use crate::support::{FakeMcp, McpClient, TestApp, exchange, messages, modern, post, run};
use actix_web::http::Method;
use serde_json::{Value, json};

/// A gateway with servers `old`, `events` and `new`, and a key that may call `echo` on each.
async fn limited() -> (TestApp, [(FakeMcp, &'static str); 3], McpClient) {
    let app = gateway().await;
    let servers = [
        (FakeMcp::with_sessions().await, "old"),
        (FakeMcp::with_events().await, "events"),
        (FakeMcp::stateless().await, "new"),
    ];
    for (server, name) in &servers {
        server.register(&app, name).await;
    }
    let caller = caller_with(
        &app,
        "t",
        json!({"allowed_tools": ["*/echo", "*/slow"]}),
        json!({"allowed_tools": ["*/e*"]}),
    )
    .await;
    (app, servers, McpClient::new(&caller, ""))
}

#[test]
fn a_key_sees_and_calls_its_tools_and_no_others() {
    run(async {
        let (app, servers, client) = limited().await;
        for (server, name) in &servers {
            let path = format!("/mcp/{name}");
            let client = if *name == "new" {
                McpClient { path, ..client.clone() }
            } else {
                McpClient::opened(&client.caller, &path).await
            };
            let (list, call, forbidden) = if *name == "new" {
                (
                    client.ask_modern("tools/list", json!({})).await,
                    client.ask_modern("tools/call", json!({"name": "echo"})).await,
                    client.ask_modern("tools/call", json!({"name": "slow"})).await,
                )
            } else {
                (
                    client.ask("tools/list", json!({})).await,
                    client.call("echo").await,
                    client.call("slow").await,
                )
            };
            assert_eq!(crate::support::names(&list.clone().expect(200)), ["echo"]);
            let listed = if list.text().starts_with('{') {
                list.json()
            } else {
                messages(&list.text()).pop().unwrap()
            };
            assert_eq!(listed["result"]["cacheScope"], "private");
            call.expect(200);
            assert_eq!(rpc_error(&forbidden.expect(403)), (403, "tool_not_allowed".to_owned()));
            let calls = server.seen("tools/call");
            assert_eq!(calls.len(), 1);
            assert_eq!(calls[0].json()["params"]["name"], "echo");
        }
        let rows = rows(&app).await;
        let refused: Vec<_> = rows.iter().filter(|row| row.0 == 403).collect();
        assert_eq!(refused.len(), 3);
        assert!(
            refused
                .iter()
                .all(|row| row.1.as_deref() == Some("tool_not_allowed") && row.3.as_deref() == Some("slow"))
        );
    });
}

#[test]
fn no_trick_carries_a_forbidden_call() {
    run(async {
        let (_app, servers, client) = limited().await;
        let call =
            |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let modern_call = |name: &str| modern("tools/call", json!({"name": name})).to_string();
        let head = |name: &'static str| {
            vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)]
        };
        for (server, name) in &servers {
            let path = format!("/mcp/{name}");
            let client = if *name == "new" {
                McpClient { path, ..client.clone() }
            } else {
                McpClient::opened(&client.caller, &path).await
            };
            let before = server.upstream.seen().len();
            for (body, headers, status) in [
                // A header that lies, either way.
                (modern_call("slow"), head("echo"), 400),
                (modern_call("echo"), head("slow"), 400),
                (modern_call("slow"), head("=?base64?ZWNobw==?="), 400),
                (modern_call("slow"), head("slow"), 403),
                (modern_call("slow"), vec![("mcp-name", "echo"), ("mcp-name", "slow")], 400),
                (call(r#"{"name":"slow"}"#), vec![("mcp-name", "echo")], 400),
                (call(r#"{"name":"slow"}"#), vec![("mcp-method", "tools/list")], 400),
                // Batches.
                (format!("[{}]", call(r#"{"name":"slow"}"#)), vec![], 400),
                (format!("[{},{}]", call(r#"{"name":"echo"}"#), call(r#"{"name":"slow"}"#)), vec![], 400),
                // Names that two readers read in two ways.
                (call(r#"{"name":"echo","name":"slow"}"#), vec![], 400),
                (call(r#"{"name":"slow","name":"echo"}"#), vec![], 400),
                (call(r#"{"name":"echo","Name":"slow"}"#), vec![], 400),
                (call(r#"{"name":"echo","n\u0061me":"slow"}"#), vec![], 400),
                (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"slow"}}"#.to_owned(), vec![], 400),
                (r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"slow"}}"#.to_owned(), vec![], 400),
                (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"params":{"name":"slow"}}"#.to_owned(), vec![], 400),
                (call(r#"{"name":"sl\u006fw"}"#), vec![], 403),
                (call(r#"{"name":"echo "}"#), vec![], 403),
                (call(r#"{"name":"ECHO"}"#), vec![], 403),
                // Without an id it would be a notification, and still a call.
                (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"slow"}}"#.to_owned(), vec![], 400),
                (call(r#"{"name":["echo"]}"#), vec![], 400),
                (format!("{}{}", call(r#"{"name":"echo"}"#), call(r#"{"name":"slow"}"#)), vec![], 400),
            ] {
                let answer = client.send(Method::POST, &body, &headers).await;
                assert_eq!(answer.status, status, "{name}: {body} {headers:?}: {}", answer.text());
                let code = rpc_error(&answer).0;
                let lies = headers.iter().any(|(name, _)| name.starts_with("mcp-")) && status == 400;
                assert_eq!(code == -32020, lies, "{body} {headers:?}");
            }
            assert_eq!(server.upstream.seen().len(), before, "{name}: nothing went upstream");
        }
    });
}

#[test]
fn a_server_without_a_tool_for_the_key_is_closed_to_it() {
    run(async {
        let (server, other) = (FakeMcp::with_sessions().await, FakeMcp::with_sessions().await);
        let app = gateway().await;
        server.register(&app, "s").await;
        other.register(&app, "other").await;
        let mine = caller_with(&app, "t", json!({}), json!({"allowed_tools": ["s/*"]})).await;
        let nothing = caller_with(&app, "u", json!({}), json!({"allowed_tools": []})).await;
        let client = McpClient::opened(&mine, "/mcp/s").await;
        assert_eq!(client.tools().await.len(), 5);
        // Prompts and resources of a server that may be used are no tools.
        client.ask("prompts/list", json!({})).await.expect(200);
        for (caller, path) in [(&mine, "/mcp/other"), (&nothing, "/mcp/s")] {
            let refused = McpClient::new(caller, path).ask("initialize", json!({})).await.expect(403);
            assert_eq!(rpc_error(&refused), (403, "tool_not_allowed".to_owned()));
            assert_eq!(refused.json()["id"], 1);
            McpClient::new(caller, path).send(Method::GET, "", &[]).await.expect(403);
        }
        assert!(other.upstream.seen().is_empty());
        assert_eq!(McpClient::opened(&nothing, "/mcp").await.tools().await, Vec::<String>::new());
    });
}

#[test]
fn a_resumed_stream_shows_no_more_than_a_list() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register(&app, "s").await;
        let limited = caller_with(&app, "t", json!({"allowed_tools": ["s/echo"]}), json!({})).await;
        for (caller, count) in [(limited, 1), (app.caller("u").await, 5)] {
            let client = McpClient::opened(&caller, "/mcp/s").await;
            server.gate.add_permits(1);
            let resumed = client.send(Method::GET, "", &[("last-event-id", "3")]).await.expect(200);
            assert_eq!(server.upstream.last().header("last-event-id"), Some("3"));
            assert_eq!(resumed.header("mcp-session-id"), client.session.as_deref());
            let text = resumed.text();
            assert!(text.starts_with("id: 7\n"), "{text}");
            let tools: Vec<Value> = messages(&text)[0]["result"]["tools"].as_array().unwrap().clone();
            assert_eq!(tools.len(), count);
        }
    });
}

#[test]
fn a_list_that_cannot_be_read_is_not_passed_to_who_may_not_see_all() {
    run(async {
        use crate::support::{Step, Upstream, json as answer};
        let odd = Upstream::start(|_| vec![Step::Send(answer(200, r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}],"tools":[{"name":"secret"}]}}"#))]).await;
        let app = gateway().await;
        let fields = json!({"name": "s", "upstream_url": format!("http://{}/", odd.address)});
        app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
        let limited = caller_with(&app, "t", json!({"allowed_tools": ["s/echo"]}), json!({})).await;
        let refused = McpClient::new(&limited, "/mcp/s").ask("tools/list", json!({})).await.expect(502);
        assert!(!refused.text().contains("secret"));
        let free = McpClient::new(&app.caller("u").await, "/mcp/s").ask("tools/list", json!({})).await;
        assert!(free.expect(200).text().contains("secret"), "to others it passes untouched");
    });
}

#[test]
fn a_list_in_what_cannot_be_looked_into_does_not_pass() {
    run(async {
        let app = gateway().await;
        let list = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"secret","description":"@"}]}}"#;
        let event = format!("data: {list}\n\n");
        // A byte that is no UTF-8.
        let spoilt = |text: &str| -> Vec<u8> {
            text.bytes().map(|byte| if byte == b'@' { 0xe9 } else { byte }).collect()
        };
        let (json, events) = ("application/json", "text/event-stream");
        let cases: [(&str, u16, &str, Vec<u8>); 7] = [
            ("a", 200, events, spoilt(&event)),
            ("b", 200, events, spoilt(&format!(": @\n{}", event.replace('@', "")))),
            ("c", 400, json, list.into()),
            ("d", 500, events, event.clone().into()),
            ("e", 404, "text/html", spoilt(list)),
            ("f", 202, json, list.into()),
            ("g", 200, json, spoilt(list)),
        ];
        let patterns: Vec<String> = cases.iter().map(|(name, ..)| format!("{name}/echo")).collect();
        let limited = caller_with(&app, "t", json!({"allowed_tools": patterns}), json!({})).await;
        let key = limited.credential.clone().unwrap();
        for (name, status, kind, body) in cases {
            let _server = says(&app, name, status, kind, &body).await;
            let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
            let asked = post(&format!("/mcp/{name}"), &key, "r", &ask);
            let answer = exchange(limited.address, asked).await.unwrap();
            assert!(!answer.text().contains("secret"), "{name}: {}", answer.text());
            if matches!(name, "c" | "f") {
                assert_eq!(answer.status, status, "{name}");
                assert!(answer.text().contains("echo"), "{name}: what can be read is cut, and shown");
            }
            if matches!(name, "d" | "e") {
                assert_eq!((answer.status, answer.text().as_str()), (status, ""), "{name}");
            }
        }
    });
}
