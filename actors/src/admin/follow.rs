//! What other replicas change, taken in here.
//!
//! Is: a reader of the log of changes, called by notifications, by the clock, and before each write. Is not: a second
//! way to publish; what it reads comes into force like a write of this replica. Invariant: the snapshot has every change
//! up to the version that is followed.

use super::actor::Follow;
use super::commit::{Effect, effect};
use super::{Admin, AdminError, Context};
use crate::supervise::Undelivered;
use obleth_core::response_cache::Purge;
use obleth_schema::changes::{Change, Edit};
use obleth_schema::feed::{self, Call, Entry, Kind, News, Noted, Seen};
use obleth_schema::{Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Without a notification the log is looked at this often: what a lost one would have told is known within it.
const CHECK: Duration = Duration::from_millis(750);

/// How far the log is known here.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// `None`: the registry was not read yet.
    seen: Mutex<Option<Seen>>,
    failures: AtomicU64,
}

impl Followed {
    /// Everything up to here is in force.
    pub(super) fn reach(&self, seen: Seen) {
        *self.seen.lock() = Some(seen);
    }

    /// These are in force too, being this replica's own. Behind others that are not they are read with them.
    pub(super) fn pass(&self, Noted { first, last }: Noted) {
        let mut seen = self.seen.lock();
        if seen.as_ref().is_some_and(|seen| seen.version.checked_add(1) == Some(first)) {
            *seen = Some(last);
        }
    }
}

/// How following goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowCounts {
    /// The last change that is in force here; 0 when nothing is followed.
    pub version: i64,
    /// Times that the log could not be read, since the start.
    pub failures: u64,
}

impl Admin {
    /// How following other replicas goes.
    pub fn followed(&self) -> FollowCounts {
        let followed = &self.context.followed;
        FollowCounts {
            version: followed.seen.lock().as_ref().map_or(0, |seen| seen.version),
            failures: followed.failures.load(Ordering::Relaxed),
        }
    }

    /// Takes in what other replicas change, until `goes_on` says no. Nothing to do on a database that is not shared.
    pub async fn follow(&self, goes_on: impl Fn() -> bool) {
        let mut calls = feed::listen(&self.context.store);
        let mut told = false;
        while goes_on() {
            match timeout(CHECK, calls.recv()).await {
                Ok(Some(Call::Lost)) => {
                    tracing::warn!("no notifications of changes: the connection to the database is lost");
                    told = true;
                }
                Ok(Some(Call::Listening)) if std::mem::take(&mut told) => {
                    tracing::info!("notifications of changes are back");
                }
                Ok(Some(Call::Listening | Call::Changed)) | Err(_) => {}
                // SQLite: there is nobody to follow.
                Ok(None) => return,
            }
            while calls.try_recv().is_ok() {}
            self.catch_up().await;
        }
    }

    async fn catch_up(&self) {
        match self.actor.send(Follow).await {
            Ok(Ok(())) | Err(Undelivered::Restarting) => {}
            // While the database is away all is served from what is known; it is told elsewhere.
            Ok(Err(AdminError::StoreAway)) | Err(Undelivered::Full) => self.note_failure(),
            Ok(Err(error)) => {
                self.note_failure();
                tracing::error!(%error, "changes of other replicas cannot be read");
            }
        }
    }

    fn note_failure(&self) {
        self.context.followed.failures.fetch_add(1, Ordering::Relaxed);
    }
}

impl Context {
    /// Takes in what is new. Between two writes of this replica.
    pub(super) async fn follow(&self) -> Result<(), AdminError> {
        loop {
            let Some(seen) = self.followed.seen.lock().clone() else { return Ok(()) };
            let entries = match feed::since(&self.store, &seen).await? {
                News::Entries(entries) => entries,
                News::Everything => return self.load().await,
            };
            let last = entries.last().map(|entry| Seen { version: entry.version, mark: entry.mark.clone() });
            let Some(last) = last else { return Ok(()) };
            if entries.iter().any(|entry| Kind::of(&entry.kind) == Kind::All) {
                return self.load().await;
            }
            self.take_in(&entries).await?;
            self.followed.reach(last);
        }
    }

    async fn take_in(&self, entries: &[Entry]) -> Result<(), AdminError> {
        let about: BTreeSet<(Kind, &str)> =
            entries.iter().map(|entry| (Kind::of(&entry.kind), entry.object_id.as_str())).collect();
        // What others refer to comes before them, and goes after them.
        let (mut made, mut gone) = (Vec::new(), Vec::new());
        for (kind, id) in about {
            match kind {
                Kind::Purge => self.cache.purge_soon(purge(id)),
                _ => match current(&self.store, kind, id).await? {
                    Some(
                        change @ (Change::DeleteAdminToken(_)
                        | Change::Model(Edit::Delete(_))
                        | Change::Group(Edit::Delete(_))
                        | Change::Tenant(Edit::Delete(_))
                        | Change::Key(Edit::Delete(_))
                        | Change::McpServer(Edit::Delete(_))),
                    ) => gone.push(change),
                    Some(change) => made.push(change),
                    None => {}
                },
            }
        }
        gone.reverse();
        let effects = made.iter().chain(&gone).filter_map(|change| match effect(self, change) {
            Ok(effect) => Some(effect),
            Err(error) => {
                // One record that cannot be read must not keep the others back.
                tracing::error!(%error, "a changed record cannot be read");
                self.followed.failures.fetch_add(1, Ordering::Relaxed);
                None
            }
        });
        let effects: Vec<Effect> = effects.collect();
        self.put_in_force(effects).await
    }
}

fn purge(id: &str) -> Purge {
    let (tenant, model) = id.split_once('/').unwrap_or_default();
    Purge { tenant: tenant.parse().ok(), model: model.parse().ok() }
}

/// The record as it is now, as a change that would make it so.
async fn current(store: &Store, kind: Kind, id: &str) -> Result<Option<Change>, StoreError> {
    fn edit<R>(row: Option<R>, id: &str) -> Edit<R> {
        row.map_or_else(|| Edit::Delete(id.to_owned()), Edit::Insert)
    }
    Ok(Some(match kind {
        Kind::Group => Change::Group(edit(obleth_schema::groups::by_id(store, id).await?, id)),
        Kind::Model => Change::Model(edit(obleth_schema::models::by_id(store, id).await?, id)),
        Kind::Tenant => Change::Tenant(edit(obleth_schema::tenants::by_id(store, id).await?, id)),
        Kind::Key => Change::Key(edit(obleth_schema::keys::by_id(store, id).await?, id)),
        Kind::McpServer => Change::McpServer(edit(obleth_schema::mcp_servers::by_id(store, id).await?, id)),
        Kind::AdminToken => match obleth_schema::admin_tokens::by_id(store, id).await? {
            Some(row) => Change::AddAdminToken(row),
            None => Change::DeleteAdminToken(id.to_owned()),
        },
        Kind::Capacity => Change::Capacity(obleth_schema::capacity::load(store).await?, 0),
        Kind::Purge | Kind::All => return Ok(None),
    }))
}
