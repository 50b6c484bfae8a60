use super::with_server;
use crate::support::{Dice, FakeMcp, McpClient, Socket, modern, post, run, until};
use serde_json::json;

/// Calls at a time.
const CALLS: usize = 200;

#[test]
fn of_many_calls_that_are_left_at_random_nothing_stays() {
    run(async {
        for server in [FakeMcp::with_sessions().await, FakeMcp::stateless().await] {
            let (app, caller) = with_server(&server).await;
            let key = caller.credential.clone().unwrap();
            let has_sessions = server.upstream.seen().is_empty() && {
                let opened = McpClient::new(&caller, "/mcp/s")
                    .ask("initialize", json!({"protocolVersion": "2025-11-25"}))
                    .await;
                opened.status == 200
            };
            let session =
                if has_sessions { McpClient::opened(&caller, "/mcp/s").await.session } else { None };
            app.idle().await;
            let before = app.rows().await.len();
            let mut dice = Dice::new(7);
            let mut calls = Vec::new();
            for number in 0..CALLS {
                let tool = if dice.below(2) == 0 { "gated" } else { "events" };
                let body = match &session {
                    Some(_) => {
                        json!({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool}})
                    }
                    None => modern("tools/call", json!({"name": tool})),
                };
                let head = match &session {
                    Some(session) => format!("mcp-session-id: {session}"),
                    None => format!(
                        "mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: {tool}"
                    ),
                };
                let text = post("/mcp/s", &key, &format!("call-{number}"), &body);
                let text = text.replacen("content-type", &format!("{head}\r\ncontent-type"), 1);
                let (address, leaves) = (caller.address, dice.below(3));
                calls.push(actix_rt::spawn(async move {
                    let mut socket = Socket::sent(address, &text).await;
                    if leaves == 0 {
                        return;
                    }
                    socket.head().await;
                    if leaves == 1 {
                        return;
                    }
                    while socket.chunk().await.is_some_and(|chunk| !chunk.is_empty()) {}
                }));
            }
            // Those that stay wait for the gate.
            let gate = server.gate.clone();
            let opener = actix_rt::spawn(async move {
                loop {
                    gate.add_permits(1);
                    tokio::task::yield_now().await;
                    actix_rt::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            });
            for call in calls {
                call.await.unwrap();
            }
            app.idle().await;
            let rows = until("every row", async || {
                let rows = app.all_rows().await;
                (rows.len() >= before + CALLS).then_some(rows)
            })
            .await;
            assert_eq!(rows.len(), before + CALLS);
            let mut ids: Vec<&str> =
                rows.iter().filter_map(|row| row["request_id"].as_str()?.strip_prefix("call-")).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), CALLS, "one row each");
            until("no call is left at the server", async || (server.upstream.busy() == 0).then_some(()))
                .await;
            let left = || app.running.gateway.handles.mcp.exchanges();
            until("no exchange is left", async || (left() == 0).then_some(())).await;
            opener.abort();
            assert_eq!(app.running.gateway.running(), 0);
            if has_sessions {
                assert_eq!(server.sessions(), 2);
            }
        }
    });
}
