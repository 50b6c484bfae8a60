//! How the breaker of a model's upstream stands, as the management API shows it.

use super::fairshare::rfc3339;
use crate::app::Gateway;
use obleth_actors::admin::{ModelView, Page};
use obleth_actors::clock::unix_micros;
use obleth_actors::shapes::{BreakerName, Time};
use obleth_core::breaker::{State, View};
use obleth_core::ids::ModelId;
use obleth_core::moment::Moment;
use schemars::JsonSchema;
use serde::Serialize;

/// A model with its health.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Model")]
pub(super) struct WithHealth {
    #[serde(flatten)]
    model: ModelView,
    health: HealthView,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct HealthView {
    #[schemars(with = "BreakerName")]
    state: &'static str,
    /// Null while it has always stood so.
    #[schemars(with = "Option<Time>")]
    since: Option<String>,
    /// In a row.
    failures: u32,
    /// When the next probe is due; null unless it is open.
    #[schemars(with = "Option<Time>")]
    retry_at: Option<String>,
}

/// The model as it is stored, with its health in this process.
pub(super) fn with_health(gateway: &Gateway, model: ModelView) -> WithHealth {
    let id = model.id().parse().map(ModelId).ok();
    let registry = gateway.registry.load();
    let view = id.and_then(|id| gateway.health.view(registry.model(id)?));
    WithHealth { health: shown(view, gateway.health.now()), model }
}

/// The same for a page.
pub(super) fn page_with_health(gateway: &Gateway, page: Page<ModelView>) -> Page<WithHealth> {
    let data = page.data.into_iter().map(|model| with_health(gateway, model)).collect();
    Page { data, next_cursor: page.next_cursor }
}

/// A breaker; `None`: nothing was asked of its upstream yet.
pub(super) fn shown(view: Option<View>, now: Moment) -> HealthView {
    let unix = |at: Moment| {
        let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        rfc3339(unix_micros().saturating_sub(micros(now.since(at))).saturating_add(micros(at.since(now))))
    };
    HealthView {
        state: view.map_or(State::Closed, |view| view.state).name(),
        since: view.and_then(|view| view.since).map(unix),
        failures: view.map_or(0, |view| view.failures),
        retry_at: view.and_then(|view| view.retry_at).map(unix),
    }
}
