//! One row of the ledger as the database keeps it (contract §4).

use crate::tables::ledger;
use diesel::prelude::*;
use obleth_core::ledger::LedgerRow;
use std::sync::Arc;

/// One request: what it asked, got and cost.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = ledger)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct LedgerRecord {
    /// Made by the gateway; what makes a second write of the same row a no-op.
    pub row_id: String,
    /// Chosen by the client if it likes; may repeat.
    pub request_id: String,
    /// Arrival, Unix microseconds.
    pub ts: i64,
    pub tenant_id: String,
    pub key_id: String,
    pub model: String,
    pub upstream_model: String,
    pub route: String,
    pub stream: bool,
    pub admission: String,
    pub status: i32,
    pub error_code: Option<String>,
    pub cache: String,
    pub estimated_tokens: i64,
    pub input_tokens: i64,
    pub cached_input_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub usage_source: String,
    pub cost_pico: i64,
    pub queue_ms: i64,
    pub ttft_ms: Option<i64>,
    pub total_ms: i64,
    pub target_pod: Option<String>,
    pub session_id: Option<String>,
    pub mcp_server: Option<String>,
    pub mcp_tool: Option<String>,
    pub bytes_in: i64,
    pub bytes_out: i64,
}

impl From<&LedgerRow> for LedgerRecord {
    fn from(row: &LedgerRow) -> Self {
        // The counts that the cost was made from.
        let usage = row.usage.clamped();
        Self {
            row_id: row.id.to_string(),
            request_id: text(&row.request_id),
            ts: row.ts,
            tenant_id: row.tenant.to_string(),
            key_id: row.key.to_string(),
            model: text(&row.model),
            upstream_model: text(&row.upstream_model),
            route: text(row.route),
            stream: row.stream,
            admission: row.admission.as_str().to_owned(),
            status: row.status.into(),
            error_code: row.error_code.map(text),
            cache: row.cache.as_str().to_owned(),
            estimated_tokens: count(row.estimated_tokens),
            input_tokens: count(usage.input),
            cached_input_tokens: count(usage.cached_input),
            output_tokens: count(usage.output),
            reasoning_tokens: count(usage.reasoning),
            usage_source: row.usage_source().as_str().to_owned(),
            cost_pico: row.cost.row_pico(),
            queue_ms: count(row.queue_ms),
            ttft_ms: row.ttft_ms.map(count),
            total_ms: count(row.total_ms),
            target_pod: optional_text(row.target_pod.as_ref()),
            session_id: optional_text(row.session_id.as_ref()),
            mcp_server: None,
            mcp_tool: None,
            bytes_in: count(row.bytes_in),
            bytes_out: count(row.bytes_out),
        }
    }
}

/// PostgreSQL refuses a NUL in text; one row with one must not hold its whole batch up for ever.
fn text(value: &str) -> String {
    value.replace('\0', "\u{fffd}")
}

fn optional_text(value: Option<&Arc<str>>) -> Option<String> {
    value.map(|value| text(value))
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
