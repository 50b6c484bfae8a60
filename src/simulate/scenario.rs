//! `scenario.json`: the pool, and who takes part with which weights and caps.

use super::Fault;
use super::directory::Directory;
use super::numbers::{Rate, micros};
use obleth_core::moment::Moment;
use obleth_core::units::{CostFactor, Share};
use serde::Deserialize;
use serde_json::Number;
use std::num::NonZeroU32;
use std::time::Duration;

/// A scenario, checked.
#[derive(Debug)]
pub struct Scenario {
    pub(super) pool: Pool,
    pub(super) directory: Directory,
}

/// What serves the requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// D: requests that run at once.
    pub(super) slots: u32,
    pub(super) prefill: Rate,
    pub(super) decode: Rate,
    /// Nothing happens after this; `None` = the run ends with its last request.
    pub(super) end: Option<Moment>,
    /// How long a request may wait.
    pub(super) timeout: Option<Duration>,
    /// θ, when it is not the gateway's own.
    pub(super) theta_percent: Option<u32>,
}

#[derive(Deserialize)]
struct RawScenario {
    slots: NonZeroU32,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    duration_s: Option<f64>,
    admission_timeout_s: Option<f64>,
    theta_percent: Option<u32>,
    #[serde(default)]
    groups: Vec<RawGroup>,
    #[serde(default)]
    models: Vec<RawModel>,
    #[serde(default)]
    tenants: Vec<RawTenant>,
    #[serde(default)]
    default_tenant: Terms,
}

#[derive(Deserialize)]
struct RawGroup {
    name: String,
    weight: Option<Share>,
}

#[derive(Deserialize)]
struct RawModel {
    name: String,
    admission_weight: Option<Number>,
    max_in_flight: Option<NonZeroU32>,
}

#[derive(Deserialize)]
struct RawTenant {
    name: String,
    #[serde(flatten)]
    terms: Terms,
}

/// What a tenant is granted.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Terms {
    pub(super) weight: Option<Share>,
    pub(super) group: Option<String>,
    pub(super) max_in_flight: Option<NonZeroU32>,
    pub(super) max_queued: Option<u32>,
}

impl Scenario {
    /// Reads and checks the text of a scenario.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let raw: RawScenario = serde_json::from_str(text).map_err(|error| Fault::of_json(1, &error))?;
        // Past the grammar there are no lines to name; the field is named instead.
        check(&raw).map_err(|text| Fault { line: 1, text })
    }
}

fn check(raw: &RawScenario) -> Result<Scenario, String> {
    let rate = |name: &str, rate: f64| Rate::new(rate).ok_or(format!("{name} must be above 0"));
    let time = |name: &str, time: Option<f64>| match time.map(micros) {
        Some(None) => Err(format!("{name} must be a time of 0 to 1e9 seconds")),
        Some(time) => Ok(time),
        None => Ok(None),
    };
    if raw.theta_percent.is_some_and(|theta| theta > 100) {
        return Err("theta_percent must be 0 to 100".into());
    }
    let pool = Pool {
        slots: raw.slots.get(),
        prefill: rate("prefill_tokens_per_s", raw.prefill_tokens_per_s)?,
        decode: rate("decode_tokens_per_s", raw.decode_tokens_per_s)?,
        end: time("duration_s", raw.duration_s)?.map(Moment::from_micros),
        timeout: time("admission_timeout_s", raw.admission_timeout_s)?.map(Duration::from_micros),
        theta_percent: raw.theta_percent,
    };
    Ok(Scenario { pool, directory: directory(raw)? })
}

fn directory(raw: &RawScenario) -> Result<Directory, String> {
    let mut directory = Directory::default();
    for group in &raw.groups {
        directory.add_group(&group.name, group.weight.unwrap_or(Share::DEFAULT))?;
    }
    directory.set_default(&raw.default_tenant)?;
    for model in &raw.models {
        let factor = match &model.admission_weight {
            None => CostFactor::ONE,
            Some(number) => CostFactor::parse(&number.to_string())
                .map_err(|error| format!("admission_weight of model {:?} {error}", model.name))?,
        };
        directory.add_model(&model.name, factor, model.max_in_flight.map(NonZeroU32::get))?;
    }
    for tenant in &raw.tenants {
        directory.add_tenant(&tenant.name, &tenant.terms)?;
    }
    Ok(directory)
}
