//! `GET /usage/series`: sums over time, for charts.

use super::zone::{DAY, HOUR};
use super::{Of, SumsView, Zone, dimension};
use crate::accounting::Accounting;
use crate::admin::{AdminError, fields::FieldError};
use crate::shapes::Time;
use obleth_schema::ledger::{Dimension, Line, Span, Steps, Totals};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most buckets: three years of days, three months of hours.
const DAYS_MAX: i64 = 1100;
const HOURS_MAX: i64 = 2232;
/// Most lines of an answer.
const LINES_MAX: usize = 20_000;
/// Buckets without a `since`.
const DAYS: i64 = 30;
const HOURS: i64 = 24;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// An hour of UTC.
    Hour,
    /// A day of the time zone.
    Day,
}

impl Bucket {
    /// Reads `bucket`.
    pub fn read(text: Option<&str>) -> Result<Self, FieldError> {
        match text {
            None | Some("day") => Ok(Self::Day),
            Some("hour") => Ok(Self::Hour),
            Some(_) => Err(FieldError::new("bucket", "must be hour or day")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct SeriesAsk {
    pub bucket: Bucket,
    pub by: Option<Dimension>,
    pub of: Of,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub zone: Zone,
    /// Unix microseconds.
    pub now: i64,
}

impl SeriesAsk {
    /// Reads `group_by`.
    pub fn by(text: Option<&str>) -> Result<Option<Dimension>, FieldError> {
        let wrong = || FieldError::new("group_by", "must be tenant, key or model");
        text.map(|text| dimension(text).ok_or_else(wrong)).transpose()
    }

    fn span(&self) -> Result<Span, FieldError> {
        let until = self.until.unwrap_or(self.now);
        let back = |span: i64| until.saturating_sub(span);
        let since = self.since.unwrap_or_else(|| match self.bucket {
            Bucket::Hour => back(HOURS * HOUR) - back(HOURS * HOUR).rem_euclid(HOUR),
            Bucket::Day => {
                self.zone.begin(self.zone.date(back(DAYS * DAY))).unwrap_or_else(|| back(DAYS * DAY))
            }
        });
        let longest = match self.bucket {
            Bucket::Hour => HOURS_MAX * HOUR,
            Bucket::Day => DAYS_MAX * DAY,
        };
        if until.saturating_sub(since) > longest {
            let most = longest / DAY;
            return Err(FieldError::new(
                "since",
                format_args!("lies too far back: at most {most} days by this bucket"),
            ));
        }
        Ok(Span { since, until })
    }

    /// The buckets of `span`, in order: as the lines of a report name them, and when they begin.
    fn buckets(&self, span: Span) -> Vec<(i64, i64)> {
        match self.bucket {
            Bucket::Hour => {
                let first = span.since - span.since.rem_euclid(HOUR);
                (0..)
                    .map(|number| first + number * HOUR)
                    .take_while(|at| *at < span.until)
                    .map(|at| (at, at))
                    .collect()
            }
            Bucket::Day => {
                let number = |date: chrono::NaiveDate| {
                    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros() / DAY
                };
                self.zone.days(span).map(|(date, begin)| (number(date), begin)).collect()
            }
        }
    }
}

/// One line of a series.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SeriesPoint")]
pub struct Point {
    /// When the bucket begins, as it is written in the time zone.
    #[schemars(with = "Time")]
    start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(flatten)]
    sums: SumsView,
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Series")]
pub struct SeriesView {
    bucket: &'static str,
    time_zone: &'static str,
    #[schemars(with = "Time")]
    since: String,
    #[schemars(with = "Time")]
    until: String,
    data: Vec<Point>,
}

impl SeriesView {
    fn of(ask: &SeriesAsk, span: Span, lines: Vec<Line>) -> Result<Self, AdminError> {
        let buckets = ask.buckets(span);
        let point = |begin: i64, group: Option<String>, totals: Totals| Point {
            start: ask.zone.stamp(begin),
            group,
            sums: totals.into(),
        };
        let data: Vec<Point> = if ask.by.is_some() {
            let begins: BTreeMap<i64, i64> = buckets.into_iter().collect();
            let begin = |at: i64| begins.get(&at).copied().unwrap_or(at);
            let named = |line: Line| point(begin(line.at), line.group.into_iter().next(), line.totals);
            lines.into_iter().map(named).collect()
        } else {
            // Without groups every bucket is there, empty ones too.
            let found: BTreeMap<i64, Totals> = lines.into_iter().map(|line| (line.at, line.totals)).collect();
            let totals = |at: &i64| found.get(at).copied().unwrap_or_default();
            buckets.into_iter().map(|(at, begin)| point(begin, None, totals(&at))).collect()
        };
        if data.len() > LINES_MAX {
            return Err(FieldError::new("since", "the span has too many lines: ask for less of it").into());
        }
        let (since, until) = (ask.zone.stamp(span.since), ask.zone.stamp(span.until));
        Ok(Self { bucket: ask.bucket.name(), time_zone: ask.zone.name(), since, until, data })
    }
}

impl Accounting {
    /// `GET /usage/series`.
    pub async fn series(&self, ask: SeriesAsk) -> Result<SeriesView, AdminError> {
        let asked = ask.span()?;
        self.catch_up().await;
        let recorded = self.recorded(Some(asked.since), Some(asked.until)).await?;
        let lines = match recorded.filter(|span| span.since < span.until) {
            None => Vec::new(),
            Some(span) => {
                let steps = match ask.bucket {
                    Bucket::Hour => Steps::Hours,
                    Bucket::Day => ask.zone.steps(span),
                };
                self.sums(&ask.of.clone().ask(span, steps, ask.by.into_iter().collect())).await?.lines
            }
        };
        SeriesView::of(&ask, asked, lines)
    }
}
