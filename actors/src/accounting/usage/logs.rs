//! Rows one by one: pages, one row, and all of them as CSV.

use super::csv;
use crate::accounting::Accounting;
use crate::admin::{AdminError, Page, Window, fields::FieldError};
use crate::shapes::{Id, Money, RequestId, Time};
use chrono::{DateTime, SecondsFormat};
use obleth_core::units::Usd;
use obleth_schema::ledger::{self, LedgerFilter, LedgerRecord};
use schemars::JsonSchema;
use serde::Serialize;

/// Rows of one piece of an export.
const PIECE: u32 = 1000;

/// A row of the ledger as the API answers it (contract §4).
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LedgerRow")]
pub struct LogView {
    #[schemars(with = "RequestId")]
    request_id: String,
    #[schemars(with = "Time")]
    ts: String,
    #[schemars(with = "Id")]
    tenant_id: String,
    #[schemars(with = "Id")]
    key_id: String,
    model: String,
    upstream_model: String,
    route: String,
    stream: bool,
    admission: String,
    status: i32,
    error_code: Option<String>,
    cache: String,
    estimated_tokens: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    usage_source: String,
    #[schemars(with = "Money")]
    cost_usd: String,
    queue_ms: i64,
    ttft_ms: Option<i64>,
    total_ms: i64,
    target_pod: Option<String>,
    session_id: Option<String>,
    mcp_server: Option<String>,
    mcp_tool: Option<String>,
    bytes_in: i64,
    bytes_out: i64,
}

impl From<&LedgerRecord> for LogView {
    fn from(row: &LedgerRecord) -> Self {
        let row = row.clone();
        let ts = DateTime::from_timestamp_micros(row.ts).unwrap_or_default();
        Self {
            request_id: row.request_id,
            ts: ts.to_rfc3339_opts(SecondsFormat::Micros, true),
            tenant_id: row.tenant_id,
            key_id: row.key_id,
            model: row.model,
            upstream_model: row.upstream_model,
            route: row.route,
            stream: row.stream,
            admission: row.admission,
            status: row.status,
            error_code: row.error_code,
            cache: row.cache,
            estimated_tokens: row.estimated_tokens,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            usage_source: row.usage_source,
            cost_usd: Usd::from_pico(row.cost_pico.into()).to_string(),
            queue_ms: row.queue_ms,
            ttft_ms: row.ttft_ms,
            total_ms: row.total_ms,
            target_pod: row.target_pod,
            session_id: row.session_id,
            mcp_server: row.mcp_server,
            mcp_tool: row.mcp_tool,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
        }
    }
}

/// The place of a row in the list: its time and its id.
fn position(row: &LedgerRecord) -> String {
    format!("{}/{}", row.ts, row.row_id)
}

fn place(text: &str) -> Result<(i64, &str), FieldError> {
    let parts = text.split_once('/').and_then(|(ts, id)| Some((ts.parse().ok()?, id)));
    parts.ok_or_else(|| FieldError::new("cursor", "is not a cursor of this list"))
}

/// Where an export is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Before its first line.
    Begin,
    /// Behind this row.
    After(i64, String),
    /// Nothing is left.
    Done,
}

impl Accounting {
    /// `GET /usage/logs`: newest first.
    pub async fn logs(&self, filter: &LedgerFilter, window: Window) -> Result<Page<LogView>, AdminError> {
        self.catch_up().await;
        let after = window.after.as_deref().map(place).transpose()?;
        let rows = ledger::page(&self.store, filter, after, window.limit + 1).await?;
        window.page(rows, position, |row| Ok(LogView::from(row)))
    }

    /// `GET /usage/logs/{request_id}`: the newest row of that id.
    pub async fn log(&self, request_id: &str) -> Result<LogView, AdminError> {
        self.catch_up().await;
        let row = ledger::by_request_id(&self.store, request_id).await?;
        row.as_ref().map(LogView::from).ok_or(AdminError::NotFound("request"))
    }

    /// The next lines of `GET /usage/export.csv`, newest first, and where to go on.
    pub async fn export(&self, filter: &LedgerFilter, at: &Export) -> Result<(String, Export), AdminError> {
        let after = match at {
            Export::Begin => {
                self.catch_up().await;
                None
            }
            Export::After(ts, row_id) => Some((*ts, row_id.as_str())),
            Export::Done => return Ok((String::new(), Export::Done)),
        };
        let rows = ledger::page(&self.store, filter, after, PIECE).await?;
        let mut lines = if after.is_none() { csv::header() } else { String::new() };
        rows.iter().for_each(|row| csv::line(row, &mut lines));
        let full = rows.len() >= usize::try_from(PIECE).unwrap_or(usize::MAX);
        let last = rows.into_iter().next_back().filter(|_| full);
        Ok((lines, last.map_or(Export::Done, |row| Export::After(row.ts, row.row_id))))
    }
}
