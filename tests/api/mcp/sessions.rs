use super::{gateway, with_server};
use crate::support::{FakeMcp, McpClient, TestApp, run};
use actix_web::http::Method;
use serde_json::json;

#[test]
fn a_session_is_its_keys_own() {
    run(async {
        let (server, other) = (FakeMcp::with_sessions().await, FakeMcp::with_sessions().await);
        let app = gateway().await;
        server.register(&app, "s").await;
        other.register(&app, "other").await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        let [mine, sibling] =
            [app.key(&tenant, json!({"name": "a"})).await, app.key(&tenant, json!({"name": "b"})).await];
        let stranger = app.caller("u").await;
        let client = McpClient::opened(&app.client(&mine), "/mcp/s").await;
        let session = client.session.clone().unwrap();
        assert!(!session.contains("session-0"), "{session}");
        let before = (server.upstream.seen().len(), other.upstream.seen().len());
        for (caller, path, id) in [
            (app.client(&sibling), "/mcp/s", session.as_str()),
            (stranger, "/mcp/s", &session),
            (app.client(&mine), "/mcp/other", &session),
            (app.client(&mine), "/mcp", &session),
            // The server's own id opens nothing here.
            (app.client(&mine), "/mcp/s", "session-0"),
            (app.client(&mine), "/mcp/s", "x"),
        ] {
            let thief = McpClient { caller, path: path.to_owned(), session: Some(id.to_owned()) };
            thief.call("echo").await.expect(404);
            if path != "/mcp" {
                thief.send(Method::GET, "", &[]).await.expect(404);
            }
            thief.send(Method::DELETE, "", &[]).await.expect(404);
        }
        let twice = [("mcp-session-id", session.as_str())];
        client.send(Method::POST, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, &twice).await.expect(404);
        assert_eq!((server.upstream.seen().len(), other.upstream.seen().len()), before);
        assert_eq!(server.sessions(), 1);
        client.call("echo").await.expect(200);
        assert_eq!(server.upstream.last().header("mcp-session-id"), Some("session-0"));
    });
}

#[test]
fn a_session_works_on_another_replica_and_after_a_rotation() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let key = [("OBLETH_ENCRYPTION_KEY", "b2JsZXRoLXRlc3RzLXNlYWwtd2l0aC10aGlzLWtleSE=")];
        let app = TestApp::at("http://127.0.0.1:9", &key).await;
        server.register(&app, "s").await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        let made = app
            .admin()
            .post(&format!("/api/v1/tenants/{tenant}/keys"), &json!({"name": "k"}))
            .await
            .expect(201)
            .json();
        let client = McpClient::opened(&app.client(made["secret"].as_str().unwrap()), "/mcp/s").await;
        let merged = McpClient::opened(&client.caller, "/mcp").await;
        let path = format!("/api/v1/keys/{}/rotate", made["key"]["id"].as_str().unwrap());
        let rotated = app.admin().post(&path, &json!({"overlap_secs": 0})).await.expect(200).json();
        let directory = app.stop().await;
        let app = TestApp::start_in(directory, "http://127.0.0.1:9", &key).await;
        let caller = app.client(rotated["secret"].as_str().unwrap());
        McpClient { caller: caller.clone(), ..client }.call("echo").await.expect(200);
        McpClient { caller, ..merged }.call("s__echo").await.expect(200);
    });
}

#[test]
fn without_an_encryption_key_a_session_ends_with_the_process() {
    run(async {
        if std::env::var_os("OBLETH_TEST_BACKEND").is_some() {
            return;
        }
        let server = FakeMcp::with_sessions().await;
        let (app, caller) = with_server(&server).await;
        let client = McpClient::opened(&caller, "/mcp/s").await;
        let directory = app.stop().await;
        let app = TestApp::start_in(directory, "http://127.0.0.1:9", &[]).await;
        let caller = app.client(&caller.credential.unwrap());
        McpClient { caller, ..client }.call("echo").await.expect(404);
    });
}
