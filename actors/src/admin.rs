//! AdminActor: the registry.
//!
//! Is: the only writer. Each write is validated, stored, published to the data plane's snapshot and the
//! scheduler, in this order and one write at a time, before it is answered. Is not: on the data plane's path;
//! reads of the management API go to the database directly. Invariant: what the snapshot holds is stored.

use crate::accounting::StoreHealth;
use crate::cache::Cache;
use crate::fairshare::{Change, Fairshare};
use crate::plans::Plans;
use crate::supervise::{Crash, Supervised, Undelivered};
use actix::Arbiter;
use arc_swap::ArcSwap;
use chrono::{DateTime, SecondsFormat};
use fields::FieldError;
use obleth_core::net::Outbound;
use obleth_core::registry::{Pepper, Registry};
use obleth_schema::{Store, StoreError};
use seal::Sealer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokens::Tokens;

mod actor;
mod answers;
mod audit;
pub mod brownout;
mod capacity;
mod commit;
mod config;
mod document;
pub mod fields;
mod follow;
mod groups;
mod keys;
mod limits;
mod load;
mod mcp_servers;
mod models;
mod origin;
mod outbound;
mod read;
mod rotate;
pub mod seal;
mod tenants;
mod tokens;
mod uses;

use actor::{AdminActor, Order};
pub use actor::{Write, Written};
pub use audit::AuditView;
pub use capacity::{CapacitySpec, CapacityView};
pub use config::{Export, Import, Plan, Sections, Trust, check as check_document};
pub use follow::FollowCounts;
use follow::Followed;
pub use groups::{GroupSpec, GroupView};
pub use keys::{KeySpec, KeyView, KeyWithSecret, Rotate};
pub use mcp_servers::{McpServerSpec, McpServerView};
pub use models::{ModelSpec, ModelView};
pub use origin::Origin;
pub use outbound::check_literal;
pub(crate) use read::PAGE_MAX;
pub use read::{Page, PageError, Window};
pub use rotate::{Rotation, rotate};
pub use tenants::{TenantSpec, TenantView};
pub use tokens::{AdminToken, KIND as TOKEN, Role, TokenSpec, TokenView, TokenWithSecret};
pub use uses::minute_of;

/// The actor's name in logs and metrics.
pub const NAME: &str = "admin";

/// Writes that may wait.
const MAILBOX: usize = 256;

/// Why a management call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A field is wrong, missing or unknown.
    #[error("{}", field_text(.0))]
    Invalid(FieldError),
    /// There is no such thing.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The field clashes with what exists.
    #[error("{1}")]
    Conflict(&'static str, &'static str),
    /// The same for one of many, which is at this place.
    #[error("{0}: {1}")]
    ConflictAt(String, &'static str),
    /// The version is not the current one.
    #[error("the version is stale: somebody changed this meanwhile")]
    Stale,
    /// The database is away.
    #[error("the database is not available")]
    StoreAway,
    /// A stored secret cannot be opened.
    #[error("{0}")]
    Sealed(String),
    /// A contained fault.
    #[error("the registry is being restarted")]
    Restarting,
    /// Too many writes wait.
    #[error("too many writes are waiting")]
    Overloaded,
    /// Something that should not happen; the log says what.
    #[error("an internal error")]
    Internal,
}

fn field_text(error: &FieldError) -> String {
    if error.field.is_empty() { error.message.clone() } else { format!("{}: {}", error.field, error.message) }
}

impl From<FieldError> for AdminError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale => Self::Stale,
            StoreError::Unavailable { .. } => Self::StoreAway,
            other => {
                tracing::error!(error = %other, "a registry query failed");
                Self::Internal
            }
        }
    }
}

/// What the registry's verbs work with.
#[derive(Debug)]
pub struct Context {
    store: Store,
    registry: Arc<ArcSwap<Registry>>,
    /// Who may call the management API.
    tokens: ArcSwap<Tokens>,
    /// The latest minute whose uses of keys are written.
    uses_written: AtomicU32,
    fairshare: Fairshare,
    cache: Cache,
    /// The configured capacity.
    slots: u32,
    plans: Plans,
    sealer: Sealer,
    pepper: Option<Pepper>,
    health: StoreHealth,
    /// Where upstreams may be.
    outbound: Arc<Outbound>,
    /// How far the changes of other replicas are known here.
    followed: Followed,
}

/// What [`Admin::start`] needs.
#[derive(Debug)]
pub struct Setup {
    pub store: Store,
    pub fairshare: Fairshare,
    pub cache: Cache,
    /// The configured capacity, which a stored one stands above.
    pub slots: u32,
    pub plans: Plans,
    pub sealer: Sealer,
    pub pepper: Option<Pepper>,
    pub health: StoreHealth,
    pub outbound: Arc<Outbound>,
}

impl Context {
    /// Publishes a changed snapshot. Only the actor calls this, so no change is lost between load and store.
    fn publish(&self, change: impl FnOnce(&mut Registry)) {
        let mut registry = Registry::clone(&self.registry.load());
        change(&mut registry);
        self.put(registry);
    }

    /// The snapshot from here on, for the data plane and for the scheduler.
    fn put(&self, registry: Registry) {
        let registry = Arc::new(registry);
        self.registry.store(Arc::clone(&registry));
        self.fairshare.follow(registry);
    }

    async fn reconfigure(&self, changes: Vec<Change>) -> Result<(), AdminError> {
        self.fairshare.reconfigure(changes).await.map_err(|_| AdminError::Overloaded)
    }
}

/// How handlers reach the registry.
#[derive(Clone, Debug)]
pub struct Admin {
    context: Arc<Context>,
    actor: Arc<Supervised<AdminActor>>,
}

impl Admin {
    /// Starts the actor on `arbiter`. The snapshot is empty until [`Self::load`].
    pub fn start(arbiter: &Arbiter, setup: Setup) -> Self {
        let context = Arc::new(Context {
            store: setup.store,
            registry: Arc::new(ArcSwap::from_pointee(Registry::default())),
            tokens: ArcSwap::default(),
            uses_written: AtomicU32::new(0),
            fairshare: setup.fairshare,
            cache: setup.cache,
            slots: setup.slots,
            plans: setup.plans,
            sealer: setup.sealer,
            pepper: setup.pepper,
            health: setup.health,
            outbound: setup.outbound,
            followed: Followed::default(),
        });
        let actor = Arc::new(Supervised::new(NAME));
        let owned = Arc::clone(&context);
        actor.run(arbiter, MAILBOX, move |line| AdminActor::new(Arc::clone(&owned), line));
        Self { context, actor }
    }

    /// The snapshot the data plane reads.
    pub fn registry(&self) -> Arc<ArcSwap<Registry>> {
        Arc::clone(&self.context.registry)
    }

    /// Reads the whole registry from the database and publishes it.
    pub async fn load(&self) -> Result<(), AdminError> {
        self.context.load().await
    }

    /// Does one write of `origin`. It is on disk, with its audit row, and in force when this returns.
    pub async fn write(&self, origin: Origin, write: Write) -> Result<Written, AdminError> {
        match self.actor.send(Order { origin, write }).await {
            Ok(written) => {
                self.context.health.note(!matches!(written, Err(AdminError::StoreAway)));
                written
            }
            Err(Undelivered::Restarting) => Err(AdminError::Restarting),
            Err(Undelivered::Full) => Err(AdminError::Overloaded),
        }
    }

    /// Restarts since the start.
    pub fn restarts(&self) -> u64 {
        self.actor.restarts()
    }

    /// Kills the actor. For tests.
    #[doc(hidden)]
    pub fn crash(&self) -> Result<(), Undelivered> {
        self.actor.try_send(Crash)
    }
}

fn check_version(given: Option<i64>, current: i64) -> Result<(), AdminError> {
    match given {
        Some(version) if version != current => Err(AdminError::Stale),
        _ => Ok(()),
    }
}

/// Unix microseconds as RFC 3339.
fn rfc3339(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn to_json<T: Serialize>(value: &T) -> Result<String, AdminError> {
    serde_json::to_string(value).map_err(|_| AdminError::Internal)
}

fn to_json_opt<T: Serialize>(value: Option<&T>) -> Result<Option<String>, AdminError> {
    value.map(to_json).transpose()
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, AdminError> {
    serde_json::from_str(text).map_err(|_| AdminError::Internal)
}

fn from_json_opt<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, AdminError> {
    text.map(from_json).transpose()
}

/// An upstream's base URL as it is joined with a route: without a trailing slash and without `/v1`.
/// Names are not resolved here: the upstream may come up later.
pub fn upstream_base(text: &str) -> Result<String, &'static str> {
    if !has_letters_of_a_url(text) {
        return Err("must be a URL in ASCII such as http://host:8000/v1");
    }
    let url = url::Url::parse(text).map_err(|_| "must be a URL such as http://host:8000/v1")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials; use api_key");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not carry a query or a fragment");
    }
    if url.host_str().is_none_or(str::is_empty) || text.len() > 2048 {
        return Err("must name a host and be at most 2048 characters long");
    }
    let base = url.as_str().trim_end_matches('/');
    Ok(base.strip_suffix("/v1").unwrap_or(base).trim_end_matches('/').to_owned())
}

/// Whether it has only what RFC 3986 allows; a host in other letters is written in punycode.
fn has_letters_of_a_url(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::upstream_base;

    #[test]
    fn a_base_with_and_without_v1_is_the_same_upstream() {
        for text in [
            "http://gw:8080/v1",
            "http://gw:8080",
            "http://gw:8080/",
            "http://gw:8080/v1/",
            "HTTP://GW:8080/v1",
        ] {
            assert_eq!(upstream_base(text).as_deref(), Ok("http://gw:8080"), "{text}");
        }
        assert_eq!(upstream_base("https://host/openai/v1").as_deref(), Ok("https://host/openai"));
        assert_eq!(upstream_base("https://host:443/v1").as_deref(), Ok("https://host"));
        for text in [
            "",
            "gw:8080",
            "ftp://gw",
            "http://",
            "http://u:p@gw",
            "http://gw/v1?x=1",
            "http://gw/#a",
            "http://ü.de",
            "http://gw/a b",
        ] {
            assert!(upstream_base(text).is_err(), "{text}");
        }
    }
}
