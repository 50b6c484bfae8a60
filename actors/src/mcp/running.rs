//! Calls of the merged endpoint that run in this process, so that `notifications/cancelled` finds them.
//!
//! A client names a call by its own session and its own id. One that runs on another replica is not found there:
//! to cancel is a wish, and its answer is dropped by the client anyway.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Session of the client, and its id of the request as it stands.
type Name = (String, String);

/// See the module head.
#[derive(Debug, Default)]
pub struct Running(Mutex<HashMap<Name, Arc<Notify>>>);

/// One of them, while it runs.
#[derive(Debug)]
pub struct Call {
    name: Name,
    cancelled: Arc<Notify>,
    all: Arc<Running>,
}

impl Running {
    /// A call begins.
    pub fn begin(self: &Arc<Self>, session: &str, id: &str) -> Call {
        let name = (session.to_owned(), id.to_owned());
        let cancelled = Arc::new(Notify::new());
        self.0.lock().insert(name.clone(), Arc::clone(&cancelled));
        Call { name, cancelled, all: Arc::clone(self) }
    }

    /// Cancels a call; whether it runs here.
    pub fn cancel(&self, session: &str, id: &str) -> bool {
        let found = self.0.lock().get(&(session.to_owned(), id.to_owned())).map(Arc::clone);
        found.inspect(|cancelled| cancelled.notify_one()).is_some()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }
}

impl Call {
    /// When it is not wanted any more.
    pub const fn cancelled(&self) -> &Arc<Notify> {
        &self.cancelled
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // A client that uses an id twice at a time has only the later one under it.
        if all.get(&self.name).is_some_and(|own| Arc::ptr_eq(own, &self.cancelled)) {
            all.remove(&self.name);
        }
    }
}
