//! Claims and minutes, as Redis keeps them.
//!
//! Is: the keys, the scripts and their answers. Is not: a decision; those are of the core and of the scripts, whose rules
//! are written down in `obleth_core::token_budget::slices::store`.

use super::link::{Away, Link, Script};
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::token_budget::slices::store::{Beat, Reply};
use obleth_core::token_budget::{Counter, Dip, Dipped, Minute, Others, Owner, Period, Report, What};
use redis::{FromRedisValue as _, Value};
use std::time::Duration;

/// How long one call may take. It lies on the way of requests near a limit.
pub(crate) const CALL: Duration = Duration::from_millis(250);
/// Counters in one call.
pub(crate) const AT_ONCE: usize = 64;
/// Amounts have up to 24 digits; a limit beyond is none that could be reached.
const MOST: u128 = 1_000_000_000_000_000_000_000_000;
/// Counters live so many seconds after the end of their period, or after their last use.
const KEPT: i64 = 2 * 86_400;
const TOTAL_KEPT: i64 = 400 * 86_400;

/// The scripts, and where what they use is.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    link: Link,
    /// This replica.
    id: String,
    prefix: String,
    reports: Script,
    begin: Script,
    beat: Script,
    minutes: Script,
}

/// An answer to several reports.
pub(crate) enum Replies {
    /// Another run: everything must be said again.
    Lost,
    Of(Vec<Reply>),
}

impl Claims {
    /// The shared budgets behind `link`, for the replica `id`.
    pub(crate) fn new(link: Link, id: String, prefix: &str) -> Self {
        Self {
            link,
            id,
            prefix: format!("{{{prefix}}}:budgets"),
            reports: Script::new(include_str!("slices.lua")),
            begin: Script::new(include_str!("begin.lua")),
            beat: Script::new(include_str!("beat.lua")),
            minutes: Script::new(include_str!("minutes.lua")),
        }
    }

    /// Where counters that others want are called out.
    pub(crate) fn channel(&self) -> String {
        format!("{}:wanted", self.prefix)
    }

    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    fn run_key(&self) -> String {
        format!("{}:run", self.prefix)
    }

    fn counter_key(&self, counter: &Counter) -> String {
        format!("{}:{}", self.prefix, name(counter))
    }

    /// Says several counters, of which there are at most [`AT_ONCE`].
    pub(crate) async fn report(&self, run: &str, members: u64, reports: &[Report]) -> Result<Replies, Away> {
        let mut keys = vec![self.run_key()];
        let mut args = vec![run.to_owned(), self.id.clone(), members.to_string(), self.channel()];
        for report in reports {
            keys.push(self.counter_key(&report.counter));
            args.extend([
                report.seq.to_string(),
                u8::from(report.exact).to_string(),
                number(report.have),
                number(report.least),
                report.limit.map(number).unwrap_or_default(),
                number(report.used),
                number(report.busy),
                lives(&report.counter).to_string(),
                name(&report.counter),
            ]);
        }
        let value = self.call(&self.reports, &keys, args).await?;
        let Value::Array(rows) = value else { return Err(Away::Refused) };
        if rows.len() != reports.len() {
            return Ok(Replies::Lost);
        }
        rows.into_iter().map(reply).collect::<Option<Vec<_>>>().map(Replies::Of).ok_or(Away::Refused)
    }

    /// Tells what everybody has written of a counter.
    pub(crate) async fn begin(
        &self,
        run: &str,
        counter: &Counter,
        written: &[(String, u128)],
    ) -> Result<bool, Away> {
        let keys = [self.run_key(), self.counter_key(counter)];
        let mut args = vec![run.to_owned(), lives(counter).to_string()];
        for (id, used) in written {
            args.extend([id.clone(), number(*used)]);
        }
        Ok(self.call(&self.begin, &keys, args).await? == Value::Int(1))
    }

    /// Says that this replica lives.
    pub(crate) async fn beat(&self, next: &str, asserted: &str, knew: &[String]) -> Result<Beat, Away> {
        let mut args = vec![self.id.clone(), next.to_owned(), asserted.to_owned(), "live".to_owned()];
        args.extend(knew.iter().cloned());
        let value = self.call(&self.beat, &self.beat_keys(), args).await?;
        beat(value).ok_or(Away::Refused)
    }

    /// Says that this replica ends.
    pub(crate) async fn leave(&self) -> Result<(), Away> {
        let args = vec![self.id.clone(), String::new(), String::new(), "leave".to_owned()];
        self.call(&self.beat, &self.beat_keys(), args).await.map(|_| ())
    }

    fn beat_keys(&self) -> [String; 3] {
        [self.run_key(), format!("{}:members", self.prefix), format!("{}:expected", self.prefix)]
    }

    /// Takes from buckets of a minute, or gives back. `least`: what the requests need, of each.
    pub(crate) async fn dip(&self, dips: &[(Dip, u64)]) -> Result<Vec<Dipped>, Away> {
        let key = |dip: &Dip| {
            let minute = if dip.minute == Minute::Tokens { "tokens" } else { "requests" };
            format!("{}:minute:{}:{minute}", self.prefix, owner(dip.owner))
        };
        let keys: Vec<String> = dips.iter().map(|(dip, _)| key(dip)).collect();
        let mut args = Vec::new();
        for (dip, _) in dips {
            args.extend([dip.limit.max(1).to_string(), dip.due.to_string(), dip.want.to_string()]);
        }
        args.extend(dips.iter().map(|(_, least)| least.to_string()));
        let value = self.call(&self.minutes, &keys, args).await?;
        let rows = Vec::<(u64, u64, u64)>::from_redis_value(value).map_err(|_| Away::Refused)?;
        let told = |(got, left, wait)| Dipped { got, left, wait: Duration::from_micros(wait) };
        Ok(rows.into_iter().map(told).collect())
    }

    async fn call(&self, script: &Script, keys: &[String], args: Vec<String>) -> Result<Value, Away> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.link.call(script, &keys, args.into_iter().map(String::into_bytes).collect(), CALL).await
    }
}

fn number(amount: u128) -> String {
    amount.min(MOST).to_string()
}

fn owner(owner: Owner) -> String {
    match owner {
        Owner::Tenant(tenant) => format!("{tenant}:-"),
        Owner::Key(tenant, key) => format!("{tenant}:{key}"),
    }
}

/// A counter as it is called in Redis.
pub(crate) fn name(counter: &Counter) -> String {
    let Counter { owner: whose, period, index, what } = counter;
    let what = if *what == What::Tokens { "tokens" } else { "money" };
    format!("{}:{}:{index}:{what}", owner(*whose), period.as_str())
}

/// The counter of a name.
pub(crate) fn named(name: &str) -> Option<Counter> {
    let mut parts = name.split(':');
    let tenant: TenantId = parts.next()?.parse().ok()?;
    let owner = match parts.next()? {
        "-" => Owner::Tenant(tenant),
        key => Owner::Key(tenant, key.parse::<KeyId>().ok()?),
    };
    let period = parts.next()?;
    let period = Period::ALL.into_iter().find(|known| known.as_str() == period)?;
    let index = parts.next()?.parse().ok()?;
    let what = match parts.next()? {
        "tokens" => What::Tokens,
        "money" => What::Money,
        _ => return None,
    };
    parts.next().is_none().then_some(Counter { owner, period, index, what })
}

/// Seconds that a counter lives from its last use on.
fn lives(counter: &Counter) -> i64 {
    match counter.period {
        Period::Day => 86_400 + KEPT,
        Period::Month => 31 * 86_400 + KEPT,
        Period::Total => TOTAL_KEPT,
    }
}

fn reply(row: Value) -> Option<Reply> {
    let words = Vec::<String>::from_redis_value(row).ok()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["kept", claim, claimed, used, busy] => {
            let others =
                Others { claimed: claimed.parse().ok()?, used: used.parse().ok()?, busy: busy.parse().ok()? };
            Some(Reply::Kept(claim.parse().ok()?, others))
        }
        ["blank"] => Some(Reply::Blank),
        ["closed"] => Some(Reply::Closed),
        ["stale", seq] => seq.parse().ok().map(Reply::Stale),
        _ => None,
    }
}

fn beat(value: Value) -> Option<Beat> {
    let Value::Array(parts) = value else { return None };
    let mut parts = parts.into_iter();
    let run = String::from_redis_value(parts.next()?).ok()?;
    let open = u64::from_redis_value(parts.next()?).ok()? == 1;
    let live = u64::from_redis_value(parts.next()?).ok()?;
    let mut members = parts.map(|name| String::from_redis_value(name).ok()).collect::<Option<Vec<_>>>()?;
    members.sort_unstable();
    Some(Beat { run, open, live, members })
}

#[cfg(test)]
mod tests;
