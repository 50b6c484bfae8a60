//! What the ledger says: rows, one row, and sums, as the management API answers them.

use super::Accounting;
use crate::admin::{AdminError, Page, Window, fields::FieldError};
use chrono::{DateTime, SecondsFormat, Utc};
use obleth_core::units::Usd;
use obleth_schema::ledger::{self, GroupBy, LedgerFilter, LedgerRecord, Summary, SummaryFilter};
use serde::Serialize;
use std::time::Duration;

/// How long a read waits for rows that are not written yet, so that it shows what has just been answered.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A row of the ledger as the API answers it (contract §4).
#[derive(Debug, Serialize)]
pub struct LogView {
    request_id: String,
    ts: String,
    tenant_id: String,
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

/// One line of a summary.
#[derive(Debug, Serialize)]
pub struct SummaryLine {
    /// The tenant's id, the key's id, the model's name or the day, as `group_by` says.
    group: String,
    requests: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    cost_usd: String,
}

/// `GET /usage/summary`.
#[derive(Debug, Serialize)]
pub struct SummaryView {
    data: Vec<SummaryLine>,
    total_requests: i64,
    total_cost_usd: String,
}

impl SummaryView {
    fn of(rows: Vec<Summary>) -> Self {
        let total = rows.iter().fold(Usd::ZERO, |sum, row| sum + Usd::from_pico(row.cost_pico));
        let total_requests = rows.iter().map(|row| row.requests).sum();
        let line = |row: Summary| SummaryLine {
            group: row.group,
            requests: row.requests,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            cost_usd: Usd::from_pico(row.cost_pico).to_string(),
        };
        Self { data: rows.into_iter().map(line).collect(), total_requests, total_cost_usd: total.to_string() }
    }
}

/// Reads `group_by`.
pub fn group_by(text: Option<&str>) -> Result<GroupBy, FieldError> {
    match text {
        None | Some("tenant") => Ok(GroupBy::Tenant),
        Some("key") => Ok(GroupBy::Key),
        Some("model") => Ok(GroupBy::Model),
        Some("day") => Ok(GroupBy::Day),
        Some(_) => Err(FieldError::new("group_by", "must be tenant, key, model or day")),
    }
}

/// Reads `since` and `until`: RFC 3339, or a date (its beginning in UTC).
pub fn time(field: &str, text: Option<&str>) -> Result<Option<i64>, FieldError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let full = DateTime::parse_from_rfc3339(text).map(|time| time.with_timezone(&Utc)).ok();
    let date = || {
        let date: chrono::NaiveDate = text.parse().ok()?;
        Some(date.and_hms_opt(0, 0, 0)?.and_utc())
    };
    full.or_else(date)
        .map(|time| Some(time.timestamp_micros()))
        .ok_or_else(|| FieldError::new(field, "must be RFC 3339 such as 2026-01-31T00:00:00Z, or a date"))
}

/// The place of a row in the list: its time and its id.
fn position(row: &LedgerRecord) -> String {
    format!("{}/{}", row.ts, row.row_id)
}

fn place(text: &str) -> Result<(i64, &str), FieldError> {
    let parts = text.split_once('/').and_then(|(ts, id)| Some((ts.parse().ok()?, id)));
    parts.ok_or_else(|| FieldError::new("cursor", "is not a cursor of this list"))
}

impl Accounting {
    /// `GET /usage/logs`: newest first.
    pub async fn logs(&self, filter: &LedgerFilter, window: Window) -> Result<Page<LogView>, AdminError> {
        self.flush(CATCH_UP).await;
        let after = window.after.as_deref().map(place).transpose()?;
        let rows = ledger::page(&self.store, filter, after, window.limit + 1).await?;
        window.page(rows, position, |row| Ok(LogView::from(row)))
    }

    /// `GET /usage/logs/{request_id}`: the newest row of that id.
    pub async fn log(&self, request_id: &str) -> Result<LogView, AdminError> {
        self.flush(CATCH_UP).await;
        let row = ledger::by_request_id(&self.store, request_id).await?;
        row.as_ref().map(LogView::from).ok_or(AdminError::NotFound("request"))
    }

    /// `GET /usage/summary`.
    pub async fn summary(&self, by: GroupBy, filter: &SummaryFilter) -> Result<SummaryView, AdminError> {
        self.flush(CATCH_UP).await;
        Ok(SummaryView::of(ledger::summary(&self.store, by, filter).await?))
    }
}
