//! How changes come into force: checked and prepared, stored with their audit rows in one transaction, published
//! to the data plane, told to the scheduler.
//!
//! Invariant: what can be refused is refused before the transaction; after it there is nothing that can fail but
//! a scheduler whose mailbox is full.

use super::origin::Origin;
use super::tokens::{self, AdminToken};
use super::{AdminError, Context, FieldError, capacity, groups, keys, mcp_servers, models, tenants};
use crate::clock::unix_micros;
use crate::fairshare;
use obleth_core::fair_queue::{GroupPlan, NO_CAP};
use obleth_core::ids::{GroupId, KeyId, McpServerId, ModelId, TenantId};
use obleth_core::registry::{Group, Key, KeyDigest, McpServer, Model, Registry, Tenant, TenantStatus};
use obleth_core::response_cache::Purge;
use obleth_schema::StoreError;
use obleth_schema::audit::AuditRow;
use obleth_schema::changes::{Change, Edit, Refused, apply, rehearse};
use std::sync::Arc;
use uuid::Uuid;

/// Changes that the scheduler takes under one lock.
pub(super) const AT_ONCE: usize = 256;

/// A change that was checked, and what the audit says of it.
#[derive(Debug)]
pub(super) struct Step {
    pub change: Change,
    /// `create`, `update`, `rotate` or `delete`.
    pub action: &'static str,
    pub kind: &'static str,
    pub id: String,
    pub name: String,
    /// The object before and after, as the API shows it: without secrets.
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Step {
    /// The row of the audit.
    pub(super) fn audit(&self, origin: &Origin, ts: i64) -> AuditRow {
        AuditRow {
            id: Uuid::now_v7().to_string(),
            ts,
            actor_id: origin.actor_id.to_string(),
            actor_name: origin.actor_name.to_string(),
            method: origin.method.to_string(),
            action: self.action.to_owned(),
            kind: self.kind.to_owned(),
            object_id: self.id.clone(),
            object_name: self.name.clone(),
            before_json: self.before.clone(),
            after_json: self.after.clone(),
            request_id: origin.request_id.to_string(),
            address: origin.address.map(|address| address.to_string()),
        }
    }
}

/// Why steps were not made, and at which of them.
pub(super) type Misstep = (Option<usize>, AdminError);

/// What a change does to the snapshots of this process.
#[derive(Debug)]
pub(super) enum Effect {
    Model(Box<Model>),
    NoModel(ModelId),
    Group(Group),
    NoGroup(GroupId),
    Tenant(Box<Tenant>),
    NoTenant(TenantId),
    Key(Box<Key>),
    NoKey(KeyId),
    McpServer(Box<McpServer>),
    NoMcpServer(McpServerId),
    Slots(u32),
    Token(KeyDigest, AdminToken),
    NoToken(String),
    Nothing,
}

/// What the response cache need not keep any longer.
#[derive(Debug)]
enum Forget {
    Model(ModelId),
    Answers(Purge),
}

/// What nobody finds in the cache after this effect. It frees memory; that it is not found is the work of the keys.
fn forgets(registry: &Registry, effect: &Effect) -> Option<Forget> {
    match effect {
        Effect::Model(model) => {
            let old = registry.model(model.id)?;
            // The mark is part of each key of the cache.
            let stale = old.upstream_mark != model.upstream_mark || model.cache_ttl.is_none();
            stale.then_some(Forget::Answers(Purge { tenant: None, model: Some(model.id) }))
        }
        Effect::NoModel(id) => Some(Forget::Model(*id)),
        Effect::NoTenant(id) => Some(Forget::Answers(Purge { tenant: Some(*id), model: None })),
        _ => None,
    }
}

/// The key whose queued requests are refused from here on. Those of a tenant go with [`fairshare::Change::Suspend`].
fn dismisses(registry: &Registry, effect: &Effect) -> Option<fairshare::Change> {
    match effect {
        Effect::Key(key) if !key.works_at(unix_micros()) => {
            Some(fairshare::Change::DismissKey(key.tenant, key.id))
        }
        Effect::NoKey(id) => registry.key(*id).map(|key| fairshare::Change::DismissKey(key.tenant, key.id)),
        _ => None,
    }
}

fn id<T>(text: &str, make: impl FnOnce(Uuid) -> T) -> Result<T, AdminError> {
    text.parse().map(make).map_err(|_| AdminError::Internal)
}

pub(super) fn effect(context: &Context, change: &Change) -> Result<Effect, AdminError> {
    use Edit::{Delete, Insert, Update};
    Ok(match change {
        Change::Model(Insert(row) | Update(row, _)) => {
            Effect::Model(Box::new(models::snapshot(&context.sealer, row)?))
        }
        Change::Model(Delete(gone)) => Effect::NoModel(id(gone, ModelId)?),
        Change::Group(Insert(row) | Update(row, _)) => Effect::Group(groups::snapshot(row)?),
        Change::Group(Delete(gone)) => Effect::NoGroup(id(gone, GroupId)?),
        Change::Tenant(Insert(row) | Update(row, _)) => {
            Effect::Tenant(Box::new(tenants::snapshot(&context.plans, row)?))
        }
        Change::Tenant(Delete(gone)) => Effect::NoTenant(id(gone, TenantId)?),
        Change::Key(Insert(row) | Update(row, _)) => Effect::Key(Box::new(keys::snapshot(row)?)),
        Change::Key(Delete(gone)) => Effect::NoKey(id(gone, KeyId)?),
        Change::McpServer(Insert(row) | Update(row, _)) => {
            Effect::McpServer(Box::new(mcp_servers::snapshot(&context.sealer, row)?))
        }
        Change::McpServer(Delete(gone)) => Effect::NoMcpServer(id(gone, McpServerId)?),
        Change::Capacity(row, _) => Effect::Slots(capacity::slots(row).unwrap_or(context.slots)),
        Change::AddAdminToken(row) => {
            let (digest, token) = tokens::entry(row)?;
            Effect::Token(digest, token)
        }
        Change::DeleteAdminToken(gone) => Effect::NoToken(gone.clone()),
        Change::Purge { .. } | Change::Told => Effect::Nothing,
    })
}

impl Context {
    /// Stores one step and puts it into force.
    pub(super) async fn commit(&self, origin: &Origin, step: Step) -> Result<(), AdminError> {
        self.commit_all(origin, vec![step]).await.map_err(|(_, error)| error)
    }

    /// Stores all steps, or none, and puts them into force. An error names the step, if it was one.
    pub(super) async fn commit_all(&self, origin: &Origin, steps: Vec<Step>) -> Result<(), Misstep> {
        let effects = self.effects(&steps)?;
        let now = unix_micros();
        let audit = steps.iter().map(|step| step.audit(origin, now)).collect();
        let changes: Arc<[Change]> = steps.into_iter().map(|step| step.change).collect();
        let noted =
            apply(&self.store, &changes, audit).await.map_err(|refused| explain(&changes, refused))?;
        self.put_in_force(effects).await.map_err(|error| (None, error))?;
        if let Some(noted) = noted {
            self.followed.pass(noted);
        }
        Ok(())
    }

    /// Says whether [`Self::commit_all`] would do, and does nothing: the transaction is made and taken back.
    pub(super) async fn rehearse(&self, steps: Vec<Step>) -> Result<(), Misstep> {
        self.effects(&steps)?;
        let changes: Arc<[Change]> = steps.into_iter().map(|step| step.change).collect();
        rehearse(&self.store, &changes).await.map_err(|refused| explain(&changes, refused))
    }

    fn effects(&self, steps: &[Step]) -> Result<Vec<Effect>, Misstep> {
        let prepare =
            |(at, step): (usize, &Step)| effect(self, &step.change).map_err(|error| (Some(at), error));
        steps.iter().enumerate().map(prepare).collect()
    }

    pub(super) async fn put_in_force(&self, effects: Vec<Effect>) -> Result<(), AdminError> {
        let mut told = Vec::new();
        let mut forgotten = Vec::new();
        self.publish(|registry| {
            forgotten = effects.iter().filter_map(|effect| forgets(registry, effect)).collect();
            let dismissed: Vec<_> = effects.iter().filter_map(|effect| dismisses(registry, effect)).collect();
            told = effects.into_iter().filter_map(|effect| self.enact(registry, effect)).collect();
            told.extend(dismissed);
        });
        for forget in forgotten {
            match forget {
                Forget::Model(id) => self.cache.forget_model(id),
                Forget::Answers(purge) => self.cache.purge_soon(purge),
            }
        }
        for changes in told.chunks(AT_ONCE) {
            self.reconfigure(changes.to_vec()).await?;
        }
        Ok(())
    }

    /// One effect on the snapshot; what the scheduler must hear of it.
    fn enact(&self, registry: &mut Registry, effect: Effect) -> Option<fairshare::Change> {
        match effect {
            Effect::Model(model) => {
                let plan = self.plans.model(&model);
                registry.put_model(*model);
                Some(fairshare::Change::Model(plan))
            }
            Effect::NoModel(id) => {
                registry.remove_model(id);
                Some(fairshare::Change::RemoveModel(id))
            }
            Effect::Group(group) => {
                let plan = GroupPlan { id: group.id, weight: group.weight };
                registry.put_group(group);
                Some(fairshare::Change::Group(plan))
            }
            Effect::NoGroup(id) => {
                registry.remove_group(id);
                None
            }
            Effect::Tenant(tenant) => {
                let change = match (tenant.status, self.plans.tenant(registry, &tenant)) {
                    (TenantStatus::Active, Some(plan)) => fairshare::Change::Tenant(plan),
                    _ => fairshare::Change::Suspend(tenant.id),
                };
                registry.put_tenant(*tenant);
                Some(change)
            }
            Effect::NoTenant(id) => {
                registry.remove_tenant(id);
                Some(fairshare::Change::Suspend(id))
            }
            Effect::Key(key) => {
                let cap = key.max_in_flight.unwrap_or(NO_CAP);
                let change = fairshare::Change::Key(key.tenant, key.id, cap);
                registry.put_key(*key);
                Some(change)
            }
            Effect::NoKey(id) => {
                registry.remove_key(id);
                None
            }
            Effect::McpServer(server) => {
                registry.put_mcp_server(*server);
                None
            }
            Effect::NoMcpServer(id) => {
                registry.remove_mcp_server(id);
                None
            }
            Effect::Slots(slots) => Some(fairshare::Change::Slots(slots)),
            Effect::Token(digest, token) => {
                self.change_tokens(|tokens| _ = tokens.insert(digest, Arc::new(token)));
                None
            }
            Effect::NoToken(id) => {
                self.change_tokens(|tokens| tokens.retain(|_, token| *token.id != *id));
                None
            }
            Effect::Nothing => None,
        }
    }
}

/// What the database refused, in words of the API.
fn explain(changes: &[Change], refused: Refused) -> Misstep {
    let change = refused.at.and_then(|at| changes.get(at));
    let error = match (refused.error, change) {
        (StoreError::Duplicate { field }, _) => duplicate(field),
        (StoreError::Referenced, Some(Change::Group(Edit::Delete(_)))) => {
            AdminError::Conflict("name", "the group still has tenants")
        }
        (StoreError::Referenced, Some(Change::Tenant(_))) => {
            FieldError::new("group", "no group has this name").into()
        }
        (StoreError::Referenced, Some(Change::Key(Edit::Insert(_)))) => AdminError::NotFound("tenant"),
        (StoreError::Referenced, Some(Change::Key(_))) => {
            FieldError::new("tenant_id", "no tenant has this id").into()
        }
        (error, _) => error.into(),
    };
    (refused.at, error)
}

fn duplicate(field: &'static str) -> AdminError {
    let (param, text) = match field {
        "models.model_name" | "model_names.name" => ("model_name", "a model has this name or alias already"),
        "tenants.name" => ("name", "a tenant has this name already"),
        "tenant_groups.name" => ("name", "a group has this name already"),
        "mcp_servers.name" => ("name", "an MCP server has this name already"),
        "admin_tokens.name" => ("name", "an admin token has this name already"),
        "keys.key_hash" | "keys.previous_hash" => ("key_hash", "a key has this hash already"),
        _ => ("id", "this exists already"),
    };
    AdminError::Conflict(param, text)
}
