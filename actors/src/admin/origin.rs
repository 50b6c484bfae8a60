//! Who asks for a change, and by which call: what an audit row says beside the change itself.

use super::tokens::Role;
use std::net::IpAddr;
use std::sync::Arc;

/// The source of a write.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The id of an admin token, `root`, or the name of a part of the program.
    pub actor_id: Arc<str>,
    pub actor_name: Arc<str>,
    /// Of the call: `POST`, `PATCH`, ...
    pub method: Arc<str>,
    pub request_id: Arc<str>,
    pub address: Option<IpAddr>,
    /// What the caller may do; a part of the program may do everything.
    pub role: Role,
}

impl Origin {
    /// Whether stored secrets may go where the caller says, and so be read by them.
    pub(super) fn reads_secrets(&self) -> bool {
        self.role >= Role::Admin
    }

    /// A part of the program itself.
    pub fn internal(name: &str) -> Self {
        Self {
            actor_id: name.into(),
            actor_name: name.into(),
            method: "START".into(),
            request_id: "".into(),
            address: None,
            role: Role::Admin,
        }
    }
}
