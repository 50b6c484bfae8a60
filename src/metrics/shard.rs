//! What one worker has counted. Plain numbers, added together when somebody asks.

use super::histogram::{Fine, Seconds};
use obleth_core::ids::TenantId;
use obleth_core::ledger::Admission;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// By label: few, so they are looked for one by one.
    pub(super) routes: Vec<(&'static str, RouteTally)>,
    pub(super) queue_wait: Seconds,
    pub(super) overhead: Fine,
    pub(super) models: Group<Arc<str>, ModelTally>,
    pub(super) tenants: Group<TenantId, TenantTally>,
    pub(super) cache: Cache,
    pub(super) budget: Words<5>,
    pub(super) brownout: Words<2>,
    pub(super) mcp: Group<Arc<str>, McpTally>,
}

/// A route.
#[derive(Debug, Default)]
pub(super) struct RouteTally {
    pub(super) requests: Vec<((u16, Admission), u64)>,
    pub(super) seconds: Seconds,
}

/// A model.
#[derive(Debug, Default)]
pub(super) struct ModelTally {
    /// On the roll; `None` for the rest.
    pub(super) number: Option<u32>,
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) ttft: Seconds,
    pub(super) upstream: Seconds,
    /// Requests that were sent, by how they ended.
    pub(super) outcomes: Outcomes,
}

impl ModelTally {
    pub(super) fn numbered(number: u32) -> Self {
        Self { number: Some(number), ..Self::default() }
    }
}

/// How requests that were sent upstream ended.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    ok: u64,
    client_error: u64,
    error: u64,
    left: u64,
}

impl Outcomes {
    /// Counts one by its status in the ledger.
    pub(super) const fn count(&mut self, status: u16) {
        let counter = match status {
            499 => &mut self.left,
            0..400 => &mut self.ok,
            400..500 => &mut self.client_error,
            _ => &mut self.error,
        };
        *counter += 1;
    }

    fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.client_error += other.client_error;
        self.error += other.error;
        self.left += other.left;
    }

    /// With their words.
    pub(super) const fn each(&self) -> [(&'static str, u64); 4] {
        [("ok", self.ok), ("client_error", self.client_error), ("error", self.error), ("left", self.left)]
    }
}

/// A tenant.
#[derive(Debug, Default)]
pub(super) struct TenantTally {
    pub(super) requests: u64,
    pub(super) input: u64,
    pub(super) output: u64,
    /// Pico-dollars.
    pub(super) cost: i128,
}

/// The response cache.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) lookups: Words<4>,
    pub(super) tokens_saved: u64,
}

/// An MCP server: calls by status.
#[derive(Debug, Default)]
pub(super) struct McpTally {
    pub(super) calls: Vec<(u16, u64)>,
}

impl McpTally {
    pub(super) fn count(&mut self, status: u16) {
        count(&mut self.calls, bounded(status), 1);
    }
}

/// The status, if it is a usual one; else its class alone (4 for `4xx`): an upstream may answer anything.
const fn bounded(status: u16) -> u16 {
    match status {
        200..=208 | 226 | 300..=308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 499..=511 => status,
        _ => status / 100,
    }
}

/// Counts by a word of the code. Those that are known from the start are shown from the start.
#[derive(Debug)]
pub(super) struct Words<const N: usize>(pub(super) Vec<(&'static str, u64)>);

impl Default for Words<4> {
    fn default() -> Self {
        Self::of(["hit", "miss", "coalesced", "bypass"])
    }
}

impl Default for Words<5> {
    fn default() -> Self {
        Self::of([
            "tokens_per_minute",
            "requests_per_minute",
            "request_exceeds_limit",
            "budget_reserved",
            "budget_exhausted",
        ])
    }
}

impl Default for Words<2> {
    fn default() -> Self {
        Self::of(["cap_tokens", "shed"])
    }
}

impl<const N: usize> Words<N> {
    fn of(words: [&'static str; N]) -> Self {
        Self(words.into_iter().map(|word| (word, 0)).collect())
    }

    pub(super) fn count(&mut self, word: &'static str, times: u64) {
        count(&mut self.0, word, times);
    }

    fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(word, count)| self.count(word, *count));
    }
}

/// Those who have a series of their own, and the rest.
#[derive(Debug)]
pub(super) struct Group<K, T> {
    pub(super) own: Map<K, T>,
    pub(super) other: T,
    /// Whether the rest counted anything yet.
    pub(super) has_other: bool,
}

impl<K, T: Default> Default for Group<K, T> {
    fn default() -> Self {
        Self { own: Map::default(), other: T::default(), has_other: false }
    }
}

impl<K: Clone + Eq + Hash, T: Tally> Group<K, T> {
    /// Notes something of `key`; one that has no tally here is given one by `admit`, or counts among the rest.
    pub(super) fn note(&mut self, key: &K, admit: impl FnOnce() -> Option<T>, note: impl FnOnce(&mut T)) {
        if let Some(tally) = self.own.get_mut(key) {
            note(tally);
        } else if let Some(tally) = admit() {
            note(self.own.entry(key.clone()).or_insert(tally));
        } else {
            self.has_other = true;
            note(&mut self.other);
        }
    }

    fn add(&mut self, other: &Self) {
        for (key, tally) in &other.own {
            self.own.entry(key.clone()).or_default().add(tally);
        }
        self.other.add(&other.other);
        self.has_other |= other.has_other;
    }
}

/// Something that is counted in several places.
pub(super) trait Tally: Default {
    fn add(&mut self, other: &Self);
}

impl Tally for ModelTally {
    fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.ttft.add(&other.ttft);
        self.upstream.add(&other.upstream);
        self.outcomes.add(&other.outcomes);
    }
}

impl Tally for TenantTally {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.input += other.input;
        self.output += other.output;
        self.cost = self.cost.saturating_add(other.cost);
    }
}

impl Tally for McpTally {
    fn add(&mut self, other: &Self) {
        other.calls.iter().for_each(|(status, times)| count(&mut self.calls, *status, *times));
    }
}

impl RouteTally {
    pub(super) fn count(&mut self, status: u16, admission: Admission) {
        count(&mut self.requests, (bounded(status), admission), 1);
    }
}

impl Shard {
    pub(super) fn route(&mut self, label: &'static str, note: impl FnOnce(&mut RouteTally)) {
        if let Some((_, route)) = self.routes.iter_mut().find(|(own, _)| *own == label) {
            return note(route);
        }
        let mut route = RouteTally::default();
        note(&mut route);
        self.routes.push((label, route));
    }

    /// Adds what another worker has counted.
    pub(super) fn add(&mut self, other: &Self) {
        for (label, theirs) in &other.routes {
            self.route(label, |mine| {
                mine.seconds.add(&theirs.seconds);
                theirs.requests.iter().for_each(|(key, times)| count(&mut mine.requests, *key, *times));
            });
        }
        self.queue_wait.add(&other.queue_wait);
        self.overhead.add(&other.overhead);
        self.models.add(&other.models);
        self.tenants.add(&other.tenants);
        self.cache.lookups.add(&other.cache.lookups);
        self.cache.tokens_saved += other.cache.tokens_saved;
        self.budget.add(&other.budget);
        self.brownout.add(&other.brownout);
        self.mcp.add(&other.mcp);
    }
}

/// Counts in a short list.
fn count<K: PartialEq>(list: &mut Vec<(K, u64)>, key: K, times: u64) {
    match list.iter_mut().find(|(own, _)| *own == key) {
        Some((_, count)) => *count += times,
        None => list.push((key, times)),
    }
}
