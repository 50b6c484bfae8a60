//! Rows to write. Every optional column is set, so that a column that is mixed up shows.

use obleth_schema::groups::{DEFAULT_GROUP_ID, GroupRow};
use obleth_schema::keys::KeyRow;
use obleth_schema::ledger::LedgerRecord;
use obleth_schema::mcp_servers::McpServerRow;
use obleth_schema::models::ModelRow;
use obleth_schema::tenants::TenantRow;
use uuid::Uuid;

fn id() -> String {
    Uuid::new_v4().to_string()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn group(name: &str) -> GroupRow {
    GroupRow { id: id(), version: 1, name: name.to_owned(), weight: 300, created_at: 11, updated_at: 12 }
}

pub fn tenant(name: &str) -> TenantRow {
    TenantRow {
        id: id(),
        version: 1,
        name: name.to_owned(),
        weight: 1_000_000,
        group_id: DEFAULT_GROUP_ID.to_owned(),
        tokens_per_minute: Some(i64::MAX),
        requests_per_minute: Some(2),
        max_in_flight: Some(3),
        max_queued: Some(4),
        status: "active".to_owned(),
        allowed_models: some(r#"["a"]"#),
        allowed_tools: some(r#"["s/*"]"#),
        budgets: "[]".to_owned(),
        brownout: some("{}"),
        metadata: r#"{"ü":"🦀"}"#.to_owned(),
        created_at: 21,
        updated_at: 22,
    }
}

pub fn key(tenant_id: &str) -> KeyRow {
    let id = id();
    KeyRow {
        version: 1,
        tenant_id: tenant_id.to_owned(),
        name: "ci".to_owned(),
        key_prefix: "sk_12345678".to_owned(),
        key_hash: format!("hash of {id}"),
        previous_hash: Some(format!("previous hash of {id}")),
        previous_until: Some(1),
        disabled: true,
        expires_at: Some(2),
        allowed_models: some("[]"),
        allowed_tools: some(r#"["x"]"#),
        tokens_per_minute: Some(3),
        requests_per_minute: Some(4),
        max_in_flight: Some(5),
        budgets: r#"[{"period":"day"}]"#.to_owned(),
        created_at: 31,
        updated_at: 32,
        id,
    }
}

pub fn model(name: &str, aliases: &[&str]) -> ModelRow {
    ModelRow {
        id: id(),
        version: 1,
        model_name: name.to_owned(),
        upstream_model: "up".to_owned(),
        api_base: some("http://up/v1"),
        api_key_sealed: some("sealed key"),
        input_price: Some(1),
        cached_input_price: Some(2),
        output_price: Some(3),
        context_window: Some(4),
        max_output_tokens: Some(5),
        admission_weight: 250,
        max_in_flight: Some(6),
        enabled: true,
        aliases: format!("{aliases:?}"),
        cache_enabled: false,
        cache_ttl_secs: Some(7),
        request_timeout_secs: Some(8),
        fallback_models: r#"["b"]"#.to_owned(),
        upstream_headers_sealed: some("sealed headers"),
        description: some("what it is for"),
        created_at: 41,
        updated_at: 42,
    }
}

pub fn mcp_server(name: &str) -> McpServerRow {
    McpServerRow {
        id: id(),
        version: 1,
        name: name.to_owned(),
        upstream_url: "http://up/mcp".to_owned(),
        auth_header_sealed: some("sealed header"),
        enabled: true,
        timeout_secs: Some(1),
        requests_per_minute: Some(2),
        description: some("what it is for"),
        created_at: 51,
        updated_at: 52,
    }
}

/// A row of tenant `t`, key `k`, model `m`.
pub fn record(ts: i64) -> LedgerRecord {
    LedgerRecord {
        row_id: Uuid::now_v7().to_string(),
        request_id: id(),
        ts,
        tenant_id: "t".to_owned(),
        key_id: "k".to_owned(),
        model: "m".to_owned(),
        upstream_model: "up".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        stream: true,
        admission: "queued".to_owned(),
        status: 499,
        error_code: some("client_left"),
        cache: "off".to_owned(),
        estimated_tokens: 1,
        input_tokens: 2,
        cached_input_tokens: 3,
        output_tokens: 4,
        reasoning_tokens: 5,
        usage_source: "upstream".to_owned(),
        cost_pico: 6,
        queue_ms: 7,
        ttft_ms: Some(8),
        total_ms: 9,
        target_pod: some("10.0.0.1:8000"),
        session_id: some("s"),
        mcp_server: some("git"),
        mcp_tool: some("log"),
        bytes_in: 10,
        bytes_out: 11,
        input_cost_pico: Some(2),
        cached_input_cost_pico: Some(1),
        unpriced: true,
    }
}
