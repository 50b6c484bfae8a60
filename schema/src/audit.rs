//! What was changed through the management API, by whom, and from what to what. Rows are added with the change
//! they tell of ([`crate::changes::apply`]) and never changed.

use crate::error::StoreError;
use crate::store::{PATIENCE, Store, read};
use crate::tables::audit;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

/// One change. The documents are JSON text without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable, Insertable)]
#[diesel(table_name = audit)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct AuditRow {
    pub id: String,
    /// Unix microseconds.
    pub ts: i64,
    pub actor_id: String,
    pub actor_name: String,
    /// Of the call that made the change.
    pub method: String,
    /// `create`, `update`, `delete`, `rotate`, ...
    pub action: String,
    pub kind: String,
    pub object_id: String,
    pub object_name: String,
    pub before_json: Option<String>,
    pub after_json: Option<String>,
    pub request_id: String,
    pub address: Option<String>,
}

/// Which rows a listing shows; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// The id or the name of the one who acted.
    pub actor: Option<String>,
    pub kind: Option<String>,
    pub object_id: Option<String>,
    /// This kind is left out.
    pub without: Option<&'static str>,
    /// From this moment on, Unix microseconds.
    pub since: Option<i64>,
    /// Before this moment.
    pub until: Option<i64>,
}

/// A page of rows, newest first, from the one behind `after` (`ts`, `id` of the last row of the page before).
pub async fn page(
    store: &Store,
    filter: &AuditFilter,
    after: Option<(i64, &str)>,
    limit: u32,
) -> Result<Vec<AuditRow>, StoreError> {
    let filter = filter.clone();
    let after = after.map(|(ts, id)| (ts, id.to_owned()));
    read!(store, PATIENCE, |conn: Db| {
        let mut query = audit::table.select(AuditRow::as_select()).into_boxed::<Db>();
        if let Some(actor) = filter.actor {
            query = query.filter(audit::actor_id.eq(actor.clone()).or(audit::actor_name.eq(actor)));
        }
        if let Some(kind) = filter.kind {
            query = query.filter(audit::kind.eq(kind));
        }
        if let Some(id) = filter.object_id {
            query = query.filter(audit::object_id.eq(id));
        }
        if let Some(kind) = filter.without {
            query = query.filter(audit::kind.ne(kind));
        }
        if let Some(since) = filter.since {
            query = query.filter(audit::ts.ge(since));
        }
        if let Some(until) = filter.until {
            query = query.filter(audit::ts.lt(until));
        }
        if let Some((ts, id)) = after {
            let behind = audit::ts.lt(ts).or(audit::id.lt(id));
            query = query.filter(audit::ts.le(ts)).filter(behind);
        }
        let newest_first = (audit::ts.desc(), audit::id.desc());
        Ok(query.order(newest_first).limit(limit.into()).load(conn).await?)
    })
}
