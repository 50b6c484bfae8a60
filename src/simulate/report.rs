//! The report: plain numbers, as text or as JSON.

use super::directory::{Directory, Place};
use super::gaps::Widest;
use super::numbers::{ratio, seconds};
use super::tally::{Seen, Tally};
use obleth_core::moment::Moment;
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Tenants that the text lists; JSON lists all.
const LISTED: usize = 40;

/// What a simulation measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub algorithm: &'static str,
    pub duration_s: f64,
    pub requests: u64,
    pub finished: u64,
    pub cancelled: u64,
    pub rejected: u64,
    pub timed_out: u64,
    /// At the end.
    pub waiting: u64,
    pub running: u64,
    pub served_tokens: u64,
    /// Over the tenants that waited for at least a quarter of the run: (Σx)²/(nΣx²) of actual over
    /// entitled service while they waited. `None` without such tenants.
    pub weighted_jain: Option<f64>,
    pub jain_tenants: u64,
    /// Of the pair furthest apart. `None` when no two tenants waited alongside.
    pub largest_gap: Option<Gap>,
    /// Of the pair nearest to its bound, or furthest beyond it.
    pub tightest_gap: Option<Gap>,
    /// Slot time used, of all slot time.
    pub slot_use: f64,
    /// Slot time used, of what could have been used.
    pub work_conservation: f64,
    pub tenants: Vec<TenantReport>,
}

/// A difference of service per weight, in tokens per weight 100, and what is proven of it.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    pub tokens: u64,
    pub bound_tokens: u64,
    pub between: [String; 2],
}

/// One tenant that sent something.
#[derive(Clone, Debug, Serialize)]
pub struct TenantReport {
    pub name: String,
    pub group: String,
    pub weight: u32,
    pub requests: u64,
    pub granted: u64,
    pub finished: u64,
    pub cancelled: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub waiting: u64,
    pub served_tokens: u64,
    /// Shares of all service granted, in cost.
    pub entitled_share: f64,
    pub actual_share: f64,
    /// Of granted requests.
    pub wait_p50_s: f64,
    pub wait_p99_s: f64,
    /// With something waiting.
    pub longest_without_grant_s: f64,
}

/// The report of a run that ended at `end`.
pub(super) fn of(mut tally: Tally, directory: &Directory, end: Moment) -> Report {
    tally.close(end);
    let (jain, jain_tenants) = weighted_jain(&tally, end);
    let widest = tally.gaps.widest();
    let all: u128 = seen(&tally).map(|(_, seen)| u128::from(seen.due.had)).sum();
    let total = |count: fn(&Seen) -> u64| seen(&tally).map(|(_, seen)| count(seen)).sum();
    let used = tally.slots.used;
    let mut report = Report {
        algorithm: "",
        duration_s: seconds(end.as_micros()),
        requests: total(|seen| seen.requests),
        finished: total(|seen| seen.finished),
        cancelled: total(|seen| seen.cancelled),
        rejected: total(|seen| seen.rejected),
        timed_out: total(|seen| seen.timed_out),
        waiting: total(|seen| seen.waiting().into()),
        running: tally.slots.in_flight().into(),
        served_tokens: total(|seen| seen.tokens),
        weighted_jain: jain,
        jain_tenants,
        largest_gap: widest.map(|(furthest, _)| gap(&furthest, directory)),
        tightest_gap: widest.map(|(_, tightest)| gap(&tightest, directory)),
        slot_use: ratio(used, tally.slots.whole()),
        work_conservation: match used {
            0 => 1.0,
            used => ratio(used, used.saturating_add(tally.slots.wasted)),
        },
        tenants: Vec::new(),
    };
    let places = tally.tenants.iter_mut().enumerate();
    let listed = places.filter_map(|(place, seen)| Some(tenant(place, seen.as_mut()?, directory, all)));
    report.tenants = listed.collect();
    report
}

fn seen(tally: &Tally) -> impl Iterator<Item = (Place, &Seen)> {
    tally.tenants.iter().enumerate().filter_map(|(place, seen)| Some((place, seen.as_ref()?)))
}

fn tenant(place: Place, seen: &mut Seen, directory: &Directory, all: u128) -> TenantReport {
    seen.waits.sort_unstable();
    let of = directory.tenant(place);
    TenantReport {
        name: directory.tenant_name(place).to_owned(),
        group: of.map_or("", |of| directory.group_name(of.group)).to_owned(),
        weight: of.map_or(0, |of| of.plan.weight.get()),
        requests: seen.requests,
        granted: u64::try_from(seen.waits.len()).unwrap_or(u64::MAX),
        finished: seen.finished,
        cancelled: seen.cancelled,
        rejected: seen.rejected,
        timed_out: seen.timed_out,
        waiting: seen.waiting().into(),
        served_tokens: seen.tokens,
        entitled_share: ratio(seen.due.entitled.into(), all),
        actual_share: ratio(seen.due.had.into(), all),
        wait_p50_s: percentile(&seen.waits, 50),
        wait_p99_s: percentile(&seen.waits, 99),
        longest_without_grant_s: seconds(micros(seen.longest)),
    }
}

/// The nearest rank in a sorted list, in seconds; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |wait| seconds(*wait))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn weighted_jain(tally: &Tally, end: Moment) -> (Option<f64>, u64) {
    let quarter = Duration::from_micros(end.as_micros() / 4);
    let (mut n, mut sum, mut squares) = (0_u64, 0_u128, 0_u128);
    for (_, seen) in seen(tally).filter(|(_, seen)| seen.waiting_time >= quarter) {
        let Some(x) = u128::from(seen.due.contested_had)
            .saturating_mul(1_000_000)
            .checked_div(seen.due.contested_entitled.into())
        else {
            continue;
        };
        n = n.saturating_add(1);
        sum = sum.saturating_add(x);
        squares = squares.saturating_add(x.saturating_mul(x));
    }
    let jain = ratio(sum.saturating_mul(sum), squares.saturating_mul(n.into()));
    ((squares > 0).then_some(jain), n)
}

fn gap(widest: &Widest, directory: &Directory) -> Gap {
    let (f, g) = widest.between;
    let between = [f, g].map(|place| directory.tenant_name(place).to_owned());
    Gap { tokens: widest.tokens, bound_tokens: widest.bound, between }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, duration_s, requests, finished, cancelled, rejected, timed_out, .. } = self;
        writeln!(f, "{algorithm}: {requests} requests in {duration_s} s of virtual time")?;
        writeln!(
            f,
            "  {finished} finished, {cancelled} cancelled, {rejected} rejected, {timed_out} timed out; \
             at the end {} waited and {} ran",
            self.waiting, self.running
        )?;
        writeln!(f, "  served tokens      {}", self.served_tokens)?;
        match self.weighted_jain {
            Some(jain) => writeln!(f, "  weighted Jain      {jain:.6} ({} tenants)", self.jain_tenants)?,
            None => writeln!(f, "  weighted Jain      - (nobody waited for long)")?,
        }
        for (title, gap) in [("largest gap", &self.largest_gap), ("nearest to bound", &self.tightest_gap)] {
            if let Some(Gap { tokens, bound_tokens, between: [a, b] }) = gap {
                writeln!(
                    f,
                    "  {title:<18} {tokens} tokens per weight 100, bound {bound_tokens}, of {a} and {b}"
                )?;
            }
        }
        writeln!(f, "  slot use           {:.6}", self.slot_use)?;
        writeln!(f, "  work conservation  {:.6}", self.work_conservation)?;
        self.list_tenants(f)
    }
}

impl Report {
    fn list_tenants(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<16} {:<10} {:>7} {:>8} {:>8} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "tenant",
            "group",
            "weight",
            "requests",
            "granted",
            "tokens",
            "entitled",
            "actual",
            "p50 s",
            "p99 s",
            "longest s"
        )?;
        for tenant in self.tenants.iter().take(LISTED) {
            writeln!(
                f,
                "{:<16} {:<10} {:>7} {:>8} {:>8} {:>10} {:>9.6} {:>9.6} {:>9.3} {:>9.3} {:>9.3}",
                tenant.name,
                tenant.group,
                tenant.weight,
                tenant.requests,
                tenant.granted,
                tenant.served_tokens,
                tenant.entitled_share,
                tenant.actual_share,
                tenant.wait_p50_s,
                tenant.wait_p99_s,
                tenant.longest_without_grant_s
            )?;
        }
        match self.tenants.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more, which --json lists"),
        }
    }
}
