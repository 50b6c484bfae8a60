//! The registry as a whole: everything the database holds becomes the first snapshot, or a new one when it is not known
//! what has changed.

use super::commit::AT_ONCE;
use super::{AdminError, Context, capacity, groups, keys, mcp_servers, models, tenants};
use crate::clock::unix_micros;
use crate::fairshare::Change;
use obleth_core::fair_queue::{GroupPlan, NO_CAP};
use obleth_core::registry::{Group, Model, Registry, Tenant, TenantStatus};
use obleth_core::response_cache::Purge;
use std::sync::Arc;

/// Keys that are read at once.
const PAGE: u32 = 1000;

impl Context {
    /// Reads all records, publishes them and tells the scheduler the capacity, the models' caps, and what is not as it
    /// was.
    pub(super) async fn load(&self) -> Result<(), AdminError> {
        // Before the records: what changes meanwhile is followed afterwards.
        let version = obleth_schema::feed::latest(&self.store).await?;
        let mut registry = Registry::default();
        for row in obleth_schema::groups::all(&self.store).await? {
            registry.put_group(groups::snapshot(&row)?);
        }
        let capacity = obleth_schema::capacity::load(&self.store).await?;
        let mut changes = vec![Change::Slots(capacity::slots(&capacity).unwrap_or(self.slots))];
        for row in obleth_schema::models::all(&self.store).await? {
            let model = models::snapshot(&self.sealer, &row)?;
            changes.push(Change::Model(self.plans.model(&model)));
            registry.put_model(model);
        }
        for row in obleth_schema::tenants::all(&self.store).await? {
            let tenant = tenants::snapshot(&self.plans, &row)?;
            registry.put_tenant(tenant);
        }
        self.load_keys(&mut registry).await?;
        self.load_tokens().await?;
        for row in obleth_schema::mcp_servers::all(&self.store).await? {
            registry.put_mcp_server(mcp_servers::snapshot(&self.sealer, &row)?);
        }
        let old = self.registry.load_full();
        changes.extend(self.differences(&old, &registry));
        self.put(registry);
        if old.tenants().next().is_some() {
            // Purges may be among what is not known.
            self.cache.purge_soon(Purge { tenant: None, model: None });
        }
        for changes in changes.chunks(AT_ONCE) {
            self.reconfigure(changes.to_vec()).await?;
        }
        self.followed.reach(version);
        Ok(())
    }

    /// What the scheduler must hear when `new` takes the place of `old`, but for what it learns from a request.
    fn differences(&self, old: &Registry, new: &Registry) -> Vec<Change> {
        let mut changes = Vec::new();
        let plan = |group: &Group| GroupPlan { id: group.id, weight: group.weight };
        let known = new.groups().filter(|group| old.group(group.id).is_some());
        changes.extend(known.map(|group| Change::Group(plan(group))));
        for tenant in new.tenants() {
            match (tenant.status, old.tenant(tenant.id)) {
                (TenantStatus::Suspended, _) => changes.push(Change::Suspend(tenant.id)),
                (TenantStatus::Active, Some(_)) => {
                    changes.extend(self.plans.tenant(new, tenant).map(Change::Tenant));
                }
                (TenantStatus::Active, None) => {}
            }
        }
        let gone = |tenant: &&Arc<Tenant>| new.tenant(tenant.id).is_none();
        changes.extend(old.tenants().filter(gone).map(|tenant| Change::Suspend(tenant.id)));
        let gone = |model: &&Arc<Model>| new.model(model.id).is_none();
        changes.extend(old.models().filter(gone).map(|model| Change::RemoveModel(model.id)));
        let now = unix_micros();
        for old in old.keys() {
            match new.key(old.id) {
                Some(key) if key.works_at(now) => {
                    if key.max_in_flight != old.max_in_flight {
                        let cap = key.max_in_flight.unwrap_or(NO_CAP);
                        changes.push(Change::Key(key.tenant, key.id, cap));
                    }
                }
                _ => changes.push(Change::DismissKey(old.tenant, old.id)),
            }
        }
        changes
    }

    /// Page by page: rows take several times what is kept of them, and what once was taken stays with the process.
    async fn load_keys(&self, registry: &mut Registry) -> Result<(), AdminError> {
        let mut last: Option<String> = None;
        loop {
            let page = obleth_schema::keys::list(&self.store, None, last.as_deref(), PAGE).await?;
            for row in &page {
                registry.put_key(keys::snapshot(row)?);
            }
            match page.into_iter().next_back() {
                Some(row) => last = Some(row.id),
                None => return Ok(()),
            }
        }
    }
}
