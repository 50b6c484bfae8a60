use super::gateway;
use crate::support::{FakeMcp, McpClient, run};
use serde_json::json;

#[test]
fn servers_are_registered_shown_changed_and_deleted() {
    run(async {
        let app = gateway().await;
        let admin = app.admin();
        let made = admin
            .post(
                "/api/v1/mcp-servers",
                &json!({"name": "git", "upstream_url": "http://127.0.0.1:1/mcp?tenant=1", "auth_header": "Bearer s3cret"}),
            )
            .await
            .expect(201);
        assert!(!made.text().contains("s3cret"));
        let made = made.json();
        assert_eq!(
            (&made["auth_header_set"], &made["enabled"], &made["version"]),
            (&json!(true), &json!(true), &json!(1))
        );
        assert_eq!((&made["timeout_secs"], &made["requests_per_minute"]), (&json!(null), &json!(null)));
        let shown = admin.get("/api/v1/mcp-servers/git").await.expect(200).json();
        assert_eq!(
            shown["health"],
            json!({"state": "closed", "since": null, "failures": 0, "retry_at": null})
        );
        let patch = json!({"timeout_secs": 7, "requests_per_minute": 60, "description": "d", "version": 1});
        let patched = admin.patch("/api/v1/mcp-servers/git", &patch).await.expect(200).json();
        assert_eq!((&patched["timeout_secs"], &patched["auth_header_set"]), (&json!(7), &json!(true)));
        admin.patch("/api/v1/mcp-servers/git", &patch).await.expect(409);
        let cleared =
            admin.patch("/api/v1/mcp-servers/git", &json!({"auth_header": null, "name": "git2"})).await;
        assert_eq!(cleared.expect(200).json()["auth_header_set"], json!(false));
        admin
            .post("/api/v1/mcp-servers", &json!({"name": "a", "upstream_url": "http://h/mcp"}))
            .await
            .expect(201);
        let clash = json!({"name": "git2", "upstream_url": "http://h/mcp"});
        assert_eq!(admin.post("/api/v1/mcp-servers", &clash).await.expect(409).error_code(), "conflict");
        let list = admin.get("/api/v1/mcp-servers?limit=1").await.expect(200).json();
        assert_eq!((list["data"].as_array().unwrap().len(), &list["data"][0]["name"]), (1, &json!("a")));
        assert!(list["next_cursor"].is_string() && list["data"][0]["health"].is_object());
        admin.delete("/api/v1/mcp-servers/git2").await.expect(204);
        admin.delete("/api/v1/mcp-servers/git2").await.expect(404);
        admin.get("/api/v1/mcp-servers/git2").await.expect(404);
    });
}

#[test]
fn a_wrong_field_is_named() {
    run(async {
        let app = gateway().await;
        let bare = ["name", "upstream_url"];
        for (fields, field) in [
            (json!({"upstream_url": "http://h/"}), "name"),
            (json!({"name": "a"}), "upstream_url"),
            (json!({"name": "a__b", "upstream_url": "http://h/"}), "name"),
            (json!({"name": "a/b", "upstream_url": "http://h/"}), "name"),
            (json!({"name": "..", "upstream_url": "http://h/"}), "name"),
            (json!({"name": "a", "upstream_url": "ftp://h/"}), "upstream_url"),
            (json!({"name": "a", "upstream_url": "https://ï/"}), "upstream_url"),
            (json!({"name": "a", "upstream_url": "http://169.254.169.254/mcp"}), "upstream_url"),
            (json!({"name": "a", "upstream_url": "http://[::ffff:a9fe:a9fe]/mcp"}), "upstream_url"),
            (json!({"name": "a", "upstream_url": "http://u:p@h/"}), "upstream_url"),
            (json!({"name": "a", "auth_header": "a\nb"}), "auth_header"),
            (json!({"name": "a", "timeout_secs": 0}), "timeout_secs"),
            (json!({"name": "a", "requests_per_minute": 0}), "requests_per_minute"),
            (json!({"name": "a", "colour": 1}), "colour"),
        ] {
            let mut server = if bare.contains(&field) && fields.as_object().unwrap().len() == 1 {
                json!({})
            } else {
                json!({"name": "a", "upstream_url": "http://h/"})
            };
            server.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let refused = app.admin().post("/api/v1/mcp-servers", &server).await.expect(400).json();
            assert_eq!(refused["error"]["param"], field, "{fields}");
        }
    });
}

#[test]
fn a_change_holds_from_the_next_request_on() {
    run(async {
        let (one, two) = (FakeMcp::with_sessions().await, FakeMcp::with_sessions().await);
        let app = gateway().await;
        one.register(&app, "s").await;
        let client = McpClient::opened(&app.caller("t").await, "/mcp/s").await;
        client.call("echo").await.expect(200);
        let admin = app.admin();
        admin
            .patch("/api/v1/mcp-servers/s", &json!({"upstream_url": two.url(), "auth_header": "Bearer new"}))
            .await
            .expect(200);
        // The session stays behind.
        client.call("echo").await.expect(404);
        McpClient::opened(&client.caller, "/mcp/s").await.call("echo").await.expect(200);
        assert_eq!(two.upstream.last().header("authorization"), Some("Bearer new"));
        admin.patch("/api/v1/mcp-servers/s", &json!({"enabled": false})).await.expect(200);
        assert_eq!(client.call("echo").await.expect(404).error_code(), "mcp_server_not_found");
        admin.patch("/api/v1/mcp-servers/s", &json!({"enabled": true, "name": "renamed"})).await.expect(200);
        client.call("echo").await.expect(404);
        McpClient::opened(&client.caller, "/mcp/renamed").await.call("echo").await.expect(200);
        admin.delete("/api/v1/mcp-servers/renamed").await.expect(204);
        McpClient::new(&client.caller, "/mcp/renamed").call("echo").await.expect(404);
    });
}

#[test]
fn servers_and_lists_outlive_a_restart() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register(&app, "s").await;
        let caller = super::caller_with(&app, "t", json!({}), json!({"allowed_tools": ["s/echo"]})).await;
        let key = caller.credential.clone().unwrap();
        let directory = app.stop().await;
        let app = crate::support::TestApp::start_in(directory, "http://127.0.0.1:9", &[]).await;
        let client = McpClient::opened(&app.client(&key), "/mcp/s").await;
        assert_eq!(client.tools().await, ["echo"]);
        client.call("slow").await.expect(403);
        assert_eq!(server.upstream.last().header("authorization"), Some("Bearer operator"));
    });
}

#[test]
fn a_document_carries_servers_and_the_audit_tells_of_them() {
    run(async {
        let server = FakeMcp::with_sessions().await;
        let app = gateway().await;
        server.register(&app, "s").await;
        let admin = app.admin();
        let document = admin.get("/api/v1/config/export").await.expect(200);
        assert!(!document.text().contains("operator"));
        let exported = document.json();
        assert_eq!(
            (&exported["mcp_servers"][0]["name"], &exported["mcp_servers"][0]["upstream_url"]),
            (&json!("s"), &json!(server.url()))
        );
        let again = admin.post("/api/v1/config/import?prune=true", &exported).await.expect(200).json();
        assert_eq!(
            (&again["updates"], &again["deletes"], &again["creates"]),
            (&json!([]), &json!([]), &json!([]))
        );
        let wanted = json!({"mcp_servers": [
            {"name": "s", "upstream_url": server.url(), "auth_header": "Bearer other", "timeout_secs": 9},
            {"name": "t", "upstream_url": "http://t/mcp"},
        ]});
        let done = admin.post("/api/v1/config/import", &wanted).await.expect(200).json();
        assert_eq!(
            done["updates"],
            json!([{"kind": "mcp_server", "name": "s", "fields": ["timeout_secs", "auth_header"]}])
        );
        assert_eq!(done["creates"], json!([{"kind": "mcp_server", "name": "t"}]));
        let same = admin.post("/api/v1/config/import", &wanted).await.expect(200).json();
        assert_eq!((&same["unchanged"], &same["updates"]), (&json!(2), &json!([])));
        let client = McpClient::opened(&app.caller("t").await, "/mcp/s").await;
        client.call("echo").await.expect(200);
        assert_eq!(server.upstream.last().header("authorization"), Some("Bearer other"));
        let pruned = json!({"mcp_servers": []});
        let pruned = admin.post("/api/v1/config/import?prune=true", &pruned).await.expect(200).json();
        assert_eq!(pruned["deletes"].as_array().unwrap().len(), 2);
        client.call("echo").await.expect(404);
        let audit = admin.get("/api/v1/audit?kind=mcp_server").await.expect(200);
        assert!(!audit.text().contains("Bearer"));
        let actions: Vec<_> =
            audit.json()["data"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
        assert_eq!(actions.iter().filter(|action| **action == "delete").count(), 2);
        assert_eq!(actions.len(), 5);
    });
}
