//! Configuration as code: the registry as one document, written out and read in.
//!
//! Is: export, and import as a plan of steps that are committed together or not at all. Is not: the rules of a
//! single object, which are those of its own module. Invariant: an export that is imported into the database it
//! came from changes nothing.

use super::origin::Origin;
use super::{AdminError, Context, FieldError};
use obleth_schema as schema;
use obleth_schema::groups::GroupRow;
use obleth_schema::keys::KeyRow;
use obleth_schema::mcp_servers::McpServerRow;
use obleth_schema::models::ModelRow;
use obleth_schema::tenants::TenantRow;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;

mod document;
mod export;
mod plan;
mod secrets;
mod shape;

pub(super) use document::KeyItem;
use document::Wanted;
pub use document::{Sections, check};
pub use export::Export;
use plan::Planner;
pub use secrets::Trust;

/// How a document is imported.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Delete what a section that is there does not name.
    pub prune: bool,
    /// Which variables of the environment the document may refer to.
    pub trust: Trust,
}

/// What an import does, or would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plan {
    dry_run: bool,
    creates: Vec<Planned>,
    updates: Vec<Planned>,
    deletes: Vec<Planned>,
    /// Objects that are as the document says already.
    unchanged: usize,
    /// What the document says and could not be done.
    warnings: Vec<String>,
}

impl Plan {
    /// Creates, updates and deletes.
    pub const fn counts(&self) -> (usize, usize, usize) {
        (self.creates.len(), self.updates.len(), self.deletes.len())
    }

    /// What the document says and could not be done.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// One change of a plan.
#[derive(Debug, Serialize, JsonSchema)]
struct Planned {
    kind: &'static str,
    name: String,
    /// Of an update: what differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
}

/// The registry as it is stored.
struct Stored {
    groups: Vec<GroupRow>,
    models: Vec<ModelRow>,
    tenants: Vec<TenantRow>,
    keys: Vec<KeyRow>,
    mcp_servers: Vec<McpServerRow>,
}

impl Stored {
    async fn read(context: &Context) -> Result<Self, AdminError> {
        Ok(Self {
            groups: schema::groups::all(&context.store).await?,
            models: schema::models::all(&context.store).await?,
            tenants: schema::tenants::all(&context.store).await?,
            keys: schema::keys::all(&context.store).await?,
            mcp_servers: schema::mcp_servers::all(&context.store).await?,
        })
    }

    /// Names of groups by id.
    fn group_names(&self) -> HashMap<&str, &str> {
        self.groups.iter().map(|row| (row.id.as_str(), row.name.as_str())).collect()
    }

    /// Names of tenants by id.
    fn tenant_names(&self) -> HashMap<&str, &str> {
        self.tenants.iter().map(|row| (row.id.as_str(), row.name.as_str())).collect()
    }
}

/// `GET /config/export`.
pub(super) async fn export(context: &Context) -> Result<Export, AdminError> {
    Export::of(&context.sealer, &Stored::read(context).await?)
}

/// `POST /config/import`: all of the document, or nothing.
pub(super) async fn import(
    context: &Context,
    origin: &Origin,
    body: &[u8],
    how: Import,
) -> Result<Plan, AdminError> {
    let wanted = Wanted::read(body, how.trust, &context.outbound)?;
    let stored = Stored::read(context).await?;
    let mut planner = Planner::new(context, origin, &stored, how.prune);
    planner.plan(&wanted)?;
    let (steps, places, mut plan) = planner.finish(how.dry_run);
    let done =
        if how.dry_run { context.rehearse(steps).await } else { context.commit_all(origin, steps).await };
    done.map_err(|(at, error)| placed(at.and_then(|at| places.get(at)), error))?;
    plan.warnings.sort();
    Ok(plan)
}

/// The error of a step, with the place of the document that asked for it.
fn placed(place: Option<&String>, error: AdminError) -> AdminError {
    match (place, error) {
        (Some(place), AdminError::Invalid(error)) => {
            FieldError::new(format_args!("{place}.{}", error.field), error.message).into()
        }
        (Some(place), AdminError::Conflict(_, message)) => AdminError::ConflictAt(place.clone(), message),
        (_, error) => error,
    }
}
