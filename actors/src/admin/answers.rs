//! Forgetting kept answers: the cache does it, the audit tells of it.

use super::commit::Step;
use super::origin::Origin;
use super::{AdminError, Context, to_json};
use obleth_core::response_cache::Purge;
use obleth_schema::changes::Change;
use serde::Serialize;

/// What was forgotten; null is any.
#[derive(Serialize)]
struct Forgotten<'a> {
    tenant_id: Option<String>,
    model: Option<&'a str>,
}

/// `DELETE /cache`: the answers of a tenant, of a model, or all. A purge that the audit cannot tell of is not made.
pub(super) async fn purge(context: &Context, origin: &Origin, purge: Purge) -> Result<(), AdminError> {
    let registry = context.registry.load();
    let named = |id| registry.model(id).map(|model| &*model.name);
    let forgotten =
        Forgotten { tenant_id: purge.tenant.map(|id| id.0.to_string()), model: purge.model.and_then(named) };
    let step = Step {
        action: "delete",
        kind: "cache",
        id: "cache".to_owned(),
        name: "cache".to_owned(),
        before: Some(to_json(&forgotten)?),
        after: None,
        change: Change::Purge {
            tenant: purge.tenant.map(|id| id.to_string()),
            model: purge.model.map(|id| id.to_string()),
        },
    };
    context.commit(origin, step).await?;
    let entries = context.cache.purge(purge).await.map_err(|_| AdminError::Restarting)?;
    tracing::info!(entries, "kept answers were forgotten");
    Ok(())
}
