//! Rows one by one: pages, newest first, and the row of a request.

use super::record::LedgerRecord;
use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read};
use crate::tables::ledger;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Text};
use diesel_async::RunQueryDsl;

/// Which rows a listing shows; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerFilter {
    pub tenant_id: Option<String>,
    pub key_id: Option<String>,
    pub model: Option<String>,
    /// From the first to the last one.
    pub status: Option<(i32, i32)>,
    pub error_code: Option<String>,
    pub route: Option<String>,
    pub session_id: Option<String>,
    pub admission: Option<String>,
    pub cache: Option<String>,
    pub usage_source: Option<String>,
    /// From this arrival on, Unix microseconds.
    pub since: Option<i64>,
    /// Before this arrival.
    pub until: Option<i64>,
}

/// Columns that mostly have one value: rows with another one are in an index of their own (`migrations/`), which the
/// database uses where the query says in these words that the value is not the common one.
const RARE: [(&str, &str); 4] = [
    ("/v1/chat/completions", "route <> '/v1/chat/completions'"),
    ("fast", "admission <> 'fast'"),
    ("off", "cache <> 'off'"),
    ("upstream", "usage_source <> 'upstream'"),
];

/// How a tenant's rows are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Along the time.
    All,
    /// Along the time, among its errors.
    Errors,
    /// By another filter, which leaves fewer rows. SQLite has no numbers to know that by.
    Aside,
}

impl LedgerFilter {
    /// Conditions that lead to the small indexes.
    fn hints(&self) -> Vec<&'static str> {
        let columns = [&self.route, &self.admission, &self.cache, &self.usage_source];
        let rare =
            |value: &Option<String>, common: &str| value.as_deref().is_some_and(|value| value != common);
        let mut hints: Vec<_> = columns
            .into_iter()
            .zip(RARE)
            .filter_map(|(value, (common, hint))| rare(value, common).then_some(hint))
            .collect();
        if self.status.is_some_and(|(first, _)| first >= 400)
            || (self.tenant_id.is_some() && self.way() == Way::Errors)
        {
            hints.push("status >= 400");
        }
        hints
    }

    fn way(&self) -> Way {
        let rare_source = self.usage_source.as_deref().is_some_and(|source| source != "upstream");
        // Refusals are errors, and only errors have codes.
        let refused = self.admission.as_deref() == Some("rejected") || self.error_code.is_some();
        if self.key_id.is_some() || self.session_id.is_some() || rare_source {
            Way::Aside
        } else if refused || self.status.is_some_and(|(first, _)| first >= 400) {
            Way::Errors
        } else {
            Way::All
        }
    }
}

/// Narrows a boxed query by the columns that the filter names.
macro_rules! narrow {
    ($query:ident, $filter:ident, [$($column:ident),+]) => {
        $(if let Some(value) = $filter.$column {
            $query = $query.filter(ledger::$column.eq(value));
        })+
    };
}

/// A page of rows, newest first, from the one behind `after` (`ts`, `row_id` of the last row of the page
/// before).
pub async fn page(
    store: &Store,
    filter: &LedgerFilter,
    after: Option<(i64, &str)>,
    limit: u32,
) -> Result<Vec<LedgerRecord>, StoreError> {
    let filter = filter.clone();
    let way = filter.way();
    let after = after.map(|(ts, row_id)| (ts, row_id.to_owned()));
    read!(store, PATIENCE, |conn: Db| {
        let mut query = ledger::table.select(LedgerRecord::as_select()).into_boxed::<Db>();
        for hint in filter.hints() {
            query = query.filter(sql::<Bool>(hint));
        }
        if let Some(tenant) = filter.tenant_id {
            query = match way {
                Way::All => query.filter(ledger::tenant_id.eq(tenant)),
                Way::Errors => query.filter(sql::<Bool>("('' || tenant_id) = ").bind::<Text, _>(tenant)),
                Way::Aside => query.filter(sql::<Bool>("(tenant_id || '') = ").bind::<Text, _>(tenant)),
            };
        }
        narrow!(query, filter, [key_id, model, route, session_id, admission, cache, usage_source]);
        if let Some(code) = filter.error_code {
            query = query.filter(ledger::error_code.eq(code));
        }
        match filter.status {
            Some((first, last)) if first == last => query = query.filter(ledger::status.eq(first)),
            Some((first, last)) => {
                // The sign keeps it from an index that is not in the order of time.
                let within = sql::<Bool>("+status BETWEEN ").bind::<Integer, _>(first);
                query = query.filter(within.sql(" AND ").bind::<Integer, _>(last));
            }
            None => {}
        }
        if let Some(since) = filter.since {
            query = query.filter(ledger::ts.ge(since));
        }
        if let Some(until) = filter.until {
            query = query.filter(ledger::ts.lt(until));
        }
        if let Some((ts, row_id)) = after {
            // The bound on `ts` alone lets the index find the place; the rest decides among equal times.
            let behind = ledger::ts.lt(ts).or(ledger::row_id.lt(row_id));
            query = query.filter(ledger::ts.le(ts)).filter(behind);
        }
        let newest_first = (ledger::ts.desc(), ledger::row_id.desc());
        Ok(query.order(newest_first).limit(limit.into()).load(conn).await?)
    })
}

/// The newest row of a request; a client may have used its id more than once.
pub async fn by_request_id(store: &Store, request_id: &str) -> Result<Option<LedgerRecord>, StoreError> {
    let request_id = request_id.to_owned();
    read!(store, PATIENCE, |conn| {
        let query = ledger::table
            .filter(ledger::request_id.eq(request_id))
            .order((ledger::ts.desc(), ledger::row_id.desc()))
            .select(LedgerRecord::as_select());
        Ok(query.first(conn).await.optional()?)
    })
}
