//! One replica's part of the live view, as it travels to the others, and how parts are added up.
//!
//! Is: the rows of a [`Picture`] that have anything waiting, running or charged lately. Is not: exact to the moment; each
//! part is as old as it is. Points of time travel as ages, because each process counts from its own start.

use super::picture::{GroupRow, LaneRow, ModelRow, Picture, TenantRow};
use crate::ids::{GroupId, ModelId, TenantId};
use crate::moment::Moment;
use crate::units::{CostFactor, Share};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

/// See the module head. Costs are in hundredths of a token, ages in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Portion {
    in_flight: u32,
    queued: u32,
    window: Option<u64>,
    tenants: Vec<TenantPortion>,
    groups: Vec<(GroupId, u32, u32)>,
    models: Vec<ModelPortion>,
    forecast_errors: (u64, u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct TenantPortion {
    id: TenantId,
    group: GroupId,
    weight: u32,
    in_flight: u32,
    queued: u32,
    /// As text, like all that has 128 bits.
    served: String,
    virtual_time: String,
    lag: String,
    blocked: bool,
    waits: Option<u64>,
    contends: Option<u64>,
    lanes: Vec<(ModelId, bool, u64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ModelPortion {
    id: ModelId,
    in_flight: u32,
    queued: u32,
    recent_cost: u64,
    was_full: bool,
    cap: Option<u32>,
    factor: u32,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Picture {
    /// The part of the fleet's view that this queue has, the `most` busiest tenants of it.
    pub fn portion(&self, most: usize) -> Portion {
        let age = |at: Moment| micros(self.taken.since(at));
        let busy = |row: &&TenantRow| row.queued > 0 || row.in_flight > 0 || self.recent_cost_of(row) > 0;
        let mut rows: Vec<&TenantRow> = self.tenants.iter().filter(busy).collect();
        rows.sort_by_cached_key(|row| {
            (Reverse((row.queued, row.in_flight)), Reverse(self.recent_cost_of(row)), row.id)
        });
        let tenant = |row: &TenantRow| TenantPortion {
            id: row.id,
            group: row.group,
            weight: row.weight.get(),
            in_flight: row.in_flight,
            queued: row.queued,
            served: row.served_cost.to_string(),
            virtual_time: row.virtual_time.to_string(),
            lag: row.lag.to_string(),
            blocked: row.blocked,
            waits: row.waiting_since.map(age),
            contends: row.contends_since.map(age),
            lanes: self
                .lanes_of(row)
                .iter()
                .map(|lane| (lane.model, lane.active, lane.recent_cost))
                .collect(),
        };
        Portion {
            in_flight: self.in_flight,
            queued: self.queued,
            window: self.window_start.map(age),
            tenants: rows.into_iter().take(most).map(tenant).collect(),
            groups: self.groups.iter().map(|row| (row.id, row.weight.get(), row.queued)).collect(),
            models: self
                .models
                .iter()
                .map(|row| ModelPortion {
                    id: row.id,
                    in_flight: row.in_flight,
                    queued: row.queued,
                    recent_cost: row.recent_cost,
                    was_full: row.was_full,
                    cap: row.cap,
                    factor: row.cost_factor.hundredths(),
                })
                .collect(),
            forecast_errors: self.forecast_errors,
        }
    }

    /// Adds what another replica has.
    pub fn add(&mut self, other: &Portion) {
        let taken = self.taken;
        let at = |age: u64| Moment::from_micros(taken.as_micros().saturating_sub(age));
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.queued = self.queued.saturating_add(other.queued);
        self.window_start = other.window.map(at).into_iter().chain(self.window_start).min();
        let (wrong, true_cost) = other.forecast_errors;
        self.forecast_errors.0 = self.forecast_errors.0.saturating_add(wrong);
        self.forecast_errors.1 = self.forecast_errors.1.saturating_add(true_cost);
        let places: HashMap<TenantId, usize> =
            self.tenants.iter().enumerate().map(|(place, row)| (row.id, place)).collect();
        for tenant in &other.tenants {
            self.add_tenant(places.get(&tenant.id).copied(), tenant, at);
        }
        for (id, weight, queued) in &other.groups {
            match self.groups.iter_mut().find(|row| row.id == *id) {
                Some(row) => row.queued = row.queued.saturating_add(*queued),
                None => self.groups.extend(Share::new(*weight).map(|weight| GroupRow {
                    id: *id,
                    weight,
                    queued: *queued,
                    virtual_time: 0,
                    weighed_since: taken,
                })),
            }
        }
        for model in &other.models {
            match self.models.iter_mut().find(|row| row.id == model.id) {
                Some(row) => {
                    row.in_flight = row.in_flight.saturating_add(model.in_flight);
                    row.queued = row.queued.saturating_add(model.queued);
                    row.recent_cost = row.recent_cost.saturating_add(model.recent_cost);
                    row.was_full |= model.was_full;
                }
                None => self.models.extend(CostFactor::from_hundredths(model.factor).map(|cost_factor| {
                    ModelRow {
                        id: model.id,
                        in_flight: model.in_flight,
                        queued: model.queued,
                        cap: model.cap,
                        cost_factor,
                        recent_cost: model.recent_cost,
                        was_full: model.was_full,
                    }
                })),
            }
        }
        self.known_tenants = self.known_tenants.max(self.tenants.len());
    }

    fn add_tenant(&mut self, place: Option<usize>, other: &TenantPortion, at: impl Fn(u64) -> Moment) {
        let own = place.and_then(|place| self.tenants.get(place)).copied();
        let mut lanes: Vec<LaneRow> = own.map(|row| self.lanes_of(&row).to_vec()).unwrap_or_default();
        for (model, active, recent_cost) in &other.lanes {
            match lanes.iter_mut().find(|lane| lane.model == *model) {
                Some(lane) => {
                    lane.active |= active;
                    lane.recent_cost = lane.recent_cost.saturating_add(*recent_cost);
                }
                None => lanes.push(LaneRow { model: *model, active: *active, recent_cost: *recent_cost }),
            }
        }
        let wide = |text: &str| text.parse::<i128>().unwrap_or_default();
        let (waits, contends) = (other.waits.map(&at), other.contends.map(&at));
        let row = match own {
            Some(own) => TenantRow {
                in_flight: own.in_flight.saturating_add(other.in_flight),
                queued: own.queued.saturating_add(other.queued),
                served_cost: own.served_cost.saturating_add(wide(&other.served)),
                blocked: own.blocked || other.blocked,
                waiting_since: waits.into_iter().chain(own.waiting_since).min(),
                contends_since: contends.into_iter().chain(own.contends_since).min(),
                ..own
            },
            None => {
                let Some(weight) = Share::new(other.weight) else { return };
                TenantRow::of_another(
                    (other.id, other.group, weight),
                    (other.in_flight, other.queued),
                    (wide(&other.served), wide(&other.virtual_time), wide(&other.lag)),
                    (other.blocked, waits, contends),
                )
            }
        };
        let row = self.with_lanes(row, lanes);
        match place.and_then(|place| self.tenants.get_mut(place)) {
            Some(own) => *own = row,
            None => self.tenants.push(row),
        }
    }
}
