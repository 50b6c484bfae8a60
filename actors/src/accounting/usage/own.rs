//! `GET /v1/usage`: what the calling key and its tenant used today and this month, of UTC.
//!
//! A client must not be able to keep the database busy with it: what was read is told again for two seconds, one caller
//! of a key reads and the others wait for it, and no more than two read at a time, whatever their keys.

use super::zone::{DAY, Zone};
use super::{Of, SumsView};
use crate::accounting::Accounting;
use chrono::{DateTime, Datelike};
use obleth_core::ids::{KeyId, TenantId};
use obleth_schema::StoreError;
use obleth_schema::ledger::{self, Span, Steps, Totals};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout};

/// How long an answer is told again.
const FRESH: Duration = Duration::from_secs(2);
/// How long a caller waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Reads at a time.
const READS: usize = 2;
/// Keys whose answers are remembered.
const KEYS: usize = 4096;

/// Sums of a period.
#[derive(Clone, Debug, Serialize)]
pub struct Period {
    /// RFC 3339, UTC.
    since: String,
    key: SumsView,
    tenant: SumsView,
}

/// What was used.
#[derive(Clone, Debug, Serialize)]
pub struct OwnUsage {
    /// When this was read. What has ended a moment before may not be in it.
    as_of: String,
    today: Period,
    month: Period,
}

/// Why it cannot be said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The database does not answer.
    Away,
    /// Too many ask at once.
    Busy,
}

type Slot = Arc<AsyncMutex<Option<(Instant, Arc<OwnUsage>)>>>;

/// Answers that are told again.
#[derive(Debug)]
pub(in crate::accounting) struct Memo {
    slots: Mutex<HashMap<KeyId, Slot>>,
    reads: Semaphore,
}

impl Default for Memo {
    fn default() -> Self {
        Self { slots: Mutex::default(), reads: Semaphore::new(READS) }
    }
}

impl Memo {
    fn slot(&self, key: KeyId) -> Slot {
        let mut slots = self.slots.lock();
        if slots.len() >= KEYS && !slots.contains_key(&key) {
            // Who waits for one keeps it.
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

impl Accounting {
    /// What `key` and `tenant` used; `now` in Unix microseconds.
    pub async fn own_usage(&self, tenant: TenantId, key: KeyId, now: i64) -> Result<Arc<OwnUsage>, Unread> {
        timeout(TURN, self.told_or_read(tenant, key, now)).await.unwrap_or(Err(Unread::Busy))
    }

    async fn told_or_read(&self, tenant: TenantId, key: KeyId, now: i64) -> Result<Arc<OwnUsage>, Unread> {
        let slot = self.own.slot(key);
        let mut told = slot.lock().await;
        if let Some((at, usage)) = told.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            tracing::trace!(age_ms = at.elapsed().as_millis(), "usage is told again");
            return Ok(Arc::clone(usage));
        }
        let _turn = self.own.reads.acquire().await.map_err(|_| Unread::Busy)?;
        let usage = self.read_own(tenant, key, now).await.map_err(|error| {
            tracing::warn!(%error, "a caller's usage cannot be read");
            Unread::Away
        })?;
        let usage = Arc::new(usage);
        *told = Some((Instant::now(), Arc::clone(&usage)));
        Ok(usage)
    }

    async fn read_own(&self, tenant: TenantId, key: KeyId, now: i64) -> Result<OwnUsage, StoreError> {
        let today = now - now.rem_euclid(DAY);
        let date = DateTime::from_timestamp_micros(today).unwrap_or_default().date_naive();
        let month = today - i64::from(date.day0()) * DAY;
        let tenant_id = Some(tenant.to_string());
        let of_tenant = Of { tenant_id, ..Of::default() };
        let of_key = Of { key_id: Some(key.to_string()), ..of_tenant.clone() };
        let (key_today, key_month) = self.days(of_key, month, today).await?;
        let (tenant_today, tenant_month) = self.days(of_tenant, month, today).await?;
        let period = |since: i64, key: Totals, tenant: Totals| Period {
            since: Zone::UTC.stamp(since),
            key: key.into(),
            tenant: tenant.into(),
        };
        Ok(OwnUsage {
            as_of: Zone::UTC.stamp(now),
            today: period(today, key_today, tenant_today),
            month: period(month, key_month, tenant_month),
        })
    }

    /// Sums of a day and of the month until then.
    async fn days(&self, of: Of, month: i64, today: i64) -> Result<(Totals, Totals), StoreError> {
        let span = Span { since: month, until: today.saturating_add(DAY) };
        let report = ledger::report(&self.store, &of.ask(span, Steps::Days, Vec::new())).await?;
        let (mut day, mut all) = (Totals::default(), Totals::default());
        for line in report.lines {
            if line.at == today / DAY {
                day += line.totals;
            }
            all += line.totals;
        }
        Ok((day, all))
    }
}
