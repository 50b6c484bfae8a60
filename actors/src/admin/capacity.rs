//! Capacity: how many requests run at once, all models together. What is set here is stored and stands above
//! the configuration, until it is set to null.

use super::commit::Step;
use super::document::read;
use super::fields::check_range;
use super::origin::Origin;
use super::{Admin, AdminError, Context, rfc3339, to_json};
use crate::clock::unix_micros;
use crate::shapes::Time;
use obleth_schema::capacity::CapacityRow;
use obleth_schema::changes::Change;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The range of the configuration's `OBLETH_GLOBAL_MAX_IN_FLIGHT`.
const MOST: i64 = 1_000_000;

/// `PUT /capacity`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacitySpec {
    /// Must be there: null takes the configured value.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schemars(range(min = 1, max = 1_000_000), required, extend("type" = ["integer", "null"]))]
    max_in_flight: Option<i64>,
    #[serde(default)]
    version: Option<i64>,
}

/// The capacity as the management API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Capacity")]
pub struct CapacityView {
    version: i64,
    /// In force.
    max_in_flight: u32,
    /// `OBLETH_GLOBAL_MAX_IN_FLIGHT`.
    configured_max_in_flight: u32,
    /// `api` or `configuration`.
    source: &'static str,
    in_flight: u32,
    queued: u32,
    #[schemars(with = "Option<Time>")]
    updated_at: Option<String>,
}

/// What is stored, as the audit shows it.
#[derive(Serialize)]
struct CapacityDocument {
    version: i64,
    max_in_flight: Option<i64>,
}

impl CapacityDocument {
    const fn of(row: &CapacityRow) -> Self {
        Self { version: row.version, max_in_flight: row.max_in_flight }
    }
}

/// The slots that a row says, if it says any.
pub(super) fn slots(row: &CapacityRow) -> Option<u32> {
    row.max_in_flight.and_then(|slots| u32::try_from(slots).ok())
}

fn view(context: &Context, row: &CapacityRow) -> Result<CapacityView, AdminError> {
    let (in_force, in_flight, queued) = context.fairshare.load().ok_or(AdminError::Restarting)?;
    Ok(CapacityView {
        version: row.version,
        max_in_flight: in_force,
        configured_max_in_flight: context.slots,
        source: if row.max_in_flight.is_some() { "api" } else { "configuration" },
        in_flight,
        queued,
        updated_at: (row.updated_at > 0).then(|| rfc3339(row.updated_at)),
    })
}

/// `PUT /capacity`: in force from the next grant on; nothing that runs or waits is dropped.
pub(super) async fn put(context: &Context, origin: &Origin, body: &[u8]) -> Result<CapacityView, AdminError> {
    let spec: CapacitySpec = read(body)?;
    check_range("max_in_flight", spec.max_in_flight, 1..=MOST)?;
    let old = obleth_schema::capacity::load(&context.store).await?;
    super::check_version(spec.version, old.version)?;
    let row = CapacityRow {
        version: old.version + 1,
        max_in_flight: spec.max_in_flight,
        updated_at: unix_micros(),
    };
    let step = Step {
        action: "update",
        kind: "capacity",
        id: "global".to_owned(),
        name: "global".to_owned(),
        before: Some(to_json(&CapacityDocument::of(&old))?),
        after: Some(to_json(&CapacityDocument::of(&row))?),
        change: Change::Capacity(row.clone(), old.version),
    };
    context.commit(origin, step).await?;
    view(context, &row)
}

impl Admin {
    /// `GET /capacity`.
    pub async fn capacity(&self) -> Result<CapacityView, AdminError> {
        view(&self.context, &obleth_schema::capacity::load(&self.context.store).await?)
    }
}
