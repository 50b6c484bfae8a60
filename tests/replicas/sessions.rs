//! Sessions of MCP: any replica goes on with one that another has opened.

use crate::support::{Cluster, FakeMcp, McpClient, Need, have, run, until};
use actix_web::http::Method;
use serde_json::json;

#[test]
fn a_session_goes_on_at_any_replica_and_ends_at_all() {
    if !have(&[Need::Postgres, Need::Redis]) {
        return;
    }
    run(async {
        let server = FakeMcp::with_sessions().await;
        let mut cluster = Cluster::of(3).start().await;
        let fields = json!({"name": "s", "upstream_url": server.url(), "auth_header": "Bearer operator"});
        cluster.api(2).post("/api/v1/mcp-servers", &fields).await.expect(201);
        let tenant = cluster.tenant(json!({"name": "acme"})).await;
        let key = cluster.key(&tenant, json!({"name": "k"})).await;
        cluster.knows(&key).await;
        until("the first replica knows the server", async || {
            let asked = McpClient::new(&cluster.client(0, &key), "/mcp/s").ask("ping", json!({})).await;
            (asked.status != 404).then_some(())
        })
        .await;
        let own = McpClient::opened(&cluster.client(0, &key), "/mcp/s").await;
        let merged = McpClient::opened(&cluster.client(1, &key), "/mcp").await;
        let at = |client: &McpClient, replica: usize| McpClient {
            caller: cluster.client(replica, &key),
            ..client.clone()
        };
        for replica in 0..3 {
            at(&own, replica).call("echo").await.expect(200);
            at(&merged, replica).call("s__echo").await.expect(200);
            assert_eq!(at(&merged, replica).tools().await.len(), 5);
        }
        // The one that opened it is gone.
        cluster.replicas[0].kill();
        let at = |client: &McpClient, replica: usize| McpClient {
            caller: cluster.client(replica, &key),
            ..client.clone()
        };
        at(&own, 2).call("echo").await.expect(200);
        at(&own, 1).send(Method::DELETE, "", &[]).await.expect(200);
        at(&own, 2).call("echo").await.expect(404);
    });
}
