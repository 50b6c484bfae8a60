//! Gateways whose ledger has rows from before they started.

use super::app::TestApp;
use super::database;
use chrono::DateTime;
use obleth_schema::Store;
use obleth_schema::ledger::{LedgerRecord, insert_batch};
use tempfile::TempDir;
use uuid::Uuid;

/// Unix microseconds of an RFC 3339 text.
pub fn micros(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

/// A row of tenant `t`, key `k`, model `m`: 10 tokens in, 4 of them cached, 3 out; 7, 2 and 5 pico-dollars.
pub fn record(ts: i64) -> LedgerRecord {
    LedgerRecord {
        row_id: Uuid::now_v7().to_string(),
        request_id: Uuid::new_v4().to_string(),
        ts,
        tenant_id: "t".to_owned(),
        key_id: "k".to_owned(),
        model: "m".to_owned(),
        upstream_model: "up".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        stream: false,
        admission: "fast".to_owned(),
        status: 200,
        error_code: None,
        cache: "off".to_owned(),
        estimated_tokens: 20,
        input_tokens: 10,
        cached_input_tokens: 4,
        output_tokens: 3,
        reasoning_tokens: 1,
        usage_source: "upstream".to_owned(),
        cost_pico: 14,
        queue_ms: 0,
        ttft_ms: None,
        total_ms: 9,
        target_pod: None,
        session_id: None,
        mcp_server: None,
        mcp_tool: None,
        bytes_in: 1,
        bytes_out: 2,
        input_cost_pico: Some(7),
        cached_input_cost_pico: Some(2),
        unpriced: false,
    }
}

/// A gateway whose ledger has these rows.
pub async fn app_with(rows: &[LedgerRecord], variables: &[(&str, &str)]) -> TestApp {
    let directory = TempDir::new().unwrap();
    let url = database::url_in(directory.path()).await;
    let store = Store::connect(&url.parse().unwrap()).unwrap();
    store.migrate().await.unwrap();
    insert_batch(&store, rows).await.unwrap();
    drop(store);
    TestApp::start_in(directory, "http://127.0.0.1:9", variables).await
}
