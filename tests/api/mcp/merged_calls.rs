use super::merged::two;
use super::{caller_with, gateway, rows, rpc_error};
use crate::support::{
    Answer, FakeMcp, McpClient, Socket, Step, Upstream, messages, modern, post, run, until,
};
use actix_web::http::Method;
use serde_json::{Value, json};

/// The one response in an answer.
fn response(answer: &Answer) -> Value {
    let text = answer.text();
    if text.starts_with('{') { answer.json() } else { messages(&text).pop().unwrap() }
}

#[test]
fn clients_of_both_eras_call_servers_of_both() {
    run(async {
        let (app, old, new) = two().await;
        let caller = app.caller("t").await;
        let session = McpClient::opened(&caller, "/mcp").await;
        let plain = McpClient::new(&caller, "/mcp");
        for tool in ["echo", "events"] {
            for (server, fake) in [("old", &old), ("new", &new)] {
                let name = format!("{server}__{tool}");
                let params = json!({"name": name, "arguments": {"a": [1.5]}, "_meta": {"progressToken": 4}});
                for answer in [
                    session.ask("tools/call", params.clone()).await,
                    plain.ask_modern("tools/call", params).await,
                ] {
                    let told = response(&answer.expect(200));
                    // A stateless client is told so whatever its server speaks.
                    assert!(told["id"] == 1 || told["result"]["resultType"] == "complete", "{told}");
                    let text: Value =
                        serde_json::from_str(told["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
                    assert_eq!(text["arguments"], json!({"a": [1.5]}));
                    assert!(told["id"] == 1 || told["id"] == 5);
                    let seen = fake.seen("tools/call").pop().unwrap();
                    assert_eq!(seen.json()["params"]["name"], tool, "body and header together");
                    assert_eq!(seen.header("mcp-name"), (server == "new").then_some(tool));
                    assert_eq!(seen.header("mcp-session-id").is_some(), server == "old");
                    let version = if server == "new" { "2026-07-28" } else { "2025-11-25" };
                    assert_eq!(seen.header("mcp-protocol-version"), Some(version));
                    assert_eq!(seen.header("authorization"), Some("Bearer operator"));
                }
            }
        }
        let calls: Vec<_> = rows(&app).await.into_iter().filter(|row| row.3.is_some()).collect();
        assert_eq!(calls.len(), 8);
        assert!(calls.iter().all(|row| row.0 == 200 && !row.3.as_deref().unwrap().contains("__")));
        assert_eq!(calls.iter().filter(|row| row.2.as_deref() == Some("old")).count(), 4);
    });
}

#[test]
fn sessions_with_servers_are_used_again_by_the_same_key_alone() {
    run(async {
        let (app, old, _) = two().await;
        let (one, other) = (app.caller("t").await, app.caller("u").await);
        let used = |answer: &Answer| {
            let told = response(answer);
            let text: Value =
                serde_json::from_str(told["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
            text["session"].as_str().unwrap().to_owned()
        };
        let call = async |caller| {
            let answer =
                McpClient::new(caller, "/mcp").ask_modern("tools/call", json!({"name": "old__echo"})).await;
            used(&answer.expect(200))
        };
        let first = call(&one).await;
        assert_eq!(call(&one).await, first);
        let second = call(&other).await;
        assert_ne!(second, first);
        assert_eq!((call(&one).await, old.sessions()), (first, 2));
        // Two at a time never share one.
        let slow = |number: usize| {
            let client = McpClient::new(&one, "/mcp");
            actix_rt::spawn(async move {
                let answer = client.ask_modern("tools/call", json!({"name": "old__slow"})).await.expect(200);
                (number, answer)
            })
        };
        let running = [slow(0), slow(1)];
        until("both run", async || (old.seen("tools/call").len() == 6).then_some(())).await;
        old.gate.add_permits(2);
        let mut sessions = Vec::new();
        for call in running {
            sessions.push(used(&call.await.unwrap().1));
        }
        assert_ne!(sessions[0], sessions[1]);
        assert_eq!(old.sessions(), 3);
    });
}

#[test]
fn a_session_that_the_server_has_forgotten_is_opened_anew() {
    run(async {
        let (app, old, _) = two().await;
        let client = McpClient::new(&app.caller("t").await, "/mcp");
        client.ask_modern("tools/call", json!({"name": "old__echo"})).await.expect(200);
        old.forget_sessions();
        client.ask_modern("tools/call", json!({"name": "old__echo"})).await.expect(200);
        assert_eq!(old.sessions(), 1);
        assert_eq!(rows(&app).await.len(), 2);
    });
}

#[test]
fn who_only_calls_learns_what_has_changed_at_the_server() {
    run(async {
        let server = Upstream::start(|seen| {
            let result = match seen.json()["method"].as_str() {
                Some("server/discover") => json!({"supportedVersions": ["2026-07-28"]}),
                Some("tools/list") => json!({"tools": [{"name": "t"}], "ttlMs": 0}),
                _ => json!({"content": []}),
            };
            let body = json!({"jsonrpc": "2.0", "id": 5, "result": result}).to_string();
            vec![Step::Send(crate::support::json(200, &body))]
        })
        .await;
        let app = gateway().await;
        let fields = json!({"name": "s", "upstream_url": format!("http://{}/", server.address)});
        app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
        let client = McpClient::new(&app.caller("t").await, "/mcp");
        let lists = || server.seen().iter().filter(|seen| seen.json()["method"] == "tools/list").count();
        until("a second look at the list", async || {
            client.ask_modern("tools/call", json!({"name": "s__t"})).await.expect(200);
            (lists() > 1).then_some(())
        })
        .await;
    });
}

#[test]
fn a_forbidden_tool_is_neither_listed_nor_called() {
    run(async {
        let (app, old, new) = two().await;
        let limited = caller_with(&app, "t", json!({}), json!({"allowed_tools": ["old/echo"]})).await;
        let session = McpClient::opened(&limited, "/mcp").await;
        assert_eq!(session.tools().await, ["old__echo"]);
        session.call("old__echo").await.expect(200);
        let plain = McpClient::new(&limited, "/mcp");
        for tool in ["old__slow", "new__echo", "none__x"] {
            for refused in
                [session.call(tool).await, plain.ask_modern("tools/call", json!({"name": tool})).await]
            {
                assert_eq!(rpc_error(&refused.expect(403)), (403, "tool_not_allowed".to_owned()));
            }
        }
        let body = modern("tools/call", json!({"name": "old__slow"})).to_string();
        let lie =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "old__echo")];
        assert_eq!(rpc_error(&plain.send(Method::POST, &body, &lie).await.expect(400)).0, -32020);
        assert_eq!((old.seen("tools/call").len(), new.upstream.seen().len()), (1, 0));
    });
}

#[test]
fn what_a_client_takes_back_is_taken_back_at_the_server() {
    run(async {
        let (app, old, new) = two().await;
        let client = McpClient::opened(&app.caller("t").await, "/mcp").await;
        // Opens what is opened once.
        client.tools().await;
        for (server, fake) in [("old", &old), ("new", &new)] {
            for tool in ["slow", "gated"] {
                let calls = fake.seen("tools/call").len();
                let caller = McpClient { ..client.clone() };
                let name = format!("{server}__{tool}");
                let call =
                    actix_rt::spawn(
                        async move { caller.ask("tools/call", json!({"name": name})).await.status },
                    );
                until("it runs", async || (fake.seen("tools/call").len() > calls).then_some(())).await;
                let left = fake.upstream.left();
                let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
                // Of another session, or of another request, nothing happens.
                let other = McpClient::opened(&client.caller, "/mcp").await;
                other.send(Method::POST, &cancel.to_string(), &[]).await.expect(202);
                let wrong = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "1"}});
                client.send(Method::POST, &wrong.to_string(), &[]).await.expect(202);
                assert!(!call.is_finished() && fake.upstream.left() == left);
                client.send(Method::POST, &cancel.to_string(), &[]).await.expect(202);
                let status = call.await.unwrap();
                assert_eq!(status, if tool == "slow" { 202 } else { 200 });
                until("the server hears of it", async || (fake.upstream.left() > left).then_some(())).await;
                if server == "old" {
                    until("in words", async || {
                        fake.seen("notifications/cancelled")
                            .pop()
                            .filter(|seen| seen.json()["params"]["requestId"] == 1)
                    })
                    .await;
                    until("its session ends", async || (fake.sessions() == 0).then_some(())).await;
                }
            }
        }
        let rows = rows(&app).await;
        let left: Vec<_> = rows.iter().filter(|row| row.0 == 499).collect();
        assert_eq!(left.len(), 4, "{rows:?}");
        assert_eq!(app.running.gateway.handles.mcp.running().count(), 0);
    });
}

#[test]
fn a_client_that_leaves_is_as_its_own_era_has_it() {
    run(async {
        let (app, old, new) = two().await;
        let caller = app.caller("t").await;
        let session = McpClient::opened(&caller, "/mcp").await;
        session.tools().await;
        let key = caller.credential.clone().unwrap();
        let head =
            |text: String, head: String| text.replacen("content-type", &format!("{head}\r\ncontent-type"), 1);
        for (server, fake) in [("old", &old), ("new", &new)] {
            let name = format!("{server}__gated");
            let own = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": name}});
            let in_session = head(
                post("/mcp", &key, "r", &own),
                format!("mcp-session-id: {}", session.session.clone().unwrap()),
            );
            let mut socket = Socket::sent(caller.address, &in_session).await;
            assert!(socket.head().await.is_some() && socket.chunk().await.is_some());
            drop(socket);
            until("its row", async || app.rows().await.into_iter().find(|row| row["status"] == 499)).await;
            assert_eq!(fake.upstream.left(), 0, "{server}: it runs on");
            fake.gate.add_permits(1);
            until("it ends", async || (fake.gate.available_permits() == 0).then_some(())).await;
            let stateless = head(
                post("/mcp", &key, "r", &modern("tools/call", json!({"name": name}))),
                format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: {name}"),
            );
            let mut socket = Socket::sent(caller.address, &stateless).await;
            assert!(socket.head().await.is_some() && socket.chunk().await.is_some());
            drop(socket);
            until("the server sees it", async || (fake.upstream.left() == 1).then_some(())).await;
        }
        until("it is told in words", async || old.seen("notifications/cancelled").pop()).await;
        let waiting = || app.running.gateway.handles.mcp.waiting_sessions();
        until("no session is left but one that waits", async || (old.sessions() == waiting()).then_some(()))
            .await;
    });
}

#[test]
fn a_call_is_counted_once_and_against_its_servers_limit() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register_with(&app, "s", json!({"requests_per_minute": 2})).await;
        let client = McpClient::new(&app.caller("t").await, "/mcp");
        for status in [200, 200, 429] {
            let answer = client.ask_modern("tools/call", json!({"name": "s__echo"})).await.expect(status);
            if status == 429 {
                assert_eq!(rpc_error(&answer).1, "requests_per_minute");
            }
        }
        assert_eq!(rows(&app).await.len(), 3);
    });
}
