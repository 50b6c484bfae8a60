//! What is looked for, and changed, in an answer on its way.

use crate::pipeline::authenticate::Caller;
use obleth_core::mcp::events::Events;
use obleth_core::mcp::list::{Unclear, completed, filtered};
use obleth_core::mcp::scan::Scan;
use obleth_core::registry::rights;

/// What is looked for in the bytes that pass.
pub enum Look {
    /// Nothing.
    Nowhere,
    /// The response that ends the exchange.
    Response(Scan),
    /// What is to be changed, and the response if there is one to come.
    Changes(Box<Events>, Change, Option<Scan>),
}

/// How messages are changed on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Lists of tools lose what the caller may not call.
    Lists,
    /// Results of a session are results of a stateless request.
    Era,
}

impl Look {
    pub fn new(change: Option<Change>, is_request: bool) -> Self {
        match (change, is_request) {
            (Some(change), _) => Self::Changes(Box::default(), change, is_request.then(Scan::default)),
            (None, true) => Self::Response(Scan::default()),
            (None, false) => Self::Nowhere,
        }
    }
}

impl Change {
    /// The changed message; `None`: it passes as it is.
    pub fn of(self, message: &str, caller: &Caller, server: &str) -> Result<Option<String>, Unclear> {
        match self {
            Self::Era => completed(message),
            Self::Lists => {
                let rights = rights(&caller.tenant, &caller.key);
                filtered(message, |tool| rights.may_call(server, tool))
            }
        }
    }
}
