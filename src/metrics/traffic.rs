//! The series that requests add to, as text: names, help texts, labels (contract §5).

use super::histogram::Buckets;
use super::roll::OTHER;
use super::shard::{Group, ModelTally, RouteTally, Shard, TenantTally};
use super::tenants::Standing;
use super::text::{Kind, Text};
use crate::wire::Route;
use obleth_core::ids::TenantId;
use obleth_core::ledger::Admission;
use obleth_core::units::Usd;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const REQUESTS: &str = "obleth_requests_total";
const TOKENS: &str = "obleth_tokens_total";
const UPSTREAM_REQUESTS: &str = "obleth_upstream_requests_total";
const TTFT: &str = "obleth_ttft_seconds";
const UPSTREAM: &str = "obleth_upstream_seconds";
const MCP: &str = "obleth_mcp_requests_total";

/// All of them but those of tenants; `models` have a series each.
pub(super) fn write(text: &mut Text, shard: &Shard, models: &[Arc<str>]) {
    routes(text, shard);
    by_model(text, &shard.models, models);
    histogram(
        text,
        "obleth_queue_wait_seconds",
        "Time in the queue of admitted requests, in seconds.",
        &shard.queue_wait,
    );
    histogram(
        text,
        "obleth_gateway_overhead_seconds",
        "Time in the gateway without queue and upstream, in seconds.",
        &shard.overhead,
    );
    features(text, shard);
    servers(text, shard);
}

fn histogram<const N: usize>(text: &mut Text, name: &str, help: &str, seen: &Buckets<N>) {
    text.family(name, Kind::Histogram, help);
    text.histogram(name, &[], seen);
}

fn routes(text: &mut Text, shard: &Shard) {
    let none = RouteTally::default();
    let usual = [Route::ChatCompletions, Route::Completions, Route::Embeddings].map(|route| route.label());
    // A series that is not there yet cannot be asked for its rate: the usual ones are there from the start.
    let mut routes: BTreeMap<_, _> = usual.into_iter().map(|label| (label, &none)).collect();
    routes.extend(shard.routes.iter().map(|(label, tally)| (*label, tally)));
    text.family(REQUESTS, Kind::Counter, "Requests on model routes by route, status and admission.");
    for (route, tally) in &routes {
        let mut requests: BTreeMap<_, u64> = BTreeMap::from([((200, Admission::Fast.as_str()), 0)]);
        for ((status, admission), count) in &tally.requests {
            *requests.entry((*status, admission.as_str())).or_default() += count;
        }
        for ((status, admission), count) in requests {
            let labels = [("route", *route), ("status", &status_text(status)), ("admission", admission)];
            text.sample(REQUESTS, &labels, count);
        }
    }
    let name = "obleth_request_seconds";
    text.family(name, Kind::Histogram, "Time from arrival to the end, in seconds, by route.");
    for (route, tally) in &routes {
        text.histogram(name, &[("route", route)], &tally.seconds);
    }
}

/// `200`; a class of which the status itself is not kept: `4xx`.
fn status_text(status: u16) -> String {
    if status < 100 { format!("{status}xx") } else { status.to_string() }
}

fn by_model(text: &mut Text, group: &Group<Arc<str>, ModelTally>, models: &[Arc<str>]) {
    let none = ModelTally::default();
    let mut rows: BTreeMap<&str, &ModelTally> = models.iter().map(|name| (&**name, &none)).collect();
    rows.extend(group.own.iter().map(|(name, tally)| (&**name, tally)));
    if group.has_other {
        rows.insert(OTHER, &group.other);
    }
    if rows.is_empty() {
        // Before there is a model, the nameless one stands in.
        rows.insert("", &none);
    }
    text.family(TOKENS, Kind::Counter, "Tokens by direction (input, output) and model.");
    for (model, tally) in &rows {
        text.sample(TOKENS, &[("direction", "input"), ("model", model)], tally.input);
        text.sample(TOKENS, &[("direction", "output"), ("model", model)], tally.output);
    }
    text.family(
        UPSTREAM_REQUESTS,
        Kind::Counter,
        "Requests that were sent upstream, by model and how they ended.",
    );
    for (model, tally) in &rows {
        for (outcome, count) in tally.outcomes.each() {
            text.sample(UPSTREAM_REQUESTS, &[("model", model), ("outcome", outcome)], count);
        }
    }
    text.family(TTFT, Kind::Histogram, "Time to the first byte of the answer's body, in seconds, by model.");
    rows.iter().for_each(|(model, tally)| text.histogram(TTFT, &[("model", model)], &tally.ttft));
    text.family(
        UPSTREAM,
        Kind::Histogram,
        "Time from sending to the end of the upstream's answer, in seconds, by model.",
    );
    rows.iter().for_each(|(model, tally)| text.histogram(UPSTREAM, &[("model", model)], &tally.upstream));
}

fn features(text: &mut Text, shard: &Shard) {
    let lookups = &shard.cache.lookups.0;
    words(text, "obleth_cache_lookups_total", "Looks into the response cache by result.", "result", lookups);
    let saved = "obleth_cache_tokens_saved_total";
    text.family(saved, Kind::Counter, "Tokens that were not asked of an upstream thanks to the cache.");
    text.sample(saved, &[], shard.cache.tokens_saved);
    words(
        text,
        "obleth_budget_rejections_total",
        "Requests that a limit or a budget refused, by error code.",
        "reason",
        &shard.budget.0,
    );
    words(
        text,
        "obleth_brownout_total",
        "Requests on which a step of the brownout was taken, by step.",
        "step",
        &shard.brownout.0,
    );
}

fn words(text: &mut Text, name: &str, help: &str, label: &str, counts: &[(&'static str, u64)]) {
    text.family(name, Kind::Counter, help);
    for (word, count) in counts {
        text.sample(name, &[(label, word)], count);
    }
}

fn servers(text: &mut Text, shard: &Shard) {
    text.family(MCP, Kind::Counter, "MCP calls by server and status.");
    let mut rows: BTreeMap<&str, _> =
        shard.mcp.own.iter().map(|(server, tally)| (&**server, &tally.calls)).collect();
    if shard.mcp.has_other {
        rows.insert(OTHER, &shard.mcp.other.calls);
    }
    if rows.is_empty() {
        text.sample(MCP, &[("server", ""), ("status", "200")], 0);
    }
    for (server, calls) in rows {
        for (status, count) in calls {
            text.sample(MCP, &[("server", server), ("status", &status_text(*status))], count);
        }
    }
}

/// Those of tenants: the ones named, and the rest.
pub(super) fn write_tenants(
    text: &mut Text,
    group: &Group<TenantId, TenantTally>,
    named: &BTreeMap<Arc<str>, TenantId>,
    standings: &[Standing],
) {
    let none = TenantTally::default();
    let tally = |id| group.own.get(id).unwrap_or(&none);
    let mut rows: Vec<(&str, &TenantTally)> = named.iter().map(|(name, id)| (&**name, tally(id))).collect();
    rows.push((OTHER, &group.other));
    let counter = |text: &mut Text, name, help, value: &dyn Fn(&TenantTally) -> String| {
        text.family(name, Kind::Counter, help);
        rows.iter().for_each(|(tenant, tally)| text.sample(name, &[("tenant", tenant)], value(tally)));
    };
    counter(text, "obleth_tenant_requests_total", "Authenticated requests by tenant.", &|tally| {
        tally.requests.to_string()
    });
    counter(text, "obleth_tenant_cost_usd_total", "Costs by tenant, in US dollars.", &|tally| {
        Usd::from_pico(tally.cost).to_string()
    });
    let name = "obleth_tenant_tokens_total";
    text.family(name, Kind::Counter, "Tokens by direction (input, output) and tenant.");
    for (tenant, tally) in &rows {
        text.sample(name, &[("direction", "input"), ("tenant", tenant)], tally.input);
        text.sample(name, &[("direction", "output"), ("tenant", tenant)], tally.output);
    }
    tenant_gauges(text, named, standings);
}

fn tenant_gauges(text: &mut Text, named: &BTreeMap<Arc<str>, TenantId>, standings: &[Standing]) {
    let labels: HashMap<TenantId, &str> = named.iter().map(|(name, id)| (*id, &**name)).collect();
    let mut rows: BTreeMap<&str, (u64, u64)> =
        labels.values().map(|name| (*name, (0, 0))).chain([(OTHER, (0, 0))]).collect();
    for row in standings {
        let sums = rows.entry(labels.get(&row.id).unwrap_or(&OTHER)).or_default();
        sums.0 += u64::from(row.in_flight);
        sums.1 += u64::from(row.queued);
    }
    let name = "obleth_tenant_in_flight";
    text.family(name, Kind::Gauge, "Requests that hold a seat, by tenant.");
    rows.iter().for_each(|(tenant, (running, _))| text.sample(name, &[("tenant", tenant)], running));
    let name = "obleth_tenant_queue_depth";
    text.family(name, Kind::Gauge, "Requests that wait, by tenant.");
    rows.iter().for_each(|(tenant, (_, waiting))| text.sample(name, &[("tenant", tenant)], waiting));
}
