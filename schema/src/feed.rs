//! What changed in the registry, for replicas that share a PostgreSQL database.
//!
//! Is: a log of changed records whose versions rise in the order of the commits, notifications that it has grown, and a
//! lock that lets one replica write at a time. Is not: the records, which are read where they are. On SQLite there is
//! one process, and nothing of this does anything. Invariant: who has seen a version has seen every one below it.
//! Source: PostgreSQL manual, NOTIFY (delivered after the commit) and advisory locks.

use crate::changes::{Change, Edit};
use crate::error::StoreError;
use crate::store::{PATIENCE, Pooled, Pools, Store, begin_on_postgres, end, on_postgres};
use crate::tables::registry_log;
use diesel::dsl::max;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt as _;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Entries that are kept. Who is further behind reads everything.
const KEPT: i64 = 10_000;
/// An import of more changes than this is told as one: read everything.
const MANY: usize = 1_000;
/// Entries that are read at once.
const PAGE: i64 = 1_000;
const CHANNEL: &str = "obleth_registry";
/// Advisory locks of the database: one writer of the registry at a time, and one commit that is told of.
const WRITERS: i64 = 0x6f62_6c65_7468_0001;
const COMMITS: i64 = 0x6f62_6c65_7468_0002;
/// Between two attempts to listen, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the connection that listens is asked whether it lives, and how long the answer may take.
const PING: Duration = Duration::from_secs(2);

/// A record that was changed, made or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = registry_log)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite, diesel::pg::Pg))]
pub struct Entry {
    /// From 1.
    pub version: i64,
    /// One of [`Kind`]'s words.
    pub kind: String,
    pub object_id: String,
    /// Tells it from another one that has its version after the database lost its last commits, or was restored.
    pub mark: String,
}

/// How far one has read: the version of the last entry and its mark; 0 before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub version: i64,
    pub mark: String,
}

/// The entries of one commit: the version of the first, and the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub first: i64,
    pub last: Seen,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Group,
    Model,
    Tenant,
    Key,
    McpServer,
    AdminToken,
    Capacity,
    /// Kept answers; the id is `tenant/model`, either may be empty.
    Purge,
    /// So much that everything is to be read.
    All,
}

impl Kind {
    const WORDS: [(Self, &'static str); 9] = [
        (Self::Group, "group"),
        (Self::Model, "model"),
        (Self::Tenant, "tenant"),
        (Self::Key, "key"),
        (Self::McpServer, "mcp_server"),
        (Self::AdminToken, "admin_token"),
        (Self::Capacity, "capacity"),
        (Self::Purge, "purge"),
        (Self::All, "all"),
    ];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(kind, _)| *kind == self).map_or("all", |(_, word)| word)
    }

    /// A word of a newer release is everything.
    pub fn of(word: &str) -> Self {
        Self::WORDS.iter().find(|(_, known)| *known == word).map_or(Self::All, |(kind, _)| *kind)
    }
}

/// What is new to one who has seen the log up to a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// In order; there may be more behind them.
    Entries(Vec<Entry>),
    /// What came in between is not known any more.
    Everything,
}

fn edit<R>(edit: &Edit<R>, id: impl Fn(&R) -> &String) -> String {
    match edit {
        Edit::Insert(row) | Edit::Update(row, _) => id(row).clone(),
        Edit::Delete(id) => id.clone(),
    }
}

fn told(change: &Change) -> Option<(Kind, String)> {
    Some(match change {
        Change::Model(of) => (Kind::Model, edit(of, |row| &row.id)),
        Change::Group(of) => (Kind::Group, edit(of, |row| &row.id)),
        Change::Tenant(of) => (Kind::Tenant, edit(of, |row| &row.id)),
        Change::Key(of) => (Kind::Key, edit(of, |row| &row.id)),
        Change::McpServer(of) => (Kind::McpServer, edit(of, |row| &row.id)),
        Change::Capacity(..) => (Kind::Capacity, String::new()),
        Change::AddAdminToken(row) => (Kind::AdminToken, row.id.clone()),
        Change::DeleteAdminToken(id) => (Kind::AdminToken, id.clone()),
        Change::Purge { tenant, model } => {
            let part = |id: &Option<String>| id.clone().unwrap_or_default();
            (Kind::Purge, format!("{}/{}", part(tenant), part(model)))
        }
        Change::Told => return None,
    })
}

/// Notes changes that are about to be committed, and tells who listens. Within their transaction, at its end: from here
/// on no other commit comes in between.
pub(crate) async fn note(
    conn: &mut AsyncPgConnection,
    changes: &[Change],
) -> Result<Option<Noted>, StoreError> {
    let mut told: Vec<(Kind, String)> = changes.iter().filter_map(told).collect();
    if told.is_empty() {
        return Ok(None);
    }
    if told.len() > MANY {
        told = vec![(Kind::All, String::new())];
    }
    lock(conn, COMMITS).await?;
    let last: Option<i64> = registry_log::table.select(max(registry_log::version)).first(conn).await?;
    let last = last.unwrap_or_default();
    let first = last.saturating_add(1);
    let entries: Vec<_> = (first..)
        .zip(&told)
        .map(|(version, (kind, object_id))| {
            (
                registry_log::version.eq(version),
                registry_log::kind.eq(kind.as_str()),
                registry_log::object_id.eq(object_id),
            )
        })
        .collect();
    let noted: Vec<(i64, String)> = diesel::insert_into(registry_log::table)
        .values(&entries)
        .returning((registry_log::version, registry_log::mark))
        .get_results(conn)
        .await?;
    let old = registry_log::table.filter(registry_log::version.le(last.saturating_sub(KEPT)));
    diesel::delete(old).execute(conn).await?;
    diesel::sql_query(format!("NOTIFY {CHANNEL}")).execute(conn).await?;
    Ok(noted.into_iter().max().map(|(version, mark)| Noted { first, last: Seen { version, mark } }))
}

async fn lock(conn: &mut AsyncPgConnection, number: i64) -> Result<(), StoreError> {
    // To the end of the transaction; waits for as long as `lock_timeout` says.
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(number).execute(conn).await?;
    Ok(())
}

/// The last change; version 0: none, or a database that is not shared.
pub async fn latest(store: &Store) -> Result<Seen, StoreError> {
    let Pools::Postgres(postgres) = store.pools() else { return Ok(Seen::default()) };
    on_postgres!(store, postgres, PATIENCE, |conn| {
        let last = registry_log::table.order(registry_log::version.desc());
        let last: Option<(i64, String)> =
            last.select((registry_log::version, registry_log::mark)).first(conn).await.optional()?;
        Ok(last.map(|(version, mark)| Seen { version, mark }).unwrap_or_default())
    })
}

/// What came after `seen`.
pub async fn since(store: &Store, seen: &Seen) -> Result<News, StoreError> {
    let Pools::Postgres(postgres) = store.pools() else { return Ok(News::Entries(Vec::new())) };
    let seen = seen.clone();
    on_postgres!(store, postgres, PATIENCE, |conn| {
        // One more than is new: the entry that was seen last must still be there, and be the same one.
        let query = registry_log::table
            .filter(registry_log::version.ge(seen.version))
            .order(registry_log::version)
            .limit(PAGE)
            .select(Entry::as_select());
        let mut entries: Vec<Entry> = query.load(conn).await?;
        let first = entries.as_slice().first();
        let goes_on = match seen.version {
            0 => first.is_none_or(|first| first.version == 1),
            version => first.is_some_and(|first| first.version == version && first.mark == seen.mark),
        };
        if !goes_on {
            return Ok(News::Everything);
        }
        entries.retain(|entry| entry.version > seen.version);
        Ok(News::Entries(entries))
    })
}

/// The right to write the registry, among all replicas. Dropped unreleased its connection is closed, which gives it up.
pub struct Writing(Option<Pooled>, Store);

impl fmt::Debug for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writing").field(&self.0.is_some()).finish()
    }
}

impl Writing {
    /// Waits for the right. On SQLite it is always there.
    pub async fn begin(store: &Store) -> Result<Self, StoreError> {
        let Pools::Postgres(postgres) = store.pools() else { return Ok(Self(None, store.clone())) };
        let postgres = postgres.clone();
        let taken = store.detached(async move {
            let mut pooled = postgres.checkout().await?;
            let taking = async {
                begin_on_postgres(&mut pooled).await?;
                lock(&mut pooled, WRITERS).await
            };
            match timeout(PATIENCE, taking).await {
                Ok(taken) => taken?,
                Err(_) => return Err(crate::store::give_up(&mut pooled)),
            }
            Ok(pooled)
        });
        Ok(Self(Some(taken.await?), store.clone()))
    }

    /// Gives it up.
    pub async fn end(mut self) {
        let Some(mut pooled) = self.0.take() else { return };
        let given = self.1.detached(async move {
            match timeout(PATIENCE, end(&mut *pooled, Ok(()))).await {
                Ok(ended) => ended,
                Err(_) => Err(crate::store::give_up(&mut pooled)),
            }
        });
        // A connection that cannot say so is closed by its pool, and the lock goes with it.
        _ = given.await;
    }
}

/// Something happens on the channel of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Listening from here on: what was called before may have been missed.
    Listening,
    Changed,
    /// Not listening any more.
    Lost,
}

/// Calls for as long as the receiver lives. On SQLite there are none.
pub fn listen(store: &Store) -> mpsc::Receiver<Call> {
    let (sender, receiver) = mpsc::channel(16);
    if let Pools::Postgres(postgres) = store.pools() {
        let postgres = postgres.clone();
        store.spawn(async move {
            let mut pause = PAUSES.0;
            while !sender.is_closed() {
                if let Ok(mut conn) = postgres.dedicated().await
                    && pass_on(&mut conn, &sender).await
                {
                    pause = PAUSES.0;
                    if sender.send(Call::Lost).await.is_err() {
                        return;
                    }
                }
                sleep(pause).await;
                pause = (2 * pause).min(PAUSES.1);
            }
        });
    }
    receiver
}

/// Listens until the connection fails or nobody wants to know. Whether it has listened at all.
async fn pass_on(conn: &mut AsyncPgConnection, to: &mpsc::Sender<Call>) -> bool {
    let listening = async {
        diesel::sql_query("SET application_name = 'obleth feed'").execute(conn).await?;
        diesel::sql_query(format!("LISTEN {CHANNEL}")).execute(conn).await
    };
    if !matches!(timeout(PING, listening).await, Ok(Ok(_))) {
        return false;
    }
    if to.send(Call::Listening).await.is_err() {
        return false;
    }
    loop {
        let heard = {
            let mut calls = std::pin::pin!(conn.notifications_stream());
            timeout(PING, calls.next()).await
        };
        let lives = match heard {
            // Several that wait are one: the receiver reads all there is.
            Ok(Some(Ok(_))) => {
                !matches!(to.try_send(Call::Changed), Err(mpsc::error::TrySendError::Closed(_)))
            }
            Ok(_) => false,
            Err(_) => {
                let ping = diesel::sql_query("SELECT 1").execute(conn);
                !to.is_closed() && matches!(timeout(PING, ping).await, Ok(Ok(_)))
            }
        };
        if !lives {
            return true;
        }
    }
}
