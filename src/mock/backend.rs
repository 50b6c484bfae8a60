//! What the mock's workers share: options, slots, counters and the modes set by `POST /control`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use actix_web::http::header::HeaderMap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{MockOptions, pace::Pace};

/// The most models that are counted or controlled by name; the rest are counted together.
const MAX_MODELS: usize = 1024;
/// The name under which models beyond [`MAX_MODELS`] are counted.
const OTHER_MODELS: &str = "(other)";
/// The most distinct `Authorization` values that are remembered.
const MAX_AUTHORIZATIONS: usize = 64;

/// What happens to a model's requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// A whole answer at the usual pace.
    #[default]
    Ok,
    /// A 500 at once.
    Fail,
    /// A slot is taken and nothing is answered until the client leaves.
    Stall,
    /// A whole answer, ten times slower.
    Slow,
    /// Half an answer, then the connection is closed.
    Cut,
}

/// Counts per model.
#[derive(Debug, Default)]
pub(super) struct ModelCounts {
    pub(super) requests: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) output_tokens: AtomicU64,
}

/// Counts over all models.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) running: AtomicU64,
    pub(super) peak_running: AtomicU64,
    pub(super) waiting: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    /// Refused, failed or cut on purpose.
    pub(super) failed: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) output_tokens: AtomicU64,
}

#[derive(Debug, Default)]
struct Modes {
    every: Mode,
    by_model: HashMap<String, Mode>,
}

#[derive(Debug, Default)]
struct LastRequest {
    headers: Option<HeaderMap>,
    authorizations: Vec<String>,
}

/// The shared state of one mock.
#[derive(Debug)]
pub(super) struct Backend {
    /// Length of an answer, in tokens.
    pub(super) tokens: u32,
    pace: Pace,
    /// `None` = unlimited. First come, first served.
    pub(super) slots: Option<Arc<Semaphore>>,
    pub(super) counts: Counts,
    models: Mutex<HashMap<String, Arc<ModelCounts>>>,
    /// Some mode was set: until then no request takes the lock.
    controlled: AtomicBool,
    modes: Mutex<Modes>,
    last: Mutex<LastRequest>,
}

impl Backend {
    pub(super) fn new(options: MockOptions) -> Self {
        let slots = options.slots.min(Semaphore::MAX_PERMITS);
        Self {
            tokens: options.tokens,
            pace: Pace { ttft: options.ttft, token: options.token },
            slots: (slots > 0).then(|| Arc::new(Semaphore::new(slots))),
            counts: Counts::default(),
            models: Mutex::default(),
            controlled: AtomicBool::new(false),
            modes: Mutex::default(),
            last: Mutex::default(),
        }
    }

    pub(super) fn pace(&self, mode: Mode) -> Pace {
        if mode == Mode::Slow { self.pace.slowed() } else { self.pace }
    }

    /// Counts a request that arrived and remembers its headers.
    pub(super) fn arrived(&self, headers: &HeaderMap) {
        self.counts.requests.fetch_add(1, Relaxed);
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
        let headers = headers.clone();
        let mut last = self.last.lock();
        last.headers = Some(headers);
        if let Some(authorization) = authorization
            && last.authorizations.len() < MAX_AUTHORIZATIONS
            && !last.authorizations.iter().any(|seen| seen == authorization)
        {
            last.authorizations.push(authorization.to_owned());
        }
    }

    /// Counts a request that was answered with an error.
    pub(super) fn refused(&self) {
        self.counts.failed.fetch_add(1, Relaxed);
    }

    /// Counts a request that was answered without a slot.
    pub(super) fn counted(&self) {
        self.counts.completed.fetch_add(1, Relaxed);
    }

    pub(super) fn mode(&self, model: &str) -> Mode {
        if !self.controlled.load(Relaxed) {
            return Mode::Ok;
        }
        let modes = self.modes.lock();
        modes.by_model.get(model).copied().unwrap_or(modes.every)
    }

    /// Sets the mode of one model, or of all (`*`), which forgets what was set by name. False when too many are named.
    pub(super) fn control(&self, model: &str, mode: Mode) -> bool {
        let mut modes = self.modes.lock();
        if model == "*" {
            *modes = Modes { every: mode, by_model: HashMap::new() };
        } else if modes.by_model.len() >= MAX_MODELS && !modes.by_model.contains_key(model) {
            return false;
        } else {
            modes.by_model.insert(model.to_owned(), mode);
        }
        self.controlled.store(true, Relaxed);
        true
    }

    pub(super) fn model(&self, name: &str) -> Arc<ModelCounts> {
        let mut models = self.models.lock();
        if let Some(counts) = models.get(name) {
            return Arc::clone(counts);
        }
        let name = if models.len() < MAX_MODELS { name } else { OTHER_MODELS };
        Arc::clone(models.entry(name.to_owned()).or_default())
    }

    pub(super) fn stats(&self) -> serde_json::Value {
        let counts = &self.counts;
        let last = self.last.lock();
        let models: serde_json::Map<_, _> =
            self.models.lock().iter().map(|(name, counts)| (name.clone(), counts.stats())).collect();
        serde_json::json!({
            "requests": counts.requests.load(Relaxed),
            "running": counts.running.load(Relaxed),
            "peak_running": counts.peak_running.load(Relaxed),
            "waiting": counts.waiting.load(Relaxed),
            "completed": counts.completed.load(Relaxed),
            "cancelled": counts.cancelled.load(Relaxed),
            "failed": counts.failed.load(Relaxed),
            "prompt_tokens": counts.prompt_tokens.load(Relaxed),
            "output_tokens": counts.output_tokens.load(Relaxed),
            "models": models,
            "last_headers": last.headers.as_ref().map(headers_json),
            "authorization_seen": last.authorizations,
        })
    }
}

impl ModelCounts {
    fn stats(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.requests.load(Relaxed),
            "prompt_tokens": self.prompt_tokens.load(Relaxed),
            "output_tokens": self.output_tokens.load(Relaxed),
        })
    }
}

/// Names in lower case; a repeated header's values are joined by a comma.
fn headers_json(headers: &HeaderMap) -> serde_json::Value {
    let mut map = serde_json::Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers.get_all(name).map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        map.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    serde_json::Value::Object(map)
}
