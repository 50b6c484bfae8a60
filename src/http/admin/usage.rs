//! `/usage/...`: what the ledger says.

use super::{fault_of, query, refuse, shown, window};
use crate::app::Gateway;
use crate::error::Fault;
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::accounting::usage::{
    Bucket, GroupBy, Of, SeriesAsk, StatementAsk, SummaryAsk, Zone, time,
};
use obleth_actors::admin::fields::FieldError;
use obleth_actors::admin::{AdminError, Window};
use obleth_actors::clock::unix_micros;
use obleth_actors::shapes::{Cursor, Id, Limit, Since, TimeZone};
use obleth_schema::ledger::LedgerFilter;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

mod export;
mod words;

pub use export::export;
use words::{Admission, BucketName, CacheState, DimensionName, Grouping, UsageSource};

/// Filters of rows.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    /// Rows of the page, 100 if it is absent.
    #[schemars(with = "Option<Limit>")]
    limit: Option<String>,
    #[schemars(with = "Option<Cursor>")]
    cursor: Option<String>,
    /// Of this tenant.
    #[schemars(with = "Option<Id>")]
    tenant_id: Option<String>,
    /// Of this key.
    #[schemars(with = "Option<Id>")]
    key_id: Option<String>,
    /// Of this model, by its name.
    model: Option<String>,
    /// A status, or a class of them such as `4xx`.
    #[schemars(regex(pattern = "^([1-5]xx|[0-9]{1,3})$"))]
    status: Option<String>,
    error_code: Option<String>,
    route: Option<String>,
    session_id: Option<String>,
    #[schemars(with = "Option<Admission>")]
    admission: Option<String>,
    #[schemars(with = "Option<CacheState>")]
    cache: Option<String>,
    #[schemars(with = "Option<UsageSource>")]
    usage_source: Option<String>,
    /// From then on.
    #[schemars(with = "Option<Since>")]
    since: Option<String>,
    /// Before then.
    #[schemars(with = "Option<Since>")]
    until: Option<String>,
}

impl LogsQuery {
    fn read(request: &HttpRequest) -> Result<(LedgerFilter, Window), Fault> {
        let asked: Self = query(request)?;
        let window = window(request, asked.limit.as_deref(), asked.cursor.as_deref())?;
        Ok((asked.filter()?, window))
    }

    fn filter(self) -> Result<LedgerFilter, Fault> {
        Ok(LedgerFilter {
            tenant_id: id("tenant_id", self.tenant_id)?,
            key_id: id("key_id", self.key_id)?,
            model: self.model,
            status: self.status.as_deref().map(statuses).transpose()?,
            error_code: self.error_code,
            route: self.route,
            session_id: self.session_id,
            admission: word("admission", self.admission, Admission::WORDS)?,
            cache: word("cache", self.cache, CacheState::WORDS)?,
            usage_source: word("usage_source", self.usage_source, UsageSource::WORDS)?,
            since: moment("since", self.since.as_deref(), Zone::UTC)?,
            until: moment("until", self.until.as_deref(), Zone::UTC)?,
        })
    }
}

/// `404`, or a class such as `4xx`.
fn statuses(text: &str) -> Result<(i32, i32), Fault> {
    let class = |text: &str| {
        let class: i32 = text.strip_suffix("xx")?.parse().ok().filter(|class| (1..=5).contains(class))?;
        Some((class * 100, class * 100 + 99))
    };
    let one = |text: &str| text.parse().ok().map(|status: i32| (status, status));
    let wrong = || FieldError::new("status", "must be a whole number, or a class such as 4xx");
    class(text).or_else(|| one(text)).ok_or_else(|| fault(wrong()))
}

/// The filters that sums take.
fn of(tenant: Option<String>, key: Option<String>, model: Option<String>) -> Result<Of, Fault> {
    Ok(Of { tenant_id: id("tenant_id", tenant)?, key_id: id("key_id", key)?, model })
}

/// An id as the ledger writes it. One of nothing that exists is fine: its rows outlive a tenant.
fn id(field: &str, value: Option<String>) -> Result<Option<String>, Fault> {
    let read = |text: String| {
        let id = Uuid::parse_str(&text).map_err(|_| fault(FieldError::new(field, "must be an id, a UUID")));
        id.map(|id| id.to_string())
    };
    value.map(read).transpose()
}

fn word(field: &str, value: Option<String>, words: &[&str]) -> Result<Option<String>, Fault> {
    match value {
        Some(value) if !words.contains(&value.as_str()) => {
            Err(fault(FieldError::new(field, format_args!("must be one of {}", words.join(", ")))))
        }
        value => Ok(value),
    }
}

pub(super) fn moment(field: &str, text: Option<&str>, zone: Zone) -> Result<Option<i64>, Fault> {
    time(field, text, zone).map_err(fault)
}

fn fault(error: FieldError) -> Fault {
    fault_of(&AdminError::from(error))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SummaryQuery {
    /// `tenant` if it is absent.
    #[schemars(with = "Option<Grouping>")]
    group_by: Option<String>,
    /// Of this tenant.
    #[schemars(with = "Option<Id>")]
    tenant_id: Option<String>,
    /// Of this key.
    #[schemars(with = "Option<Id>")]
    key_id: Option<String>,
    /// Of this model, by its name.
    model: Option<String>,
    /// From then on.
    #[schemars(with = "Option<Since>")]
    since: Option<String>,
    /// Before then.
    #[schemars(with = "Option<Since>")]
    until: Option<String>,
    #[schemars(with = "Option<TimeZone>")]
    time_zone: Option<String>,
    /// Groups that are shown, 1000 if it is absent.
    #[schemars(with = "Option<u32>", range(min = 1, max = 10_000))]
    limit: Option<String>,
}

impl SummaryQuery {
    fn read(request: &HttpRequest) -> Result<SummaryAsk, Fault> {
        let asked: Self = query(request)?;
        let zone = Zone::read(asked.time_zone.as_deref()).map_err(fault)?;
        Ok(SummaryAsk {
            by: GroupBy::read(asked.group_by.as_deref()).map_err(fault)?,
            of: of(asked.tenant_id, asked.key_id, asked.model)?,
            since: moment("since", asked.since.as_deref(), zone)?,
            until: moment("until", asked.until.as_deref(), zone)?,
            zone,
            limit: SummaryAsk::limit(asked.limit.as_deref()).map_err(fault)?,
        })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SeriesQuery {
    /// `day` if it is absent.
    #[schemars(with = "Option<BucketName>")]
    bucket: Option<String>,
    #[schemars(with = "Option<DimensionName>")]
    group_by: Option<String>,
    /// Of this tenant.
    #[schemars(with = "Option<Id>")]
    tenant_id: Option<String>,
    /// Of this key.
    #[schemars(with = "Option<Id>")]
    key_id: Option<String>,
    /// Of this model, by its name.
    model: Option<String>,
    /// From then on.
    #[schemars(with = "Option<Since>")]
    since: Option<String>,
    /// Before then.
    #[schemars(with = "Option<Since>")]
    until: Option<String>,
    #[schemars(with = "Option<TimeZone>")]
    time_zone: Option<String>,
}

impl SeriesQuery {
    fn read(request: &HttpRequest) -> Result<SeriesAsk, Fault> {
        let asked: Self = query(request)?;
        let zone = Zone::read(asked.time_zone.as_deref()).map_err(fault)?;
        Ok(SeriesAsk {
            bucket: Bucket::read(asked.bucket.as_deref()).map_err(fault)?,
            by: SeriesAsk::by(asked.group_by.as_deref()).map_err(fault)?,
            of: of(asked.tenant_id, asked.key_id, asked.model)?,
            since: moment("since", asked.since.as_deref(), zone)?,
            until: moment("until", asked.until.as_deref(), zone)?,
            zone,
            now: unix_micros(),
        })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatementQuery {
    /// Its id.
    #[schemars(with = "String")]
    tenant: Option<String>,
    /// Such as 2026-11.
    #[schemars(with = "String", regex(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$"))]
    month: Option<String>,
    #[schemars(with = "Option<TimeZone>")]
    time_zone: Option<String>,
}

impl StatementQuery {
    fn read(request: &HttpRequest) -> Result<StatementAsk, Fault> {
        let asked: Self = query(request)?;
        let zone = Zone::read(asked.time_zone.as_deref()).map_err(fault)?;
        StatementAsk::read(asked.tenant, asked.month.as_deref(), zone, unix_micros()).map_err(fault)
    }
}

pub async fn logs(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match LogsQuery::read(&request) {
        Ok((filter, window)) => shown(&request, gateway.handles.accounting.logs(&filter, window).await),
        Err(fault) => refuse(&request, &fault),
    }
}

pub async fn log(gateway: Data<Gateway>, request: HttpRequest, request_id: Path<String>) -> HttpResponse {
    shown(&request, gateway.handles.accounting.log(&request_id).await)
}

pub async fn summary(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match SummaryQuery::read(&request) {
        Ok(ask) => shown(&request, gateway.handles.accounting.summary(ask).await),
        Err(fault) => refuse(&request, &fault),
    }
}

pub async fn series(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match SeriesQuery::read(&request) {
        Ok(ask) => shown(&request, gateway.handles.accounting.series(ask).await),
        Err(fault) => refuse(&request, &fault),
    }
}

pub async fn statement(gateway: Data<Gateway>, request: HttpRequest) -> HttpResponse {
    match StatementQuery::read(&request) {
        Ok(ask) => shown(&request, gateway.handles.accounting.statement(ask).await),
        Err(fault) => refuse(&request, &fault),
    }
}
