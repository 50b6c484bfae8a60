//! Changes of the registry with their audit rows: all of them, or none.
//!
//! Invariant: a change and the audit row that tells of it are in one transaction, so neither is there without
//! the other.

use crate::admin_tokens::AdminTokenRow;
use crate::audit::AuditRow;
use crate::capacity::{self, CapacityRow};
use crate::error::StoreError;
use crate::feed::Noted;
use crate::groups::GroupRow;
use crate::keys::KeyRow;
use crate::mcp_servers::McpServerRow;
use crate::models::{ModelRow, names_of};
use crate::store::{PATIENCE, Pools, Store, on_postgres};
use crate::tables;
use crate::tenants::TenantRow;
use diesel::{ExpressionMethods, QueryDsl, SqliteConnection};
use diesel_async::AsyncPgConnection;
use std::sync::Arc;
use std::time::Duration;

/// What happens to a row.
#[derive(Clone, Debug)]
pub enum Edit<R> {
    Insert(R),
    /// Replaces the row of this id that has this version; else [`StoreError::Stale`].
    Update(R, i64),
    /// By id; [`StoreError::Stale`] when there is none.
    Delete(String),
}

/// One change.
#[derive(Clone, Debug)]
pub enum Change {
    Model(Edit<ModelRow>),
    Group(Edit<GroupRow>),
    Tenant(Edit<TenantRow>),
    Key(Edit<KeyRow>),
    McpServer(Edit<McpServerRow>),
    /// The row, in place of the one that has this version.
    Capacity(CapacityRow, i64),
    AddAdminToken(AdminTokenRow),
    DeleteAdminToken(String),
    /// Kept answers of a tenant, of a model, or all: of no table, but replicas hear of it.
    Purge {
        tenant: Option<String>,
        model: Option<String>,
    },
    /// Of no table: only the audit row that goes with it.
    Told,
}

/// Which change was refused, and why. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// Its position; `None` when it was not one of them.
    pub at: Option<usize>,
    pub error: StoreError,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self { at: None, error }
    }
}

/// Whether a transaction that went well stays.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Keep,
    Rehearse,
}

impl Purpose {
    const fn end(self) -> Result<(), StoreError> {
        match self {
            Self::Keep => Ok(()),
            Self::Rehearse => Err(StoreError::Rehearsed),
        }
    }
}

/// Rows of one `INSERT` into the audit: below the number of parameters that PostgreSQL takes.
const CHUNK: usize = 500;
/// More changes than this are an import, which may take its time.
const FEW: usize = 100;
const IMPORT_PATIENCE: Duration = Duration::from_secs(300);

/// The statements of one edit of a table with `id` and `version`; the number of rows they met.
macro_rules! edit {
    ($conn:ident, $table:ident, $edit:expr, [$($wait:tt)*]) => {
        match $edit {
            Edit::Insert(row) => {
                let insert = diesel::insert_into(tables::$table::table).values(row);
                RunQueryDsl::execute(insert, $conn)$($wait)*?
            }
            Edit::Update(row, expected) => {
                let at = tables::$table::table
                    .filter(tables::$table::id.eq(&row.id))
                    .filter(tables::$table::version.eq(expected));
                RunQueryDsl::execute(diesel::update(at).set(row), $conn)$($wait)*?
            }
            Edit::Delete(id) => {
                RunQueryDsl::execute(diesel::delete(tables::$table::table.find(id)), $conn)$($wait)*?
            }
        }
    };
}

/// The names of a model, in place of those it had.
macro_rules! rename {
    ($conn:ident, $row:expr, [$($wait:tt)*]) => {{
        let old = tables::model_names::table.filter(tables::model_names::model_id.eq(&$row.id));
        RunQueryDsl::execute(diesel::delete(old), $conn)$($wait)*?;
        for name in names_of($row)? {
            let insert = diesel::insert_into(tables::model_names::table).values(name);
            RunQueryDsl::execute(insert, $conn)$($wait)*?;
        }
    }};
}

/// The statements of one change; the number of rows they met.
macro_rules! one {
    ($conn:ident, $change:expr, [$($wait:tt)*]) => {
        match $change {
            Change::Model(edit) => {
                let met = edit!($conn, models, edit, [$($wait)*]);
                if let Edit::Insert(row) | Edit::Update(row, _) = edit
                    && met > 0
                {
                    rename!($conn, row, [$($wait)*]);
                }
                met
            }
            Change::Group(edit) => edit!($conn, tenant_groups, edit, [$($wait)*]),
            Change::Tenant(edit) => edit!($conn, tenants, edit, [$($wait)*]),
            Change::Key(edit) => edit!($conn, keys, edit, [$($wait)*]),
            Change::McpServer(edit) => edit!($conn, mcp_servers, edit, [$($wait)*]),
            Change::Capacity(row, expected) => {
                let at = tables::capacity::table
                    .filter(tables::capacity::id.eq(capacity::ID))
                    .filter(tables::capacity::version.eq(expected));
                RunQueryDsl::execute(diesel::update(at).set(row), $conn)$($wait)*?
            }
            Change::AddAdminToken(row) => {
                let insert = diesel::insert_into(tables::admin_tokens::table).values(row);
                RunQueryDsl::execute(insert, $conn)$($wait)*?
            }
            Change::DeleteAdminToken(id) => {
                let gone = diesel::delete(tables::admin_tokens::table.find(id));
                RunQueryDsl::execute(gone, $conn)$($wait)*?
            }
            Change::Purge { .. } | Change::Told => 1,
        }
    };
}

/// All changes, in their order; `at` is the one that is being made.
macro_rules! each {
    ($conn:ident, $changes:ident, $at:ident, [$($wait:tt)*]) => {{
        for (position, change) in $changes.iter().enumerate() {
            *$at = Some(position);
            if one!($conn, change, [$($wait)*]) == 0 {
                return Err(StoreError::Stale);
            }
        }
        *$at = None;
    }};
}

fn on_sqlite(
    conn: &mut SqliteConnection,
    changes: &[Change],
    audit: &[AuditRow],
    at: &mut Option<usize>,
    purpose: Purpose,
) -> Result<Option<Noted>, StoreError> {
    use diesel::RunQueryDsl;
    conn.immediate_transaction(|conn| {
        // One statement a row: the driver of SQLite has no other kind.
        for row in audit {
            RunQueryDsl::execute(diesel::insert_into(tables::audit::table).values(row), conn)?;
        }
        each!(conn, changes, at, []);
        purpose.end().map(|()| None)
    })
}

async fn on_postgres(
    conn: &mut AsyncPgConnection,
    changes: &[Change],
    audit: &[AuditRow],
    at: &mut Option<usize>,
    purpose: Purpose,
) -> Result<Option<Noted>, StoreError> {
    use diesel_async::RunQueryDsl;
    for rows in audit.chunks(CHUNK) {
        RunQueryDsl::execute(diesel::insert_into(tables::audit::table).values(rows), conn).await?;
    }
    each!(conn, changes, at, [.await]);
    let noted = crate::feed::note(conn, changes).await?;
    purpose.end().map(|()| noted)
}

/// Does all of `changes` in their order and adds the audit rows, or does nothing. Answers what other replicas are told
/// of it; `None` where there are none.
pub async fn apply(
    store: &Store,
    changes: &Arc<[Change]>,
    audit: Vec<AuditRow>,
) -> Result<Option<Noted>, Refused> {
    run(store, changes, audit, Purpose::Keep).await
}

/// Says whether all of `changes` would be done, and takes them back.
pub async fn rehearse(store: &Store, changes: &Arc<[Change]>) -> Result<(), Refused> {
    match run(store, changes, Vec::new(), Purpose::Rehearse).await {
        Err(Refused { error: StoreError::Rehearsed, .. }) => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn run(
    store: &Store,
    changes: &Arc<[Change]>,
    audit: Vec<AuditRow>,
    purpose: Purpose,
) -> Result<Option<Noted>, Refused> {
    let changes = Arc::clone(changes);
    let patience = if changes.len() > FEW { IMPORT_PATIENCE } else { PATIENCE };
    let done = match store.pools() {
        Pools::Sqlite(sqlite) => {
            let sqlite = sqlite.clone();
            store
                .detached(async move {
                    let mut writer = sqlite.writer().await?;
                    let run = move |conn: &mut SqliteConnection| {
                        let mut at = None;
                        let done = on_sqlite(conn, &changes, &audit, &mut at, purpose);
                        Ok(done.map_err(|error| Refused { at, error }))
                    };
                    Ok(writer.spawn_blocking(run).await?)
                })
                .await
        }
        Pools::Postgres(postgres) => {
            on_postgres!(store, postgres, patience, |conn| {
                let mut at = None;
                crate::store::begin_on_postgres(conn).await?;
                let done = on_postgres(conn, &changes, &audit, &mut at, purpose).await;
                let done = crate::store::end(conn, done).await;
                Ok(done.map_err(|error| Refused { at, error }))
            })
        }
    };
    done?
}

/// Does one change without an audit row.
pub(crate) async fn apply_one(store: &Store, change: Change) -> Result<(), StoreError> {
    apply(store, &Arc::from([change]), Vec::new()).await.map(|_| ()).map_err(|refused| refused.error)
}

/// The same, when what shall be deleted need not be there; says whether it was.
pub(crate) async fn delete_one(store: &Store, change: Change) -> Result<bool, StoreError> {
    match apply_one(store, change).await {
        Ok(()) => Ok(true),
        Err(StoreError::Stale) => Ok(false),
        Err(error) => Err(error),
    }
}
