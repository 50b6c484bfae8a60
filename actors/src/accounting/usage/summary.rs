//! `GET /usage/summary`.

use super::zone::date_of;
use super::{Of, SumsView, Zone, dimension, usd};
use crate::accounting::Accounting;
use crate::admin::{AdminError, fields::FieldError};
use crate::shapes::Money;
use obleth_schema::ledger::{Dimension, Line, Steps, Totals};
use schemars::JsonSchema;
use serde::Serialize;

/// Groups shown without a `limit`, and the most of them.
const GROUPS: usize = 1000;
const GROUPS_MAX: usize = 10_000;

/// What the sums are by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Tenants, keys or models.
    Each(Dimension),
    /// Days of the time zone.
    Day,
    /// Hours of UTC.
    Hour,
}

impl GroupBy {
    /// Reads `group_by`.
    pub fn read(text: Option<&str>) -> Result<Self, FieldError> {
        match text {
            None => Ok(Self::Each(Dimension::Tenant)),
            Some("day") => Ok(Self::Day),
            Some("hour") => Ok(Self::Hour),
            Some(text) => dimension(text)
                .map(Self::Each)
                .ok_or_else(|| FieldError::new("group_by", "must be tenant, key, model, day or hour")),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct SummaryAsk {
    pub by: GroupBy,
    pub of: Of,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub zone: Zone,
    /// Groups to show.
    pub limit: usize,
}

impl SummaryAsk {
    /// Reads `limit`.
    pub fn limit(text: Option<&str>) -> Result<usize, FieldError> {
        let Some(text) = text else {
            return Ok(GROUPS);
        };
        let limit = text.parse().ok().filter(|limit| (1..=GROUPS_MAX).contains(limit));
        limit.ok_or_else(|| {
            FieldError::new("limit", format_args!("must be a whole number from 1 to {GROUPS_MAX}"))
        })
    }
}

/// One line of a summary.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SummaryLine {
    /// The tenant's id, the key's id, the model's name, the day or the hour, as `group_by` says.
    group: String,
    #[serde(flatten)]
    sums: SumsView,
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Summary")]
pub struct SummaryView {
    data: Vec<SummaryLine>,
    /// How many there are, shown or not.
    groups_total: usize,
    total_requests: i64,
    total_unpriced: i64,
    #[schemars(with = "Money")]
    total_cost_usd: String,
}

impl SummaryView {
    fn of(ask: &SummaryAsk, mut lines: Vec<Line>) -> Result<Self, AdminError> {
        let groups_total = lines.len();
        let mut total = Totals::default();
        lines.iter().for_each(|line| total += line.totals);
        match ask.by {
            GroupBy::Each(_) => {
                let weight = |line: &Line| (line.totals.cost_pico, line.totals.requests);
                lines.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.group.cmp(&b.group)));
                lines.truncate(ask.limit);
            }
            GroupBy::Day | GroupBy::Hour if groups_total > GROUPS_MAX => {
                return Err(
                    FieldError::new("since", "the span has too many lines: ask for less of it").into()
                );
            }
            GroupBy::Day | GroupBy::Hour => {}
        }
        let name = |line: &mut Line| match ask.by {
            GroupBy::Each(_) => std::mem::take(&mut line.group).into_iter().next().unwrap_or_default(),
            GroupBy::Day => date_of(line.at).to_string(),
            GroupBy::Hour => ask.zone.stamp(line.at),
        };
        let line = |mut line: Line| SummaryLine { group: name(&mut line), sums: line.totals.into() };
        Ok(Self {
            data: lines.into_iter().map(line).collect(),
            groups_total,
            total_requests: total.requests,
            total_unpriced: total.unpriced,
            total_cost_usd: usd(total.cost_pico),
        })
    }
}

impl Accounting {
    /// `GET /usage/summary`: groups by what they cost, days and hours in order.
    pub async fn summary(&self, ask: SummaryAsk) -> Result<SummaryView, AdminError> {
        self.catch_up().await;
        let Some(span) = self.recorded(ask.since, ask.until).await? else {
            return SummaryView::of(&ask, Vec::new());
        };
        let (steps, by) = match ask.by {
            GroupBy::Each(dimension) => (Steps::Whole, vec![dimension]),
            GroupBy::Day => (ask.zone.steps(span), Vec::new()),
            GroupBy::Hour => (Steps::Hours, Vec::new()),
        };
        let report = self.sums(&ask.of.clone().ask(span, steps, by)).await?;
        SummaryView::of(&ask, report.lines)
    }
}
