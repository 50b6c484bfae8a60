//! The live view: capacity, and the busiest tenants, groups and models with their shares.

use super::brownout::{self, RowView};
use super::{Number, seconds};
use obleth_actors::admin::fields::FactorField;
use obleth_actors::fairshare::Levels;
use obleth_actors::shapes::{self, Id};
use obleth_core::fair_queue::{GroupRow, ModelRow, Picture, TenantRow, Weights, tokens_a_weight};
use obleth_core::ids::{GroupId, TenantId};
use obleth_core::registry::Registry;
use obleth_core::units::{Decimal, Portion};
use schemars::JsonSchema;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hundredths of a token in a token.
const UNITS_A_TOKEN: i128 = 100;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Tenants, groups and models at most.
    pub limit: usize,
    /// This tenant alone.
    pub tenant: Option<TenantId>,
}

/// `GET /fairshare/live`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Live")]
pub(in crate::http::admin) struct LiveView {
    capacity: u32,
    in_flight: u32,
    queued: u32,
    /// How far back `actual_share` looks.
    window_seconds: Number<Decimal<3>>,
    jain_index: Number<Portion>,
    max_lag_tokens: u64,
    tenants_total: usize,
    groups_total: usize,
    models_total: usize,
    tenants: Vec<TenantView>,
    groups: Vec<GroupView>,
    models: Vec<ModelView>,
    brownout: Vec<RowView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveTenant")]
struct TenantView {
    #[schemars(with = "Id")]
    tenant_id: TenantId,
    /// Null when it was deleted.
    name: Option<Arc<str>>,
    group: Option<Arc<str>>,
    weight: u32,
    in_flight: u32,
    queued: u32,
    blocked: bool,
    oldest_wait_seconds: Option<Number<Decimal<3>>>,
    served_tokens: i128,
    #[schemars(with = "shapes::Decimal")]
    share_score: String,
    #[schemars(with = "shapes::Decimal")]
    virtual_time: String,
    lag_tokens: i128,
    entitled_share: Number<Portion>,
    actual_share: Number<Portion>,
    #[schemars(with = "BTreeMap<String, f64>")]
    effective_weight: BTreeMap<Arc<str>, Number<Decimal<2>>>,
    brownout: Option<brownout::TenantView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveGroup")]
struct GroupView {
    group: Option<Arc<str>>,
    weight: u32,
    in_flight: u32,
    queued: u32,
    #[schemars(with = "shapes::Decimal")]
    virtual_time: String,
    entitled_share: Number<Portion>,
    actual_share: Number<Portion>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LiveModel")]
struct ModelView {
    model: Option<Arc<str>>,
    in_flight: u32,
    queued: u32,
    cap: Option<u32>,
    admission_weight: FactorField,
    actual_share: Number<Portion>,
}

/// The view of a picture, with names from the registry.
pub(super) fn view(picture: &Picture, levels: &Levels, records: &Registry, asked: Asked) -> LiveView {
    let weights = Weights::of(picture);
    let fairness = picture.fairness();
    let since = picture.window_start.unwrap_or_default();
    let tenants = busiest(picture, asked);
    let factors = picture.models.iter().map(|model| (model.id, model)).collect();
    LiveView {
        capacity: picture.slots,
        in_flight: picture.in_flight,
        queued: picture.queued,
        window_seconds: seconds(picture.taken.since(since)),
        jain_index: Number(fairness.jain),
        max_lag_tokens: fairness.max_lag_tokens,
        tenants_total: picture.known_tenants,
        groups_total: picture.groups.len(),
        models_total: picture.models.len(),
        tenants: tenants
            .map(|row| TenantView {
                brownout: brownout::of_tenant(levels, records.tenant(row.id)),
                ..tenant(row, picture, records, &weights, &factors)
            })
            .collect(),
        groups: groups(picture, records, &weights, asked.limit),
        models: models(picture, records, &weights, asked.limit),
        brownout: brownout::rows(levels, records, asked.limit),
    }
}

/// Those with most waiting first, then with most running, then with most served lately.
fn busiest(picture: &Picture, asked: Asked) -> impl Iterator<Item = &TenantRow> {
    let wanted = |row: &&TenantRow| asked.tenant.is_none_or(|only| row.id == only);
    let mut rows: Vec<&TenantRow> = picture.tenants.iter().filter(wanted).collect();
    let busy = |row: &&TenantRow| {
        (Reverse((row.queued, row.in_flight)), Reverse(picture.recent_cost_of(row)), row.id)
    };
    rows.sort_by_cached_key(busy);
    rows.into_iter().take(asked.limit)
}

type Factors<'a> = BTreeMap<obleth_core::ids::ModelId, &'a ModelRow>;

fn tenant(
    row: &TenantRow,
    picture: &Picture,
    records: &Registry,
    weights: &Weights,
    models: &Factors<'_>,
) -> TenantView {
    let effective = picture.lanes_of(row).iter().filter_map(|lane| {
        let factor = models.get(&lane.model)?.cost_factor;
        Some((Arc::clone(&records.model(lane.model)?.name), Number(factor.effective_weight(row.weight))))
    });
    TenantView {
        tenant_id: row.id,
        name: records.tenant(row.id).map(|tenant| Arc::clone(&tenant.name)),
        group: group_name(records, row.group),
        weight: row.weight.get(),
        in_flight: row.in_flight,
        queued: row.queued,
        blocked: row.blocked,
        oldest_wait_seconds: row.waiting_since.map(|since| seconds(picture.taken.since(since))),
        served_tokens: row.served_cost / UNITS_A_TOKEN,
        share_score: row.share_score().to_string(),
        virtual_time: tokens_a_weight(row.virtual_time).to_string(),
        lag_tokens: row.lag_tokens(),
        entitled_share: Number(weights.entitled(row)),
        actual_share: Number(weights.actual(picture.recent_cost_of(row))),
        effective_weight: effective.collect(),
        brownout: None,
    }
}

fn group_name(records: &Registry, id: GroupId) -> Option<Arc<str>> {
    records.group(id).map(|group| Arc::clone(&group.name))
}

fn groups(picture: &Picture, records: &Registry, weights: &Weights, limit: usize) -> Vec<GroupView> {
    let mut sums: BTreeMap<GroupId, (u32, u128)> = BTreeMap::new();
    for tenant in &picture.tenants {
        let (in_flight, recent) = sums.entry(tenant.group).or_default();
        *in_flight = in_flight.saturating_add(tenant.in_flight);
        *recent = recent.saturating_add(picture.recent_cost_of(tenant));
    }
    let sum_of = |row: &GroupRow| sums.get(&row.id).copied().unwrap_or_default();
    let mut rows: Vec<&GroupRow> = picture.groups.iter().collect();
    rows.sort_by_key(|row| (Reverse((row.queued, sum_of(row))), row.id));
    let view = |row: &GroupRow| GroupView {
        group: group_name(records, row.id),
        weight: row.weight.get(),
        in_flight: sum_of(row).0,
        queued: row.queued,
        virtual_time: tokens_a_weight(row.virtual_time).to_string(),
        entitled_share: Number(weights.entitled_group(row.id)),
        actual_share: Number(weights.actual(sum_of(row).1)),
    };
    rows.into_iter().take(limit).map(view).collect()
}

fn models(picture: &Picture, records: &Registry, weights: &Weights, limit: usize) -> Vec<ModelView> {
    let mut rows: Vec<&ModelRow> = picture.models.iter().collect();
    rows.sort_by_key(|row| (Reverse((row.queued, row.in_flight, row.recent_cost)), row.id));
    let view = |row: &ModelRow| ModelView {
        model: records.model(row.id).map(|model| Arc::clone(&model.name)),
        in_flight: row.in_flight,
        queued: row.queued,
        cap: row.cap,
        admission_weight: FactorField(row.cost_factor),
        actual_share: Number(weights.actual(row.recent_cost.into())),
    };
    rows.into_iter().take(limit).map(view).collect()
}
