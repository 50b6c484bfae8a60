//! The breakers of all models, as the workers share them.
//!
//! Is: one breaker for each model of the registry that a request went to, behind a mutex held for some
//! nanoseconds; looked up without a lock. Is not: the rules (`obleth_core::breaker`), nor what a failure is.
//! Each replica learns for itself. A model whose name, `api_base` or `api_key` changes begins with a fresh one;
//! those of deleted models go when another is made. Invariant: each permit is told its end, by its [`Trial`].

use crate::clock::Clock;
use arc_swap::ArcSwap;
use obleth_core::breaker::{Breaker, Permit, Rules, View};
use obleth_core::ids::ModelId;
use obleth_core::moment::Moment;
use obleth_core::registry::{Model, Registry};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The upstream of a model, as far as its breaker is concerned.
struct Upstream {
    name: Arc<str>,
    base: Option<Arc<str>>,
    key: Option<SecretString>,
}

impl Upstream {
    fn of(model: &Model) -> Self {
        Self { name: Arc::clone(&model.name), base: model.api_base.clone(), key: model.api_key.clone() }
    }

    fn is_of(&self, model: &Model) -> bool {
        let own = self.key.as_ref().map(ExposeSecret::expose_secret);
        let its = model.api_key.as_ref().map(ExposeSecret::expose_secret);
        self.name == model.name && self.base == model.api_base && own == its
    }
}

/// One model's breaker.
struct Line {
    upstream: Upstream,
    breaker: Mutex<Breaker>,
}

type Lines = HashMap<ModelId, Arc<Line>>;

/// All breakers.
pub struct Health {
    rules: Rules,
    clock: Clock,
    registry: Arc<ArcSwap<Registry>>,
    lines: ArcSwap<Lines>,
    /// One line is made at a time.
    making: Mutex<()>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Health {
    /// Breakers for the models of `registry`, all of them closed.
    pub fn new(rules: Rules, clock: Clock, registry: Arc<ArcSwap<Registry>>) -> Self {
        Self { rules, clock, registry, lines: ArcSwap::default(), making: Mutex::new(()) }
    }

    /// Whether a request for the model is worth its wait. `Err`: how long until the next probe.
    pub fn look(&self, model: &Model) -> Result<(), Duration> {
        let lines = self.lines.load();
        let Some(line) = lines.get(&model.id).filter(|line| line.upstream.is_of(model)) else {
            return Ok(());
        };
        let now = self.clock.now();
        line.breaker.lock().look(now).map_err(|at| at.since(now))
    }

    /// The right to send a request to the model's upstream now. `Err`: how long until the next probe.
    pub fn attempt(&self, model: &Model) -> Result<Trial, Duration> {
        let Some(line) = self.line(model) else {
            return Ok(Trial { sent: None, clock: self.clock, failed: false });
        };
        let now = self.clock.now();
        let permit = line.breaker.lock().admit(now).map_err(|at| at.since(now))?;
        Ok(Trial { sent: Some((line, permit)), clock: self.clock, failed: false })
    }

    /// The model's upstream was seen to answer, by other means than a request of a tenant.
    pub fn found_well(&self, model: &Model) {
        let lines = self.lines.load();
        if let Some(line) = lines.get(&model.id).filter(|line| line.upstream.is_of(model)) {
            let closed = line.breaker.lock().found_well(self.clock.now());
            line.note(closed, "closed");
        }
    }

    /// How the model's breaker stands; `None` while nothing was sent to it.
    pub fn view(&self, model: &Model) -> Option<View> {
        let lines = self.lines.load();
        let line = lines.get(&model.id).filter(|line| line.upstream.is_of(model))?;
        Some(line.breaker.lock().view())
    }

    /// Now, as the views count.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// The breaker of the model. `None`: the model was changed or deleted while this request was on its way.
    fn line(&self, model: &Model) -> Option<Arc<Line>> {
        let found =
            self.lines.load().get(&model.id).filter(|line| line.upstream.is_of(model)).map(Arc::clone);
        if found.is_some() { found } else { self.make(model) }
    }

    fn make(&self, model: &Model) -> Option<Arc<Line>> {
        let _alone = self.making.lock();
        let registry = self.registry.load();
        let current = registry.model(model.id)?;
        let upstream = Upstream::of(current);
        if !upstream.is_of(model) {
            return None;
        }
        let lines = self.lines.load();
        if let Some(line) = lines.get(&model.id).filter(|line| line.upstream.is_of(model)) {
            return Some(Arc::clone(line));
        }
        let breaker = Mutex::new(Breaker::new(self.rules));
        let line = Arc::new(Line { upstream, breaker });
        let still = lines.iter().filter(|(id, _)| registry.model(**id).is_some());
        let mut lines: Lines = still.map(|(id, line)| (*id, Arc::clone(line))).collect();
        lines.insert(model.id, Arc::clone(&line));
        self.lines.store(Arc::new(lines));
        Some(line)
    }
}

impl Line {
    fn note(&self, changed: bool, state: &'static str) {
        if changed {
            tracing::warn!(model = &*self.upstream.name, state, "the breaker of a model's upstream changed");
        }
    }
}

/// One request on its way to an upstream. Dropped without a word, it says nothing of it.
pub struct Trial {
    sent: Option<(Arc<Line>, Permit)>,
    clock: Clock,
    failed: bool,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Trial {
    /// The head of an answer is there.
    pub fn answered(&mut self) {
        if let Some((line, permit)) = &mut self.sent {
            let closed = line.breaker.lock().begun(self.clock.now(), permit);
            line.note(closed, "closed");
        }
    }

    /// No answer came, or it was cut. A second call does nothing.
    pub fn failed(&mut self) {
        self.failed = true;
        if let Some((line, permit)) = self.sent.take() {
            let opened = line.breaker.lock().failed(self.clock.now(), &permit);
            line.note(opened, "open");
        }
    }

    /// Whether it failed.
    pub const fn has_failed(&self) -> bool {
        self.failed
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some((line, permit)) = self.sent.take().filter(|(_, permit)| !permit.has_begun()) {
            line.breaker.lock().left(self.clock.now(), &permit);
        }
    }
}

#[cfg(test)]
mod tests;
