//! The actor: one write after the other.

use super::config::{self, Export, Import, Plan};
use super::origin::Origin;
use super::{
    AdminError, Context, answers, capacity, groups, keys, mcp_servers, models, tenants, tokens, uses,
};
use super::{
    CapacityView, GroupView, KeyView, KeyWithSecret, McpServerView, ModelView, TenantView, TokenWithSecret,
};
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, AsyncContext, AtomicResponse, Handler, Message, WrapFuture};
use obleth_core::response_cache::Purge;
use obleth_schema::feed::Writing;
use std::fmt;
use std::sync::Arc;

/// A write of the management API. Bodies are JSON text, read here so that an error names its field; they may
/// hold secrets, so they are never printed.
#[derive(Clone)]
pub enum Write {
    CreateModel(Vec<u8>),
    PatchModel(String, Vec<u8>),
    PutModel(String, Vec<u8>),
    DeleteModel(String),
    CreateTenant(Vec<u8>),
    PatchTenant(String, Vec<u8>),
    DeleteTenant(String),
    CreateKey(String, Vec<u8>),
    PatchKey(String, Vec<u8>),
    RotateKey(String, Vec<u8>),
    DeleteKey(String),
    CreateGroup(Vec<u8>),
    PatchGroup(String, Vec<u8>),
    DeleteGroup(String),
    PutCapacity(Vec<u8>),
    PurgeCache(Purge),
    CreateMcpServer(Vec<u8>),
    PatchMcpServer(String, Vec<u8>),
    DeleteMcpServer(String),
    CreateAdminToken(Vec<u8>),
    DeleteAdminToken(String),
    /// The registry as it is between two writes.
    Export,
    Import(Vec<u8>, Import),
}

/// A write, and who asks for it.
#[derive(Message)]
#[rtype(result = "Result<Written, AdminError>")]
pub(super) struct Order {
    pub origin: Origin,
    pub write: Write,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Write(..)")
    }
}

/// What a write answers.
#[derive(Debug)]
pub enum Written {
    Model(Box<ModelView>),
    /// A `PUT` that made the model.
    ModelCreated(Box<ModelView>),
    Tenant(Box<TenantView>),
    Key(Box<KeyView>),
    KeyWithSecret(Box<KeyWithSecret>),
    Group(Box<GroupView>),
    Capacity(Box<CapacityView>),
    McpServer(Box<McpServerView>),
    TokenWithSecret(Box<TokenWithSecret>),
    Exported(Box<Export>),
    Imported(Box<Plan>),
    Deleted,
}

impl Context {
    /// One write among those of all replicas, on the registry as all of them have left it.
    async fn write_alone(&self, order: Order) -> Result<Written, AdminError> {
        let writing = Writing::begin(&self.store).await?;
        let written = match self.follow().await {
            Ok(()) => self.write(order).await,
            Err(error) => Err(error),
        };
        writing.end().await;
        written
    }

    async fn write(&self, Order { origin, write }: Order) -> Result<Written, AdminError> {
        let by = &origin;
        Ok(match write {
            Write::CreateModel(body) => Written::Model(Box::new(models::create(self, by, &body).await?)),
            Write::PatchModel(name, body) => {
                Written::Model(Box::new(models::patch(self, by, &name, &body).await?))
            }
            Write::PutModel(name, body) => {
                let (view, created) = models::put(self, by, &name, &body).await?;
                let view = Box::new(view);
                if created { Written::ModelCreated(view) } else { Written::Model(view) }
            }
            Write::DeleteModel(name) => gone(models::delete(self, by, &name).await)?,
            Write::CreateTenant(body) => Written::Tenant(Box::new(tenants::create(self, by, &body).await?)),
            Write::PatchTenant(id, body) => {
                Written::Tenant(Box::new(tenants::patch(self, by, &id, &body).await?))
            }
            Write::DeleteTenant(id) => gone(tenants::delete(self, by, &id).await)?,
            Write::CreateKey(tenant, body) => {
                Written::KeyWithSecret(Box::new(keys::create(self, by, &tenant, &body).await?))
            }
            Write::PatchKey(id, body) => Written::Key(Box::new(keys::patch(self, by, &id, &body).await?)),
            Write::RotateKey(id, body) => {
                Written::KeyWithSecret(Box::new(keys::rotate(self, by, &id, &body).await?))
            }
            Write::DeleteKey(id) => gone(keys::delete(self, by, &id).await)?,
            Write::CreateGroup(body) => Written::Group(Box::new(groups::create(self, by, &body).await?)),
            Write::PatchGroup(name, body) => {
                Written::Group(Box::new(groups::patch(self, by, &name, &body).await?))
            }
            Write::DeleteGroup(name) => gone(groups::delete(self, by, &name).await)?,
            Write::PutCapacity(body) => Written::Capacity(Box::new(capacity::put(self, by, &body).await?)),
            Write::PurgeCache(purge) => gone(answers::purge(self, by, purge).await)?,
            Write::CreateMcpServer(body) => {
                Written::McpServer(Box::new(mcp_servers::create(self, by, &body).await?))
            }
            Write::PatchMcpServer(name, body) => {
                Written::McpServer(Box::new(mcp_servers::patch(self, by, &name, &body).await?))
            }
            Write::DeleteMcpServer(name) => gone(mcp_servers::delete(self, by, &name).await)?,
            Write::CreateAdminToken(body) => {
                Written::TokenWithSecret(Box::new(tokens::create(self, by, &body).await?))
            }
            Write::DeleteAdminToken(id) => gone(tokens::delete(self, by, &id).await)?,
            Write::Export => Written::Exported(Box::new(config::export(self).await?)),
            Write::Import(body, how) => {
                Written::Imported(Box::new(config::import(self, by, &body, how).await?))
            }
        })
    }
}

fn gone(deleted: Result<(), AdminError>) -> Result<Written, AdminError> {
    deleted.map(|()| Written::Deleted)
}

/// The registry's actor.
pub(super) struct AdminActor {
    context: Arc<Context>,
    _line: Lifeline,
}

impl AdminActor {
    pub(super) const fn new(context: Arc<Context>, line: Lifeline) -> Self {
        Self { context, _line: line }
    }
}

impl Actor for AdminActor {
    type Context = actix::Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(uses::PERIOD, |actor, ctx| {
            let context = Arc::clone(&actor.context);
            ctx.spawn(async move { context.write_uses().await }.into_actor(actor));
        });
    }
}

impl Handler<Order> for AdminActor {
    // Atomic: the next message is taken when this one is answered.
    type Result = AtomicResponse<Self, Result<Written, AdminError>>;

    fn handle(&mut self, order: Order, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        AtomicResponse::new(Box::pin(async move { context.write_alone(order).await }.into_actor(self)))
    }
}

/// Take in what other replicas have changed.
#[derive(Message)]
#[rtype(result = "Result<(), AdminError>")]
pub(super) struct Follow;

impl Handler<Follow> for AdminActor {
    // Between two writes.
    type Result = AtomicResponse<Self, Result<(), AdminError>>;

    fn handle(&mut self, _: Follow, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        AtomicResponse::new(Box::pin(async move { context.follow().await }.into_actor(self)))
    }
}

impl Handler<Crash> for AdminActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
