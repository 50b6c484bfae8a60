//! The brownout in the live view: which policy has taken which steps on which pool, and why.

use super::seconds;
use crate::http::number::Number;
use obleth_actors::fairshare::Levels;
use obleth_actors::shapes::StepName;
use obleth_core::brownout::{Policy, Pool, Row, Step};
use obleth_core::registry::{Registry, Tenant};
use obleth_core::units::Decimal;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// A policy on a pool that it has been under pressure of.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveBrownout")]
pub(super) struct RowView {
    /// Null: the slots that all models share.
    model: Option<Arc<str>>,
    level: u8,
    #[schemars(with = "Vec<StepName>")]
    steps: Vec<Step>,
    /// `oldest_wait` or `drain`.
    reason: &'static str,
    oldest_wait_seconds: Number<Decimal<3>>,
    /// Null while nothing was measured.
    drain_seconds: Option<Number<Decimal<3>>>,
    seconds_since_move: Number<Decimal<3>>,
    policy: PolicyView,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BrownoutPolicy")]
struct PolicyView {
    wait_ms: u128,
    max_tokens: u64,
    #[schemars(with = "Vec<StepName>")]
    steps: Vec<Step>,
}

/// A tenant with a policy, where that has gone furthest.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveTenantBrownout")]
pub(super) struct TenantView {
    level: u8,
    #[schemars(with = "Vec<StepName>")]
    steps: Vec<Step>,
    reason: Option<&'static str>,
}

/// The policies that are not at rest; those on models that were deleted are left out.
pub(super) fn rows(levels: &Levels, records: &Registry, limit: usize) -> Vec<RowView> {
    let mut rows: Vec<&Row> = levels.rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.level));
    rows.into_iter().filter_map(|row| self::row(levels, records, row)).take(limit).collect()
}

fn row(levels: &Levels, records: &Registry, row: &Row) -> Option<RowView> {
    let pressure = levels.pressure(row.pool);
    Some(RowView {
        model: match row.pool {
            Pool::Slots => None,
            Pool::Model(id) => Some(Arc::clone(&records.model(id)?.name)),
        },
        level: row.level,
        steps: row.policy.taken(row.level).collect(),
        reason: row.reason.as_str(),
        oldest_wait_seconds: seconds(pressure.oldest_wait),
        drain_seconds: pressure.drain.map(seconds),
        seconds_since_move: seconds(levels.seen.since(row.moved_at)),
        policy: policy(&row.policy),
    })
}

fn policy(policy: &Policy) -> PolicyView {
    PolicyView {
        wait_ms: policy.wait().as_millis(),
        max_tokens: policy.max_tokens(),
        steps: policy.steps().collect(),
    }
}

/// Null for a tenant without a policy.
pub(super) fn of_tenant(levels: &Levels, tenant: Option<&Arc<Tenant>>) -> Option<TenantView> {
    let policy = tenant?.brownout?;
    let furthest = levels.rows.iter().filter(|row| row.policy == policy).max_by_key(|row| row.level);
    let level = furthest.map_or(0, |row| row.level);
    Some(TenantView {
        level,
        steps: policy.taken(level).collect(),
        reason: furthest.filter(|row| row.level > 0).map(|row| row.reason.as_str()),
    })
}
