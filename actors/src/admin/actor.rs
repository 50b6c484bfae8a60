//! The actor: one write after the other.

use super::{AdminError, Context, capacity, groups, keys, models, tenants};
use super::{CapacityView, GroupView, KeyView, KeyWithSecret, ModelView, TenantView};
use crate::supervise::{Crash, Lifeline};
use actix::{Actor, AtomicResponse, Handler, Message, WrapFuture};
use std::fmt;
use std::sync::Arc;

/// A write of the management API. Bodies are JSON text, read here so that an error names its field; they may
/// hold secrets, so they are never printed.
#[derive(Clone, Message)]
#[rtype(result = "Result<Written, AdminError>")]
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
    Deleted,
}

impl Context {
    async fn write(&self, write: Write) -> Result<Written, AdminError> {
        match write {
            Write::CreateModel(body) => models::create(self, &body).await.map(Box::new).map(Written::Model),
            Write::PatchModel(name, body) => {
                models::patch(self, &name, &body).await.map(Box::new).map(Written::Model)
            }
            Write::PutModel(name, body) => models::put(self, &name, &body).await.map(|(view, created)| {
                let view = Box::new(view);
                if created { Written::ModelCreated(view) } else { Written::Model(view) }
            }),
            Write::DeleteModel(name) => models::delete(self, &name).await.map(|()| Written::Deleted),
            Write::CreateTenant(body) => {
                tenants::create(self, &body).await.map(Box::new).map(Written::Tenant)
            }
            Write::PatchTenant(id, body) => {
                tenants::patch(self, &id, &body).await.map(Box::new).map(Written::Tenant)
            }
            Write::DeleteTenant(id) => tenants::delete(self, &id).await.map(|()| Written::Deleted),
            Write::CreateKey(tenant, body) => {
                keys::create(self, &tenant, &body).await.map(Box::new).map(Written::KeyWithSecret)
            }
            Write::PatchKey(id, body) => keys::patch(self, &id, &body).await.map(Box::new).map(Written::Key),
            Write::RotateKey(id, body) => {
                keys::rotate(self, &id, &body).await.map(Box::new).map(Written::KeyWithSecret)
            }
            Write::DeleteKey(id) => keys::delete(self, &id).await.map(|()| Written::Deleted),
            Write::CreateGroup(body) => groups::create(self, &body).await.map(Box::new).map(Written::Group),
            Write::PatchGroup(name, body) => {
                groups::patch(self, &name, &body).await.map(Box::new).map(Written::Group)
            }
            Write::DeleteGroup(name) => groups::delete(self, &name).await.map(|()| Written::Deleted),
            Write::PutCapacity(body) => capacity::put(self, &body).await.map(Box::new).map(Written::Capacity),
        }
    }
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
}

impl Handler<Write> for AdminActor {
    // Atomic: the next message is taken when this one is answered.
    type Result = AtomicResponse<Self, Result<Written, AdminError>>;

    fn handle(&mut self, write: Write, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        AtomicResponse::new(Box::pin(async move { context.write(write).await }.into_actor(self)))
    }
}

impl Handler<Crash> for AdminActor {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        std::panic::resume_unwind(Box::new("planted crash"));
    }
}
