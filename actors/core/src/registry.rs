//! The registry as the data plane sees it: an immutable snapshot of models, tenants, keys, groups and
//! MCP servers.
//!
//! Persistent maps: a clone is a pointer copy and one write copies a path of a few nodes, so one change among
//! 100 000 keys does not copy them all. Those of keys are B+ trees, which take half the memory of hash array mapped
//! tries, whose nodes at the edge are sparse. Readers hold a snapshot and take no lock. The AdminActor is the only
//! writer.

use crate::brownout::Policy;
use crate::ids::{GroupId, KeyId, McpServerId, ModelId, TenantId};
use crate::mcp::{Rights, ToolGlobs};
use crate::response_cache::Mark;
use crate::token_budget::Limits;
use crate::units::{CostFactor, Price, Share};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

mod last_use;
mod secret;

pub use last_use::LastUse;
pub use secret::{KeyDigest, Pepper};

/// A model a tenant may name, and the upstream that serves it.
#[derive(Clone, Debug)]
pub struct Model {
    pub id: ModelId,
    /// The name clients use.
    pub name: Arc<str>,
    /// The name the upstream uses.
    pub upstream_model: Arc<str>,
    /// Base URL without a trailing slash and without `/v1`; `None` = the default upstream.
    pub api_base: Option<Arc<str>>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<SecretString>,
    pub price: Prices,
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub admission_weight: CostFactor,
    pub max_in_flight: Option<u32>,
    pub enabled: bool,
    /// Other names that reach this model.
    pub aliases: Vec<Arc<str>>,
    /// Names of the models that serve in its place while its upstream fails, in this order.
    pub fallbacks: Vec<Arc<str>>,
    /// To response headers, in seconds; `None` = the gateway's default.
    pub request_timeout_secs: Option<u32>,
    /// Headers the operator adds upstream.
    pub upstream_headers: Vec<(Arc<str>, SecretString)>,
    /// Unix time in seconds, as `GET /v1/models` reports it.
    pub created_unix: i64,
    /// How long answers are kept; `None` = not at all.
    pub cache_ttl: Option<Duration>,
    /// Changes with the upstream.
    pub upstream_mark: Mark,
}

/// Prices of one token. `None` = not priced, which costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    pub input: Option<Price>,
    /// Input tokens the upstream had cached; falls back to `input`.
    pub cached_input: Option<Price>,
    pub output: Option<Price>,
}

/// Whether a tenant may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantStatus {
    Active,
    Suspended,
}

/// A tenant, as far as the data plane needs it.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub id: TenantId,
    pub name: Arc<str>,
    pub weight: Share,
    pub group: GroupId,
    pub status: TenantStatus,
    pub max_in_flight: Option<u32>,
    pub max_queued: Option<u32>,
    /// `None` = all models.
    pub allowed_models: Option<BTreeSet<Arc<str>>>,
    /// `None` = all tools.
    pub allowed_tools: Option<ToolGlobs>,
    /// What may happen to its requests under pressure; `None` = nothing.
    pub brownout: Option<Policy>,
    /// Limits a minute and budgets.
    pub limits: Limits,
}

/// An API key, as far as the data plane needs it.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: KeyId,
    pub tenant: TenantId,
    pub digest: KeyDigest,
    /// The secret before the last rotation, and until when it works (Unix microseconds).
    pub previous: Option<Box<(KeyDigest, i64)>>,
    pub disabled: bool,
    /// Unix microseconds.
    pub expires_at: Option<i64>,
    /// `None` = what the tenant allows.
    pub allowed_models: Option<BTreeSet<Arc<str>>>,
    /// `None` = what the tenant allows.
    pub allowed_tools: Option<ToolGlobs>,
    pub max_in_flight: Option<u32>,
    /// Limits a minute and budgets of its own, besides those of the tenant.
    pub limits: Limits,
    /// Noted by those who recognise the key.
    pub used: LastUse,
}

impl Key {
    /// Whether it is let in at this time: neither disabled nor expired.
    pub fn works_at(&self, now_unix_micros: i64) -> bool {
        !self.disabled && self.expires_at.is_none_or(|at| now_unix_micros < at)
    }
}

/// An MCP server that tenants may call.
#[derive(Clone, Debug)]
pub struct McpServer {
    pub id: McpServerId,
    /// Of its record: what was learnt of it under another version says nothing.
    pub version: i64,
    /// Stands in paths, globs and merged names.
    pub name: Arc<str>,
    /// The whole address of its endpoint.
    pub url: Arc<str>,
    /// Sent as `Authorization`.
    pub auth_header: Option<SecretString>,
    pub enabled: bool,
    /// Longest silence, in seconds; `None` = the gateway's default.
    pub timeout_secs: Option<u32>,
    /// Of all callers together; `None` = unlimited.
    pub requests_per_minute: Option<u64>,
}

/// A group of tenants.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: GroupId,
    pub name: Arc<str>,
    pub weight: Share,
}

/// A snapshot. Cloning it is cheap; a clone never changes under its reader.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    models: imbl::HashMap<ModelId, Arc<Model>>,
    model_names: imbl::HashMap<Arc<str>, ModelId>,
    tenants: imbl::HashMap<TenantId, Arc<Tenant>>,
    /// Brownout policies, each with the number of tenants that have it.
    policies: imbl::HashMap<Policy, usize>,
    keys: imbl::OrdMap<KeyId, Arc<Key>>,
    /// By each digest that may stand for them.
    digests: imbl::OrdMap<KeyDigest, Arc<Key>>,
    groups: imbl::HashMap<GroupId, Arc<Group>>,
    /// By name.
    mcp_servers: imbl::OrdMap<Arc<str>, Arc<McpServer>>,
}

impl Registry {
    /// The model that `name` (a model name or an alias) means.
    pub fn model_named(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(self.model_names.get(name)?)
    }

    /// All models, in no order.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.values()
    }

    /// All groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// A model by id.
    pub fn model(&self, id: ModelId) -> Option<&Arc<Model>> {
        self.models.get(&id)
    }

    /// A key by id.
    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.get(&id)
    }

    /// A tenant by id.
    pub fn tenant(&self, id: TenantId) -> Option<&Arc<Tenant>> {
        self.tenants.get(&id)
    }

    /// All tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The brownout policies that tenants have, each once.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.keys()
    }

    /// A group by id.
    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&id)
    }

    /// The key whose current secret, or whose rotated secret still within its overlap, has this digest.
    pub fn key_of(&self, digest: &KeyDigest, now_unix_micros: i64) -> Option<&Arc<Key>> {
        let key = self.digests.get(digest)?;
        match key.previous.as_deref() {
            Some((previous, until)) if previous == digest => (now_unix_micros < *until).then_some(key),
            _ => Some(key),
        }
    }

    /// Adds a model or replaces the one of this id.
    pub fn put_model(&mut self, model: Model) {
        self.remove_model(model.id);
        for name in model.aliases.iter().chain([&model.name]) {
            self.model_names.insert(Arc::clone(name), model.id);
        }
        self.models.insert(model.id, Arc::new(model));
    }

    /// Forgets a model.
    pub fn remove_model(&mut self, id: ModelId) {
        if let Some(old) = self.models.remove(&id) {
            for name in old.aliases.iter().chain([&old.name]) {
                // Another model may have the name by now.
                if self.model_names.get(name) == Some(&id) {
                    self.model_names.remove(name);
                }
            }
        }
    }

    /// Adds a tenant or replaces the one of this id.
    pub fn put_tenant(&mut self, tenant: Tenant) {
        if let Some(policy) = tenant.brownout {
            *self.policies.entry(policy).or_insert(0) += 1;
        }
        let old = self.tenants.insert(tenant.id, Arc::new(tenant));
        self.let_policy_go(old.as_deref());
    }

    /// The tenant does not have its policy any more.
    fn let_policy_go(&mut self, tenant: Option<&Tenant>) {
        let Some(policy) = tenant.and_then(|tenant| tenant.brownout) else { return };
        match self.policies.get_mut(&policy) {
            Some(tenants) if *tenants > 1 => *tenants -= 1,
            _ => _ = self.policies.remove(&policy),
        }
    }

    /// Forgets a tenant and its keys.
    pub fn remove_tenant(&mut self, id: TenantId) {
        let old = self.tenants.remove(&id);
        self.let_policy_go(old.as_deref());
        let keys: Vec<KeyId> = self.keys.values().filter(|key| key.tenant == id).map(|key| key.id).collect();
        keys.into_iter().for_each(|key| self.remove_key(key));
    }

    /// All keys, by id.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }

    /// Adds a key or replaces the one of this id, whose last use it keeps.
    pub fn put_key(&mut self, key: Key) {
        if let Some(old) = self.keys.get(&key.id) {
            key.used.note(old.used.minute());
        }
        self.remove_key(key.id);
        let key = Arc::new(key);
        if let Some((previous, _)) = key.previous.as_deref() {
            self.digests.insert(*previous, Arc::clone(&key));
        }
        self.digests.insert(key.digest, Arc::clone(&key));
        self.keys.insert(key.id, key);
    }

    /// Forgets a key.
    pub fn remove_key(&mut self, id: KeyId) {
        if let Some(old) = self.keys.remove(&id) {
            self.forget_digest(&old.digest, id);
            if let Some((previous, _)) = old.previous.as_deref() {
                self.forget_digest(previous, id);
            }
        }
    }

    /// Another key may have the digest by now.
    fn forget_digest(&mut self, digest: &KeyDigest, of: KeyId) {
        if self.digests.get(digest).is_some_and(|key| key.id == of) {
            self.digests.remove(digest);
        }
    }

    /// Adds a group or replaces the one of this id.
    pub fn put_group(&mut self, group: Group) {
        self.groups.insert(group.id, Arc::new(group));
    }

    /// Forgets a group.
    pub fn remove_group(&mut self, id: GroupId) {
        self.groups.remove(&id);
    }

    /// The MCP server of this name.
    pub fn mcp_server(&self, name: &str) -> Option<&Arc<McpServer>> {
        self.mcp_servers.get(name)
    }

    /// All MCP servers, by name.
    pub fn mcp_servers(&self) -> impl Iterator<Item = &Arc<McpServer>> {
        self.mcp_servers.values()
    }

    /// Adds an MCP server or replaces the one of this id.
    pub fn put_mcp_server(&mut self, server: McpServer) {
        self.remove_mcp_server(server.id);
        self.mcp_servers.insert(Arc::clone(&server.name), Arc::new(server));
    }

    /// Forgets an MCP server.
    pub fn remove_mcp_server(&mut self, id: McpServerId) {
        let old = self.mcp_servers.values().find(|server| server.id == id).map(Arc::clone);
        if let Some(old) = old {
            self.mcp_servers.remove(&old.name);
        }
    }
}

/// Whether a caller with these two lists may use the model of this name.
pub fn may_use(tenant: &Tenant, key: &Key, model: &str) -> bool {
    let permits = |list: &Option<BTreeSet<Arc<str>>>| list.as_ref().is_none_or(|names| names.contains(model));
    permits(&tenant.allowed_models) && permits(&key.allowed_models)
}

/// Which tools a caller may call.
pub const fn rights<'a>(tenant: &'a Tenant, key: &'a Key) -> Rights<'a> {
    Rights { tenant: tenant.allowed_tools.as_ref(), key: key.allowed_tools.as_ref() }
}

#[cfg(test)]
mod tests;
