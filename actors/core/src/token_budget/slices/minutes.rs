//! Pools of tokens and requests a minute.

use super::{Ask, Dip, Dipped, IDLE, Pool, Slices};
use crate::moment::Moment;
use crate::token_budget::bucket::Bucket;
use crate::token_budget::plan::Minute;
use crate::token_budget::view::Rate;
use crate::token_budget::{Owner, TokenBudget};
use std::time::Duration;

/// What is taken beforehand: one in so many of what all replicas together may have lying about.
const SLICES: u64 = 20;

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What one replica takes beforehand.
pub(super) fn slice(limit: u64, members: u64) -> u64 {
    limit / SLICES.saturating_mul(members.max(1))
}

impl Slices {
    fn pool(&mut self, now: Moment, owner: Owner, minute: Minute, limit: u64) -> &mut Pool {
        let fresh = Pool { have: 0, seen: Bucket::full(now, limit), wait: Duration::ZERO, touched: now };
        let pool = self.pools.entry((owner, minute)).or_insert(fresh);
        pool.seen.set_limit(now, limit);
        pool
    }

    /// Whether `count` can be taken; if not, notes what is lacking and says how long the last one had to wait.
    pub fn has(
        &mut self,
        now: Moment,
        place: (Owner, Minute),
        limit: u64,
        count: u64,
    ) -> Result<(), Duration> {
        let pool = self.pool(now, place.0, place.1, limit);
        pool.touched = pool.touched.max(now);
        let share = signed(count.min(limit));
        if pool.have >= share {
            return Ok(());
        }
        let lacking = u64::try_from(share.saturating_sub(pool.have)).unwrap_or(u64::MAX);
        // Not zero: it did not get what it asked for, be it by a hair.
        let wait = pool.wait.max(Duration::from_millis(1));
        self.lacking.push(Ask::Minute { owner: place.0, minute: place.1, count: lacking, limit });
        Err(wait)
    }

    /// Takes what was seen to be there, at most the whole bucket.
    pub fn take(&mut self, now: Moment, place: (Owner, Minute), limit: u64, count: u64) -> u64 {
        let pool = self.pool(now, place.0, place.1, limit);
        let share = count.min(limit);
        pool.have = pool.have.saturating_sub(signed(share));
        share
    }

    /// From what was taken to what was used.
    pub fn correct(&mut self, place: (Owner, Minute), taken: u64, used: u64) {
        if let Some(pool) = self.pools.get_mut(&place) {
            pool.have = pool.have.saturating_add(signed(taken)).saturating_sub(signed(used));
        }
    }

    /// What is left, for headers.
    pub fn rate(&self, now: Moment, place: (Owner, Minute), limit: u64) -> Rate {
        let Some(pool) = self.pools.get(&place) else {
            return Rate { limit, remaining: limit, reset: Duration::ZERO };
        };
        let mut seen = pool.seen;
        seen.set_limit(now, limit);
        match u64::try_from(pool.have) {
            Ok(own) => seen.give(now, own),
            Err(_) => seen.take(now, pool.have.unsigned_abs()),
        }
        Rate { limit, remaining: seen.left(now), reset: seen.until_full(now) }
    }
}

impl TokenBudget {
    /// What to take from the bucket in the store: what was asked for, and something beforehand.
    pub fn dip(
        &mut self,
        now: Moment,
        ask: (Owner, Minute),
        count: u64,
        limit: u64,
        members: u64,
    ) -> Option<Dip> {
        let slices = self.slices.as_mut()?;
        let pool = slices.pool(now, ask.0, ask.1, limit);
        let due = pool.have.min(0).saturating_neg();
        pool.have = pool.have.max(0);
        let want = count.saturating_sub(due.unsigned_abs()).saturating_add(slice(limit, members));
        Some(Dip { owner: ask.0, minute: ask.1, limit, due, want })
    }

    /// The store has answered a dip; `None`: it did not, and what was due is due still.
    pub fn dipped(&mut self, now: Moment, dip: &Dip, answer: Option<Dipped>) {
        let Some(slices) = &mut self.slices else { return };
        let pool = slices.pool(now, dip.owner, dip.minute, dip.limit);
        let Some(Dipped { got, left, wait }) = answer else {
            pool.have = pool.have.saturating_sub(dip.due);
            return;
        };
        pool.have = pool.have.saturating_add(signed(got));
        pool.wait = wait;
        pool.seen = Bucket::full(now, dip.limit);
        pool.seen.take(now, dip.limit.saturating_sub(left));
    }

    /// What is owed to the buckets, and what lies idle in pools.
    pub fn settle_minutes(&mut self, now: Moment, members: u64) -> Vec<Dip> {
        let Some(slices) = &mut self.slices else { return Vec::new() };
        if slices.parts.is_some() {
            return Vec::new();
        }
        let mut dips = Vec::new();
        for ((owner, minute), pool) in &mut slices.pools {
            let limit = pool.seen.limit();
            let idle = now.since(pool.touched) >= IDLE;
            let kept = if idle { 0 } else { signed(2 * slice(limit, members)) };
            let over = pool.have.saturating_sub(kept);
            let due = if pool.have < 0 { pool.have.saturating_neg() } else { over.max(0).saturating_neg() };
            if due != 0 {
                pool.have = pool.have.saturating_add(due);
                dips.push(Dip { owner: *owner, minute: *minute, limit, due, want: 0 });
            }
        }
        slices
            .pools
            .retain(|_, pool| pool.have != 0 || !pool.seen.is_full(now) || now.since(pool.touched) < IDLE);
        dips.sort_unstable_by_key(|dip| (dip.owner, dip.minute));
        dips
    }

    /// The store is away, and each of `parts` replicas goes on by its part of a minute; `None`: it is back, and is told
    /// what was taken meanwhile. `lost`: it came back empty, and is told what was owed before, too.
    pub fn part(&mut self, now: Moment, parts: Option<u64>, lost: bool) {
        let Some(slices) = &mut self.slices else { return };
        if slices.parts == parts {
            return;
        }
        let before = std::mem::replace(&mut slices.parts, parts);
        match (before, parts) {
            (None, Some(parts)) => {
                for ((owner, minute), pool) in slices.pools.drain() {
                    let limit = (pool.seen.limit() / parts.max(1)).max(1);
                    let left = pool.seen.left(now) / parts.max(1);
                    let mut bucket = Bucket::full(now, limit);
                    bucket.take(now, limit.saturating_sub(left));
                    match u64::try_from(pool.have) {
                        Ok(own) => bucket.give(now, own),
                        Err(_) => bucket.take(now, pool.have.unsigned_abs()),
                    }
                    slices.inherited.insert((owner, minute), bucket);
                    *self.accounts.of(owner).bucket(minute) = Some(bucket);
                }
            }
            (Some(_), None) => {
                // What the store knows of it has been filled up since, at the same pace.
                for (owner, account) in self.accounts.iter_mut() {
                    for minute in [Minute::Tokens, Minute::Requests] {
                        let Some(bucket) = account.bucket(minute).take() else { continue };
                        let limit = bucket.limit();
                        let before = slices.inherited.get(&(owner, minute)).filter(|_| !lost);
                        let known = before.map_or(0, |before| before.debt(now));
                        let owed = bucket.debt(now).saturating_sub(known);
                        slices.pool(now, owner, minute, limit).have = signed(owed).saturating_neg();
                    }
                }
            }
            _ => {}
        }
        if parts.is_none() {
            slices.inherited.clear();
        }
    }
}
