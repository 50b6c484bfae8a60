use crate::support::{Collector, FakeMcp, McpClient, Spanned, TestApp, run};
use serde_json::json;

#[test]
fn a_call_is_a_trace_without_its_arguments_and_results() {
    run(async {
        let collector = Collector::start().await;
        let base = collector.base();
        let app = TestApp::at("http://127.0.0.1:9", &[("OBLETH_OTEL_ENDPOINT", &base)]).await;
        let server = FakeMcp::with_sessions().await;
        server.register(&app, "s").await;
        let caller = app.caller("t").await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let whispered = json!({"name": "echo", "arguments": {"secret": "whispered"}});
        client.ask("tools/call", whispered.clone()).await.expect(200);
        let merged = McpClient::new(&caller, "/mcp");
        merged
            .ask_modern("tools/call", json!({"name": "s__echo", "arguments": {"secret": "whispered"}}))
            .await
            .expect(200);
        let parent = server.upstream.last().header("traceparent").unwrap().to_owned();
        let (key, session) = (caller.credential.clone().unwrap(), client.session.clone().unwrap());
        drop((client, merged, caller));
        app.stop().await;
        let spans = collector.spans();
        let calls: Vec<&Spanned> = spans
            .iter()
            .filter(|span| span.name == "forward" && span.attribute("gen_ai.tool.name") == "echo")
            .collect();
        assert_eq!(calls.len(), 2);
        assert!(calls.iter().all(|span| span.attribute("gen_ai.operation.name") == "execute_tool"));
        assert!(calls.iter().any(|span| parent.contains(&span.id)), "the call is the parent of what follows");
        let roots: Vec<&Spanned> =
            spans.iter().filter(|span| span.attribute("obleth.mcp_server") == "s").collect();
        assert_eq!(roots.len(), 4);
        assert!(roots.iter().all(|span| span.name == "POST mcp" && span.attribute("http.route") == "mcp"));
        let bytes = collector.bytes();
        for secret in ["whispered", "operator", &key, &session, "session-0"] {
            assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret}");
        }
    });
}
