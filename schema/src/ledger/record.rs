//! One row of the ledger as the database keeps it (contract §4).

use crate::tables::ledger;
use diesel::prelude::*;
use obleth_core::ledger::{Entry, LedgerRow};

/// One request: what it asked, got and cost.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = ledger, treat_none_as_default_value = false)]
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
    /// Of the cost, for prompt tokens that were not cached; `None` in rows from before this was told.
    pub input_cost_pico: Option<i64>,
    /// Of the cost, for cached prompt tokens. The rest is for the answer.
    pub cached_input_cost_pico: Option<i64>,
    /// Some of the tokens had no price.
    pub unpriced: bool,
}

impl From<&LedgerRow> for LedgerRecord {
    fn from(row: &LedgerRow) -> Self {
        Self::from(&Entry::from(row))
    }
}

impl From<&Entry<'_>> for LedgerRecord {
    fn from(entry: &Entry<'_>) -> Self {
        Self {
            row_id: entry.row_id.to_string(),
            request_id: text(entry.request_id),
            ts: entry.ts,
            tenant_id: entry.tenant.to_string(),
            key_id: entry.key.to_string(),
            model: text(entry.model),
            upstream_model: text(entry.upstream_model),
            route: text(entry.route),
            stream: entry.stream,
            admission: text(entry.admission),
            status: entry.status.into(),
            error_code: entry.error_code.map(text),
            cache: text(entry.cache),
            estimated_tokens: count(entry.estimated_tokens),
            input_tokens: count(entry.input_tokens),
            cached_input_tokens: count(entry.cached_input_tokens),
            output_tokens: count(entry.output_tokens),
            reasoning_tokens: count(entry.reasoning_tokens),
            usage_source: text(entry.usage_source),
            cost_pico: entry.cost_pico,
            queue_ms: count(entry.queue_ms),
            ttft_ms: entry.ttft_ms.map(count),
            total_ms: count(entry.total_ms),
            target_pod: entry.target_pod.map(text),
            session_id: entry.session_id.map(text),
            mcp_server: entry.mcp_server.map(text),
            mcp_tool: entry.mcp_tool.map(text),
            bytes_in: count(entry.bytes_in),
            bytes_out: count(entry.bytes_out),
            input_cost_pico: entry.charge.map(|charge| charge.input_pico),
            cached_input_cost_pico: entry.charge.map(|charge| charge.cached_input_pico),
            unpriced: entry.charge.is_some_and(|charge| charge.unpriced),
        }
    }
}

/// PostgreSQL refuses a NUL in text; one row with one must not hold its whole batch up for ever.
fn text(value: &str) -> String {
    value.replace('\0', "\u{fffd}")
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
