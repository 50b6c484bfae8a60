//! One exchange with a server: what its breaker learns of it, and its place among those that run.

use super::Mcp;
use crate::cell::Contained;
use obleth_core::breaker::Permit;
use obleth_core::mcp::servers::Which;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Exchanges that may run at once, those whose client has left among them.
const MOST: usize = 16_384;

/// One request on its way to a server. Dropped without a word, it says nothing of it.
#[derive(Default)]
pub struct Trial {
    sent: Option<Sent>,
    begun: bool,
    #[expect(dead_code, reason = "only its drop matters")]
    place: Option<Place>,
}

/// One exchange among those that run.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub fn of(all: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(all));
        (all.fetch_add(1, Ordering::Relaxed) < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Sent {
    mcp: Mcp,
    which: Which,
    name: Arc<str>,
    permit: Permit,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Trial {
    pub(super) const fn new(mcp: Mcp, which: Which, name: Arc<str>, permit: Permit, place: Place) -> Self {
        Self { sent: Some(Sent { mcp, which, name, permit }), begun: false, place: Some(place) }
    }

    /// The head of an answer is there.
    pub fn answered(&mut self) {
        if let Some(Sent { mcp, which, name, permit }) = &mut self.sent {
            self.begun = true;
            let closed = mcp.with(|now, servers| servers.begun(now, *which, permit));
            note(name, closed, "closed");
        }
    }

    /// No answer came, or it was cut. A second call does nothing.
    pub fn failed(&mut self) {
        if let Some(Sent { mcp, which, name, permit }) = self.sent.take() {
            let opened = mcp.with(|now, servers| servers.failed(now, which, &permit));
            note(&name, opened, "open");
        }
    }
}

fn note(server: &str, changed: Result<bool, Contained>, state: &'static str) {
    if changed == Ok(true) {
        tracing::warn!(server, state, "the breaker of an MCP server changed");
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(Sent { mcp, which, permit, .. }) = self.sent.take().filter(|_| !self.begun) {
            let _ = mcp.with(|now, servers| servers.left(now, which, &permit));
        }
    }
}
