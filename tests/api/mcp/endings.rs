use super::{gateway, rows, rpc_error, with_server};
use crate::support::{FakeMcp, McpClient, Socket, modern, post, run, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The text of a call on a raw socket.
fn call_text(client: &McpClient, tool: &str) -> String {
    let key = client.caller.credential.clone().unwrap();
    let (body, head) = match &client.session {
        Some(session) => {
            let call = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": tool}});
            (call, format!("mcp-session-id: {session}"))
        }
        None => {
            let head =
                format!("mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: {tool}");
            (modern("tools/call", json!({"name": tool})), head)
        }
    };
    post(&client.path, &key, "r", &body).replacen("content-type", &format!("{head}\r\ncontent-type"), 1)
}

#[test]
fn a_client_that_leaves_takes_a_stateless_call_back() {
    run(async {
        let server = FakeMcp::stateless().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::new(&caller, "/mcp/s");
        for tool in ["slow", "gated"] {
            let left = server.upstream.left();
            let mut socket = Socket::sent(caller.address, &call_text(&client, tool)).await;
            if tool == "gated" {
                assert!(socket.answers().await);
            }
            until("the call is at the server", async || {
                (!server.seen("tools/call").is_empty()).then_some(())
            })
            .await;
            drop(socket);
            until("the server sees it leave", async || (server.upstream.left() == left + 1).then_some(()))
                .await;
        }
        let rows = rows(&app).await;
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.0 == 499 && row.1.as_deref() == Some("client_left")), "{rows:?}");
    });
}

#[test]
fn a_client_that_leaves_a_session_leaves_its_call_running() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        for (turn, tool) in ["slow", "gated"].into_iter().enumerate() {
            let mut socket = Socket::sent(caller.address, &call_text(&client, tool)).await;
            if tool == "gated" {
                assert!(socket.answers().await);
            }
            let calls = 2 * turn;
            until("it is at the server", async || (server.seen("tools/call").len() > calls).then_some(()))
                .await;
            drop(socket);
            let rows =
                until("its row", async || Some(app.rows().await).filter(|rows| rows.len() == 3 + calls))
                    .await;
            assert_eq!((&rows[0]["status"], &rows[0]["error_code"]), (&json!(499), &json!("client_left")));
            assert_eq!(server.upstream.left(), 0, "it still runs");
            server.gate.add_permits(1);
            until("it ends", async || (server.gate.available_permits() == 0).then_some(())).await;
            client.call("echo").await.expect(200);
            app.idle().await;
            assert_eq!(app.rows().await.len(), 4 + calls, "no second row");
        }
        assert_eq!(server.upstream.left(), 0);
    });
}

#[test]
fn a_call_that_nobody_waits_for_ends_with_the_servers_time() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register_with(&app, "s", json!({"timeout_secs": 1})).await;
        let client = McpClient::opened(&app.caller("t").await, "/mcp/s").await;
        let mut socket = Socket::sent(client.caller.address, &call_text(&client, "gated")).await;
        assert!(socket.answers().await);
        drop(socket);
        until("the connection is closed", async || (server.upstream.left() == 1).then_some(())).await;
    });
}

#[test]
fn a_server_that_is_silent_too_long_is_given_up() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register_with(&app, "s", json!({"timeout_secs": 1})).await;
        let client = McpClient::opened(&app.caller("t").await, "/mcp/s").await;
        let refused = client.call("slow").await.expect(504);
        assert_eq!(rpc_error(&refused), (504, "upstream_timeout".to_owned()));
        let mut socket = Socket::sent(client.caller.address, &call_text(&client, "gated")).await;
        socket.head().await.unwrap();
        while socket.chunk().await.is_some() {}
        let rows = rows(&app).await;
        assert_eq!((rows[3].0, rows[3].1.as_deref()), (504, Some("upstream_timeout")));
    });
}

#[test]
fn an_answer_that_is_cut_breaks_off_here_too() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let mut socket = Socket::sent(caller.address, &call_text(&client, "cut")).await;
        assert!(socket.head().await.unwrap().starts_with("http/1.1 200"));
        assert!(socket.chunk().await.is_some_and(|chunk| !chunk.is_empty()));
        assert_eq!(socket.chunk().await, None, "no last chunk");
        let rows = rows(&app).await;
        assert_eq!(
            (rows[2].0, rows[2].1.as_deref(), rows[2].3.as_deref()),
            (502, Some("upstream_truncated"), Some("cut"))
        );
    });
}

#[test]
fn a_client_that_leaves_with_its_response_has_not_left() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        for _ in 0..20 {
            let mut socket = Socket::sent(caller.address, &call_text(&client, "lingers")).await;
            socket.head().await.unwrap();
            loop {
                let chunk = socket.chunk().await.unwrap();
                if String::from_utf8_lossy(&chunk).contains("\"result\"") {
                    break;
                }
            }
            drop(socket);
        }
        let rows = rows(&app).await;
        assert_eq!(rows.iter().filter(|row| row.0 == 200 && row.3.is_some()).count(), 20, "{rows:?}");
    });
}

#[test]
fn a_dead_server_opens_its_breaker_and_harms_no_other() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register(&app, "s").await;
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let fields = json!({"name": "dead", "upstream_url": format!("http://{gone}/mcp")});
        app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
        let caller = app.caller("t").await;
        let client = McpClient::new(&caller, "/mcp/dead");
        for _ in 0..5 {
            assert_eq!(
                rpc_error(&client.call("x").await.expect(502)),
                (502, "upstream_unreachable".to_owned())
            );
        }
        let refused = client.call("x").await.expect(503);
        assert_eq!(rpc_error(&refused), (503, "upstream_circuit_open".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("5"));
        let shown = app.admin().get("/api/v1/mcp-servers/dead").await.expect(200).json();
        assert_eq!((&shown["health"]["state"], &shown["health"]["failures"]), (&json!("open"), &json!(5)));
        assert!(shown["health"]["retry_at"].is_string());
        let metrics = app.metrics().await;
        for line in
            [r#"obleth_mcp_circuit_state{server="dead"} 2"#, r#"obleth_mcp_circuit_state{server="s"} 0"#]
        {
            assert!(metrics.lines().any(|own| own == line), "{line}");
        }
        McpClient::opened(&caller, "/mcp/s").await.call("echo").await.expect(200);
        // A new address is a new chance.
        let moved = json!({"upstream_url": server.url()});
        app.admin().patch("/api/v1/mcp-servers/dead", &moved).await.expect(200);
        McpClient::opened(&caller, "/mcp/dead").await.call("echo").await.expect(200);
    });
}

#[test]
fn a_stream_that_listens_ends_with_its_key_and_with_the_gateway() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let listen = |client: &McpClient| {
            let (key, session) = (client.caller.credential.clone().unwrap(), client.session.clone().unwrap());
            format!(
                "GET /mcp/s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
            )
        };
        let mut socket = Socket::sent(caller.address, &listen(&client)).await;
        assert!(socket.head().await.unwrap().contains("x-accel-buffering: no"));
        assert!(socket.chunk().await.is_some());
        let keys = app.admin().get("/api/v1/keys").await.expect(200).json();
        let id = keys["data"][0]["id"].as_str().unwrap().to_owned();
        app.admin().patch(&format!("/api/v1/keys/{id}"), &json!({"disabled": true})).await.expect(200);
        let begun = Instant::now();
        assert_eq!(socket.chunk().await.as_deref(), Some(&[][..]), "ends in good order");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let row: Value =
            until("its row", async || app.rows().await.into_iter().find(|row| row["stream"] == true)).await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(200), &json!(null)));
        app.admin().patch(&format!("/api/v1/keys/{id}"), &json!({"disabled": false})).await.expect(200);
        // A client that leaves has heard what it wanted.
        let mut socket = Socket::sent(caller.address, &listen(&client)).await;
        assert!(socket.head().await.is_some() && socket.chunk().await.is_some());
        drop(socket);
        let rows = until("another row", async || {
            let rows: Vec<Value> = app.rows().await.into_iter().filter(|row| row["stream"] == true).collect();
            (rows.len() == 2).then_some(rows)
        })
        .await;
        assert!(rows.iter().all(|row| row["status"] == 200 && row["error_code"] == json!(null)), "{rows:?}");
        let mut socket = Socket::sent(caller.address, &listen(&client)).await;
        assert!(socket.head().await.is_some() && socket.chunk().await.is_some());
        let stopping = actix_rt::spawn(app.stop());
        assert_eq!(socket.chunk().await.as_deref(), Some(&[][..]));
        stopping.await.unwrap();
    });
}

#[test]
fn a_fault_of_the_actor_is_contained() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let mcp = &app.running.gateway.handles.mcp;
        mcp.plant_fault();
        assert_eq!(rpc_error(&client.call("echo").await.expect(503)).1, "restarting");
        client.call("echo").await.expect(200);
        mcp.crash().unwrap();
        until("a restart", async || (mcp.restarts() == 2).then_some(())).await;
        client.call("echo").await.expect(200);
        assert!(app.metrics().await.contains("obleth_actor_restarts_total{actor=\"mcp\"} 2"));
    });
}
