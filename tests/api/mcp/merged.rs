use super::{caller_with, gateway, rows, rpc_error};
use crate::support::{FakeMcp, Gate, McpClient, Step, TestApp, Upstream, modern, names, run};
use actix_web::http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A gateway with `old` and `new`, servers of the two eras.
pub(super) async fn two() -> (TestApp, FakeMcp, FakeMcp) {
    let (old, new) = (FakeMcp::with_events().await, FakeMcp::stateless().await);
    let app = gateway().await;
    old.register(&app, "old").await;
    new.register(&app, "new").await;
    (app, old, new)
}

/// A server that takes requests and never answers.
async fn hanging() -> (Upstream, Gate) {
    let gate: Gate = Arc::new(tokio::sync::Semaphore::new(0));
    let own = Arc::clone(&gate);
    (Upstream::start(move |_| vec![Step::Wait(Arc::clone(&own))]).await, gate)
}

async fn register_at(app: &TestApp, name: &str, url: &str) {
    let fields = json!({"name": name, "upstream_url": url});
    app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
}

#[test]
fn the_tools_of_all_servers_stand_in_one_list() {
    run(async {
        let (app, old, new) = two().await;
        let caller = app.caller("t").await;
        let client = McpClient::opened(&caller, "/mcp").await;
        let expected: Vec<String> = ["new", "old"]
            .into_iter()
            .flat_map(|server| {
                ["echo", "slow", "events", "gated", "cut"].map(|tool| format!("{server}__{tool}"))
            })
            .collect();
        assert_eq!(client.tools().await, expected);
        let modern = McpClient::new(&caller, "/mcp");
        let list = modern.ask_modern("tools/list", json!({})).await.expect(200);
        assert_eq!(names(&list), expected, "the order is stable");
        let result = &list.json()["result"];
        assert_eq!(
            (&result["resultType"], &result["cacheScope"], &result["ttlMs"]),
            (&json!("complete"), &json!("public"), &json!(60_000))
        );
        assert_eq!(result["tools"][0]["inputSchema"], json!({"type": "object"}));
        // Read once for both clients, in a session that is ended.
        assert_eq!((old.seen("tools/list").len(), new.seen("tools/list").len(), old.sessions()), (1, 1, 0));
        assert!(
            old.upstream.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer operator"))
        );
        let limited = caller_with(
            &app,
            "u",
            json!({"allowed_tools": ["*/echo", "new/*"]}),
            json!({"allowed_tools": ["*/e*"]}),
        )
        .await;
        let list = McpClient::new(&limited, "/mcp").ask_modern("tools/list", json!({})).await.expect(200);
        assert_eq!(names(&list), ["new__echo", "new__events", "old__echo"]);
        assert_eq!(list.json()["result"]["cacheScope"], "private");
        app.admin().patch("/api/v1/mcp-servers/new", &json!({"enabled": false})).await.expect(200);
        assert_eq!(client.tools().await.len(), 5);
    });
}

#[test]
fn it_is_a_server_of_both_eras() {
    run(async {
        let (app, ..) = two().await;
        let caller = app.caller("t").await;
        let plain = McpClient::new(&caller, "/mcp");
        for (asked, given) in
            [("2025-06-18", "2025-06-18"), ("2024-11-05", "2025-11-25"), ("2026-07-28", "2025-11-25")]
        {
            let opened = plain.ask("initialize", json!({"protocolVersion": asked})).await.expect(200);
            assert_eq!(opened.json()["result"]["protocolVersion"], given);
            assert_eq!(opened.json()["result"]["capabilities"], json!({"tools": {"listChanged": false}}));
            assert!(opened.header("mcp-session-id").is_some());
        }
        let client = McpClient::opened(&caller, "/mcp").await;
        assert_eq!(client.ask("ping", json!({})).await.expect(200).json()["result"], json!({}));
        // In a session an unknown method is no 404: that would end the session.
        assert_eq!(client.ask("prompts/list", json!({})).await.expect(200).json()["error"]["code"], -32601);
        assert_eq!(client.send(Method::GET, "", &[]).await.expect(405).header("allow"), Some("POST, DELETE"));
        assert_eq!(client.call("nowhere__x").await.expect(200).json()["error"]["code"], -32602);
        assert_eq!(client.call("noborder").await.expect(200).json()["error"]["code"], -32602);
        client.send(Method::DELETE, "", &[]).await.expect(204);
        plain.send(Method::DELETE, "", &[]).await.expect(400);
        let found = plain.ask_modern("server/discover", json!({})).await.expect(200).json();
        assert_eq!(
            found["result"]["supportedVersions"],
            json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
        );
        assert_eq!(found["result"]["resultType"], "complete");
        let unknown = plain.ask_modern("prompts/list", json!({})).await.expect(404);
        assert_eq!(unknown.json()["error"]["code"], -32601);
        assert_eq!(
            plain.ask_modern("tools/list", json!({"cursor": "x"})).await.expect(400).json()["error"]["code"],
            -32602
        );
        assert_eq!(
            plain.ask_modern("tools/call", json!({"name": "nowhere__x"})).await.expect(400).json()["error"]["code"],
            -32602
        );
    });
}

#[test]
fn what_a_stateless_request_lacks_is_told_in_the_protocols_words() {
    run(async {
        let (app, ..) = two().await;
        let client = McpClient::new(&app.caller("t").await, "/mcp");
        let all =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "new__echo")];
        let body = modern("tools/call", json!({"name": "new__echo"}));
        let versioned = |version: &str| {
            let mut body = body.clone();
            body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(version);
            body
        };
        let mut bare = body.clone();
        bare["params"].as_object_mut().unwrap().remove("_meta");
        let other = [("mcp-protocol-version", "2099-01-01"), all[1], all[2]];
        for (body, headers, code) in [
            (&body, &all[..2], -32020),
            (&body, &all[1..], -32020),
            (&body, &[all[0], all[2]], -32020),
            (&bare, &all, -32602),
            (&versioned("2099-01-01"), &other, -32022),
            (&versioned("1900-01-01"), &[("mcp-protocol-version", "1900-01-01"), all[1], all[2]], -32022),
            (&versioned("2099-01-01"), &all, -32020),
        ] {
            let refused = client.send(Method::POST, &body.to_string(), headers).await.expect(400);
            assert_eq!(rpc_error(&refused), (code, "invalid_request".to_owned()), "{body} {headers:?}");
            assert_eq!(refused.json()["id"], 5);
            if code == -32022 {
                let data = &refused.json()["error"]["data"];
                assert_eq!(
                    (&data["supported"][0], data["requested"] != json!(null)),
                    (&json!("2026-07-28"), true)
                );
            }
        }
        let old = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/list"}).to_string();
        let refused =
            client.send(Method::POST, &old, &[("mcp-protocol-version", "1999-01-01")]).await.expect(400);
        assert_eq!(rpc_error(&refused).0, -32022);
    });
}

#[test]
fn a_dead_and_a_hanging_server_keep_nobody_waiting() {
    run(async {
        let (app, old, new) = two().await;
        let (hangs, _gate) = hanging().await;
        register_at(&app, "hangs", &format!("http://{}/", hangs.address)).await;
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        register_at(&app, "dead", &format!("http://{gone}/")).await;
        let caller = app.caller("t").await;
        let client = McpClient::new(&caller, "/mcp");
        let mut took = Vec::new();
        for _ in 0..3 {
            let begun = Instant::now();
            let list = client.ask_modern("tools/list", json!({})).await.expect(200);
            took.push(begun.elapsed());
            assert_eq!(names(&list).len(), 10);
            assert!(list.json()["result"]["ttlMs"].as_u64() <= Some(5000), "asked again soon");
        }
        assert!(took[0] < Duration::from_millis(2500), "{took:?}");
        assert!(took[1] < Duration::from_millis(500) && took[2] < Duration::from_millis(500), "{took:?}");
        for tool in ["old__echo", "new__echo"] {
            let begun = Instant::now();
            client.ask_modern("tools/call", json!({"name": tool})).await.expect(200);
            assert!(begun.elapsed() < Duration::from_millis(500));
        }
        let refused = client.ask_modern("tools/call", json!({"name": "dead__x"})).await;
        assert!([502, 503].contains(&refused.status), "{}", refused.text());
        assert_eq!((old.seen("tools/call").len(), new.seen("tools/call").len()), (1, 1));
        let last = rows(&app).await.pop().unwrap();
        assert_eq!((last.2.as_deref(), last.3.as_deref()), (Some("dead"), Some("x")));
    });
}

#[test]
fn a_server_that_hangs_later_is_listed_as_it_was() {
    run(async {
        let hang = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (gate, flag): (Gate, _) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::clone(&hang));
        let server = Upstream::start(move |seen| {
            if flag.load(std::sync::atomic::Ordering::SeqCst) {
                return vec![Step::Wait(Arc::clone(&gate))];
            }
            let result = match seen.json()["method"].as_str() {
                Some("server/discover") => json!({"supportedVersions": ["2026-07-28"]}),
                _ => json!({"tools": [{"name": "t"}], "ttlMs": 0, "cacheScope": "private"}),
            };
            let body = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
            vec![Step::Send(crate::support::json(200, &body))]
        })
        .await;
        let app = gateway().await;
        register_at(&app, "s", &format!("http://{}/", server.address)).await;
        let client = McpClient::new(&app.caller("t").await, "/mcp");
        let list = async || client.ask_modern("tools/list", json!({})).await.expect(200);
        assert_eq!(list().await.json()["result"]["cacheScope"], "private");
        hang.store(true, std::sync::atomic::Ordering::SeqCst);
        let seen = server.seen().len();
        // The list stands a second; from then on somebody asks again, and nobody waits long.
        crate::support::until("a refresh", async || {
            let begun = Instant::now();
            assert_eq!(names(&list().await), ["s__t"]);
            assert!(begun.elapsed() < Duration::from_millis(2500));
            (server.seen().len() > seen).then_some(())
        })
        .await;
        let begun = Instant::now();
        assert_eq!(names(&list().await), ["s__t"]);
        assert!(begun.elapsed() < Duration::from_millis(2300));
    });
}

#[test]
fn a_list_of_many_pages_is_read_to_its_end() {
    run(async {
        let server = Upstream::start(|seen| {
            let message = seen.json();
            let page: u64 = message["params"]["cursor"].as_str().map_or(0, |cursor| cursor.parse().unwrap());
            let result = match message["method"].as_str() {
                Some("server/discover") => json!({"supportedVersions": ["2026-07-28"]}),
                _ if page == 9 => json!({"tools": [{"name": "9"}]}),
                _ => json!({"tools": [{"name": page.to_string()}], "nextCursor": (page + 1).to_string()}),
            };
            let body = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
            vec![Step::Send(crate::support::json(200, &body))]
        })
        .await;
        let app = gateway().await;
        register_at(&app, "s", &format!("http://{}/", server.address)).await;
        let tools = McpClient::opened(&app.caller("t").await, "/mcp").await.tools().await;
        let expected: Vec<String> = (0..10).map(|number| format!("s__{number}")).collect();
        assert_eq!(tools, expected);
        let params: Vec<Value> =
            server.seen().iter().map(|seen| seen.json()["params"]["_meta"].clone()).collect();
        assert!(params.iter().all(|meta| meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"));
    });
}
