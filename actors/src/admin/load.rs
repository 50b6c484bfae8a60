//! The registry at start: everything the database holds becomes the first snapshot.

use super::{AdminError, Context, capacity, groups, keys, mcp_servers, models, tenants};
use crate::fairshare::Change;
use obleth_core::registry::{Registry, TenantStatus};

/// Keys that are read at once.
const PAGE: u32 = 1000;

impl Context {
    /// Reads all records, publishes them and tells the scheduler the capacity and the models' caps.
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
            if tenant.status == TenantStatus::Suspended {
                changes.push(Change::Suspend(tenant.id));
            }
            registry.put_tenant(tenant);
        }
        self.load_keys(&mut registry).await?;
        self.load_tokens().await?;
        for row in obleth_schema::mcp_servers::all(&self.store).await? {
            registry.put_mcp_server(mcp_servers::snapshot(&self.sealer, &row)?);
        }
        self.put(registry);
        self.reconfigure(changes).await?;
        self.followed.reach(version);
        Ok(())
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
