//! What is told of one request.

use super::{Number, rfc3339};
use crate::error::{Code, Fault};
use obleth_actors::fairshare::story::{End, Found, Told, Untold};
use obleth_actors::shapes::{Id, RequestId, Time};
use obleth_core::fair_queue::{Bound, Position};
use obleth_core::ids::TenantId;
use obleth_core::moment::Moment;
use obleth_core::registry::Registry;
use obleth_core::units::Portion;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;

/// `GET /fairshare/explain/{request_id}`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(in crate::http::admin) struct ExplainView {
    #[schemars(with = "RequestId")]
    request_id: Arc<str>,
    /// `waiting`, `running`, `finished`, `refused` or `left`.
    state: &'static str,
    #[schemars(with = "Id")]
    tenant_id: TenantId,
    tenant: Option<Arc<str>>,
    group: Option<Arc<str>>,
    model: Option<Arc<str>>,
    #[schemars(with = "Time")]
    arrived_at: String,
    waited_ms: u64,
    /// Where it stood when it came to the queue; null when it was seated at once.
    at_arrival: Option<PositionView>,
    /// Where it stands; null when it does not wait.
    now: Option<PositionView>,
    forecast: Option<ForecastView>,
    actual: Option<ActualView>,
    end: Option<EndView>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Position")]
struct PositionView {
    ahead_of_tenant: u32,
    others_waiting: u32,
    /// `slots`, `model_cap`, `tenant_cap`, `key_cap` or `none`.
    bound_by: &'static str,
    entitled_share: Number<Portion>,
    actual_share: Number<Portion>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Forecast")]
struct ForecastView {
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Actual")]
struct ActualView {
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "End")]
struct EndView {
    status: u16,
    /// Of the gateway; null when there was none.
    error_code: Option<&'static str>,
}

/// A 404 that says how far back the telling goes.
pub(super) fn untold(untold: Untold) -> Fault {
    let reach = untold.since.map_or_else(
        || "every request since the start is told of".to_owned(),
        |since| format!("requests that ended since {} are told of", rfc3339(since)),
    );
    let text = format!(
        "the scheduler knows no request of this id ({reach}); older ones, and those that never came to the \
         scheduler, are in /usage/logs/{{request_id}}"
    );
    Fault::new(Code::NotFound, text)
}

/// The view of what was found.
pub(super) fn view(
    found: &Found,
    position: Option<Position>,
    now: Moment,
    records: &Registry,
) -> ExplainView {
    let (about, told) = (&found.story.about, &found.told);
    let tenant = records.tenant(about.tenant);
    let group = tenant.and_then(|tenant| records.group(tenant.group));
    let end = told.end.map(|(_, end)| end);
    ExplainView {
        request_id: Arc::clone(&about.request_id),
        state: state(told),
        tenant_id: about.tenant,
        tenant: tenant.map(|tenant| Arc::clone(&tenant.name)),
        group: group.map(|group| Arc::clone(&group.name)),
        model: records.model(about.model).map(|model| Arc::clone(&model.name)),
        arrived_at: rfc3339(about.unix_micros),
        waited_ms: u64::try_from(found.waited(now).as_millis()).unwrap_or(u64::MAX),
        at_arrival: told.position.map(position_view),
        now: position.map(position_view),
        forecast: told.seated.map(|seated| ForecastView {
            input_tokens: about.prompt_tokens,
            output_tokens: seated.forecast_tokens,
        }),
        actual: end
            .filter(|end| end.sent)
            .map(|end| ActualView { input_tokens: end.input_tokens, output_tokens: end.output_tokens }),
        end: end.map(|end| EndView { status: end.status, error_code: end.error_code }),
    }
}

fn state(told: &Told) -> &'static str {
    match (&told.end, &told.seated) {
        (Some((_, End { status: 499, .. })), _) => "left",
        (Some((_, End { sent: true, .. })), _) => "finished",
        (Some(_), _) => "refused",
        (None, Some(_)) => "running",
        (None, None) => "waiting",
    }
}

fn position_view(position: Position) -> PositionView {
    PositionView {
        ahead_of_tenant: position.ahead_of_tenant,
        others_waiting: position.others_waiting,
        bound_by: match position.bound {
            Bound::None => "none",
            Bound::Slots => "slots",
            Bound::ModelCap => "model_cap",
            Bound::TenantCap => "tenant_cap",
            Bound::KeyCap => "key_cap",
        },
        entitled_share: Number(position.entitled),
        actual_share: Number(position.actual),
    }
}
