//! What the ledger says, as the APIs answer it: rows, sums, series, a tenant's bill, a caller's own usage.
//!
//! Is: reads of the database and the shapes of answers. Is not: on a request's path. Sums come from the roll-ups, their
//! edges from the rows, so they are exact for any span that the rows still reach.

use super::Accounting;
use crate::admin::{AdminError, fields::FieldError};
use crate::shapes::Money;
use chrono::{DateTime, NaiveDate};
use obleth_core::units::Usd;
use obleth_schema::ledger::{self, Ask, Dimension, Report, Span, Steps, Totals, retention};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

mod csv;
mod logs;
mod own;
mod series;
mod statement;
mod summary;
mod zone;

pub use logs::{Export, LogView};
pub(super) use own::Memo;
pub use own::{OwnUsage, Unread};
pub use series::{Bucket, SeriesAsk, SeriesView};
pub use statement::{StatementAsk, StatementView};
pub use summary::{GroupBy, SummaryAsk, SummaryView};
pub use zone::Zone;

/// How long a read waits for rows that are not written yet, so that it shows what has just been answered.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Most lines that are read for one answer.
const LINES: usize = 200_000;

/// Which requests are summed; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Of {
    pub tenant_id: Option<String>,
    pub key_id: Option<String>,
    pub model: Option<String>,
}

impl Of {
    fn ask(self, span: Span, steps: Steps, by: Vec<Dimension>) -> Ask {
        let Self { tenant_id, key_id, model } = self;
        Ask { span, steps, by, tenant_id, key_id, model, limit: LINES }
    }
}

/// Sums as an answer shows them.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Sums")]
pub struct SumsView {
    requests: i64,
    errors: i64,
    refused: i64,
    /// Requests some of whose tokens have no price.
    unpriced: i64,
    cache_hits: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    saved_tokens: i64,
    #[schemars(with = "Money")]
    cost_usd: String,
}

impl From<Totals> for SumsView {
    fn from(totals: Totals) -> Self {
        Self {
            requests: totals.requests,
            errors: totals.errors,
            refused: totals.refused,
            unpriced: totals.unpriced,
            cache_hits: totals.cache_hits,
            input_tokens: totals.input_tokens,
            cached_input_tokens: totals.cached_input_tokens,
            output_tokens: totals.output_tokens,
            reasoning_tokens: totals.reasoning_tokens,
            saved_tokens: totals.saved_tokens,
            cost_usd: usd(totals.cost_pico),
        }
    }
}

fn usd(pico: i128) -> String {
    Usd::from_pico(pico).to_string()
}

/// Reads `since` and `until`: RFC 3339, or a date (its beginning in `zone`).
pub fn time(field: &str, text: Option<&str>, zone: Zone) -> Result<Option<i64>, FieldError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let full = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros());
    let date = || text.parse::<NaiveDate>().ok().and_then(|date| zone.begin(date));
    full()
        .or_else(date)
        .map(Some)
        .ok_or_else(|| FieldError::new(field, "must be RFC 3339 such as 2026-01-31T00:00:00Z, or a date"))
}

/// Reads `group_by` where sums may be by who and what.
pub fn dimension(text: &str) -> Option<Dimension> {
    match text {
        "tenant" => Some(Dimension::Tenant),
        "key" => Some(Dimension::Key),
        "model" => Some(Dimension::Model),
        _ => None,
    }
}

impl Accounting {
    /// Waits for rows that are not written yet.
    async fn catch_up(&self) {
        self.flush(CATCH_UP).await;
    }

    /// What was ever recorded of the span; `None`: nothing was.
    async fn recorded(&self, since: Option<i64>, until: Option<i64>) -> Result<Option<Span>, AdminError> {
        let all = ledger::recorded(&self.store).await?;
        Ok(all.map(|all| Span {
            since: since.map_or(all.since, |since| since.max(all.since)),
            until: until.map_or(all.until, |until| until.min(all.until)),
        }))
    }

    /// Sums that are exact, or a refusal.
    async fn sums(&self, ask: &Ask) -> Result<Report, AdminError> {
        let report = ledger::report(&self.store, ask).await?;
        if !report.complete {
            return Err(FieldError::new("since", "the span has too many lines: ask for less of it").into());
        }
        if let Some(oldest) = report.rows_since {
            // Asked afterwards: rows that went meanwhile were announced before.
            let kept = retention::rows_since(&self.store).await?;
            if oldest < kept {
                return Err(dropped(ask, kept).into());
            }
        }
        Ok(report)
    }
}

/// The rows that would be needed are gone.
fn dropped(ask: &Ask, kept: i64) -> FieldError {
    let kept = DateTime::from_timestamp_micros(kept).unwrap_or_default().to_rfc3339();
    let (field, hint) = match &ask.steps {
        Steps::DaysOf { cut, .. } if !cut.is_empty() => ("time_zone", "its days begin within hours of UTC"),
        _ => ("since", "it begins or ends within an hour of UTC"),
    };
    FieldError::new(
        field,
        format_args!("{hint}, whose rows from before {kept} are dropped: only sums by hours are left"),
    )
}
