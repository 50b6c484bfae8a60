//! MCP: the servers' own endpoints and the merged one, in both eras.

use crate::support::{Answer, Caller, FakeMcp, Step, TestApp, Upstream};
use serde_json::{Value, json};

mod access;
mod endings;
mod load;
mod merged;
mod merged_calls;
mod passing;
mod registry;
mod rights;
mod rubbish;
mod sessions;
mod traces;

impl FakeMcp {
    /// Registers it, with a credential.
    pub async fn register(&self, app: &TestApp, name: &str) {
        self.register_with(app, name, json!({"auth_header": "Bearer operator"})).await;
    }

    pub async fn register_with(&self, app: &TestApp, name: &str, fields: Value) {
        let mut server = json!({"name": name, "upstream_url": self.url()});
        server.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        app.admin().post("/api/v1/mcp-servers", &server).await.expect(201);
    }
}

/// A gateway without a model.
async fn gateway() -> TestApp {
    TestApp::at("http://127.0.0.1:9", &[]).await
}

/// A gateway with one server, `s`, and a caller that may do everything.
async fn with_server(server: &FakeMcp) -> (TestApp, Caller) {
    let app = gateway().await;
    server.register(&app, "s").await;
    let caller = app.caller("t").await;
    (app, caller)
}

/// A caller whose key has these fields.
async fn caller_with(app: &TestApp, name: &str, tenant: Value, key: Value) -> Caller {
    let named = |fields: Value| {
        let mut named = json!({ "name": name });
        named.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        named
    };
    let tenant = app.tenant(named(tenant)).await;
    let key = app.key(&tenant, named(key)).await;
    app.client(&key)
}

/// A server that answers everything with this.
async fn says(app: &TestApp, name: &str, status: u16, kind: &str, body: &[u8]) -> Upstream {
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    let answer = bytes::Bytes::from([head.as_bytes(), body].concat());
    let server = Upstream::start(move |_| vec![Step::Send(answer.clone())]).await;
    let fields = json!({"name": name, "upstream_url": format!("http://{}/", server.address)});
    app.admin().post("/api/v1/mcp-servers", &fields).await.expect(201);
    server
}

/// `error.data.code` of a JSON-RPC error, checked for its whole shape, and its own code.
fn rpc_error(answer: &Answer) -> (i64, String) {
    let body = answer.json();
    assert_eq!(body["jsonrpc"], "2.0", "{body}");
    let error = &body["error"];
    assert!(error["message"].is_string(), "{body}");
    for field in ["type", "code", "source", "request_id"] {
        assert!(error["data"][field].is_string(), "{field} in {body}");
    }
    assert_eq!(error["data"]["request_id"].as_str(), answer.header("x-request-id"));
    (error["code"].as_i64().unwrap(), error["data"]["code"].as_str().unwrap().to_owned())
}

/// The rows of the ledger, oldest first: status, code, server and tool.
async fn rows(app: &TestApp) -> Vec<(u64, Option<String>, Option<String>, Option<String>)> {
    app.idle().await;
    let mut rows = app.rows().await;
    rows.sort_by_key(|row| row["ts"].to_string());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let row = |row: &Value| {
        assert_eq!(row["route"], "mcp");
        (
            row["status"].as_u64().unwrap(),
            text(&row["error_code"]),
            text(&row["mcp_server"]),
            text(&row["mcp_tool"]),
        )
    };
    rows.iter().map(row).collect()
}
