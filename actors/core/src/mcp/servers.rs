//! How the servers stand: breaker, calls a minute, the list of tools, sessions that are ready for another call.
//!
//! Is: one line for each server that something was asked of, under one lock of the shell. A line begins anew when
//! its server's record changes (its version), but for the bucket. Is not: the registry, and not a client.
//!
//! Sessions are those of the merged endpoint with servers that need one: lent to one call at a time, kept a while
//! for the next call of the same key, never shared between keys.
//!
//! Invariants: at most one refresh of a list runs for each server; a session is lent to one call; at most
//! [`SESSIONS_MAX`] wait at one server.

use super::catalogue::Catalogue;
use crate::breaker::{Breaker, Permit, Rules, View};
use crate::ids::{KeyId, McpServerId};
use crate::moment::Moment;
use crate::token_budget::bucket::Bucket;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Sessions that wait at one server for another call.
pub const SESSIONS_MAX: usize = 1024;
/// How long one waits.
pub const SESSION_IDLE: Duration = Duration::from_secs(60);
/// A refresh that has not ended by then is taken for lost.
const REFRESH_MAX: Duration = Duration::from_secs(120);
/// After a refresh that failed none is begun for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// A server as the registry has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which {
    pub id: McpServerId,
    /// Of its record.
    pub version: i64,
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has failed too often; how long until the next probe.
    Open(Duration),
    /// It has had as many calls a minute as the operator allows; how long until the next.
    Busy(Duration),
}

/// What is known of a server's tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The last good list.
    pub catalogue: Option<Arc<Catalogue>>,
    pub fresh: bool,
    /// The caller is to ask the server, and to tell how that went with this number.
    pub ask: Option<u64>,
    /// A refresh runs, since so long.
    pub running: Option<Duration>,
}

/// A session with a server, ready for one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// `None`: the server wants none.
    pub id: Option<Arc<str>>,
    pub version: Arc<str>,
}

#[derive(Debug)]
struct Waiting {
    key: KeyId,
    since: Moment,
    session: Ready,
}

#[derive(Debug)]
struct Line {
    version: i64,
    breaker: Breaker,
    bucket: Option<Bucket>,
    catalogue: Option<Arc<Catalogue>>,
    /// When the list was read.
    read_at: Moment,
    /// The refresh that runs, and since when.
    refresh: Option<(u64, Moment)>,
    /// No refresh before.
    not_before: Moment,
    /// The longest waiting first.
    sessions: Vec<Waiting>,
}

/// See the module head.
#[derive(Debug)]
pub struct Servers {
    rules: Rules,
    lines: HashMap<McpServerId, Line>,
    next: u64,
}

impl Servers {
    /// None yet.
    pub fn new(rules: Rules) -> Self {
        Self { rules, lines: HashMap::new(), next: 0 }
    }

    fn line(&mut self, now: Moment, which: Which) -> &mut Line {
        let rules = self.rules;
        let begin = |bucket| Line {
            version: which.version,
            breaker: Breaker::new(rules),
            bucket,
            catalogue: None,
            read_at: now,
            refresh: None,
            not_before: Moment::ZERO,
            sessions: Vec::new(),
        };
        let line = self.lines.entry(which.id).or_insert_with(|| begin(None));
        // One that is still on its way with an older record changes nothing.
        if line.version < which.version {
            *line = begin(line.bucket);
        }
        line
    }

    /// The right to send a request now. `limit`: requests a minute, if this one counts.
    pub fn admit(&mut self, now: Moment, which: Which, limit: Option<u64>) -> Result<Permit, Refused> {
        let line = self.line(now, which);
        line.breaker.look(now).map_err(|at| Refused::Open(at.since(now)))?;
        if let Some(limit) = limit {
            let bucket = line.bucket.get_or_insert_with(|| Bucket::full(now, limit));
            bucket.set_limit(now, limit);
            let wait = bucket.wait(now, 1);
            if !wait.is_zero() {
                return Err(Refused::Busy(wait));
            }
        }
        let permit = line.breaker.admit(now).map_err(|at| Refused::Open(at.since(now)))?;
        if let Some(bucket) = line.bucket.as_mut().filter(|_| limit.is_some()) {
            bucket.take(now, 1);
        }
        Ok(permit)
    }

    /// An answer has begun; whether that closed the breaker.
    pub fn begun(&mut self, now: Moment, which: Which, permit: &mut Permit) -> bool {
        self.same(which).is_some_and(|line| line.breaker.begun(now, permit))
    }

    /// No answer came, or it was cut; whether that opened the breaker.
    pub fn failed(&mut self, now: Moment, which: Which, permit: &Permit) -> bool {
        self.same(which).is_some_and(|line| line.breaker.failed(now, permit))
    }

    /// It ended, and says nothing of the server.
    pub fn left(&mut self, now: Moment, which: Which, permit: &Permit) {
        if let Some(line) = self.same(which) {
            line.breaker.left(now, permit);
        }
    }

    /// The line of a server, if it is of this version.
    fn same(&mut self, which: Which) -> Option<&mut Line> {
        self.lines.get_mut(&which.id).filter(|line| line.version == which.version)
    }

    /// How the breaker stands; `None` while nothing was asked of the server.
    pub fn view(&self, which: Which) -> Option<View> {
        let line = self.lines.get(&which.id).filter(|line| line.version == which.version)?;
        Some(line.breaker.view())
    }

    /// What is known of a server's tools, and whether to ask.
    pub fn known(&mut self, now: Moment, which: Which) -> Known {
        let number = self.next;
        let line = self.line(now, which);
        let catalogue = line.catalogue.clone();
        let fresh = catalogue.as_ref().is_some_and(|known| now.since(line.read_at) < known.ttl);
        let running = line.refresh.map(|(_, since)| now.since(since)).filter(|span| *span < REFRESH_MAX);
        if fresh || running.is_some() || now < line.not_before {
            return Known { catalogue, fresh, ask: None, running };
        }
        line.refresh = Some((number, now));
        self.next += 1;
        Known { catalogue, fresh, ask: Some(number), running: Some(Duration::ZERO) }
    }

    /// How a refresh went: `None` if it failed. The last good list stays.
    pub fn refreshed(&mut self, now: Moment, which: Which, number: u64, found: Option<Catalogue>) {
        let Some(line) = self.same(which) else { return };
        if line.refresh.is_none_or(|(running, _)| running != number) {
            return;
        }
        line.refresh = None;
        match found {
            Some(catalogue) => {
                line.catalogue = Some(Arc::new(catalogue));
                line.read_at = now;
            }
            None => line.not_before = now + PAUSE,
        }
    }

    /// A session for one call of this key, if one waits.
    pub fn lend(&mut self, now: Moment, which: Which, key: KeyId) -> Option<Ready> {
        let line = self.same(which)?;
        let fit = |waiting: &Waiting| waiting.key == key && now.since(waiting.since) < SESSION_IDLE;
        let at = line.sessions.iter().rposition(fit)?;
        Some(line.sessions.remove(at).session)
    }

    /// A session that a call has done with. What comes back is to be ended.
    pub fn give_back(&mut self, now: Moment, which: Which, key: KeyId, session: Ready) -> Option<Ready> {
        let Some(line) = self.same(which) else { return Some(session) };
        line.sessions.push(Waiting { key, since: now, session });
        if line.sessions.len() > SESSIONS_MAX { Some(line.sessions.remove(0).session) } else { None }
    }

    /// Takes out a session that has waited too long.
    pub fn overdue(&mut self, now: Moment, which: Which) -> Option<Ready> {
        let line = self.same(which)?;
        let first = line.sessions.first()?;
        (now.since(first.since) >= SESSION_IDLE).then(|| line.sessions.remove(0).session)
    }

    /// Sessions that wait, all servers together.
    pub fn waiting(&self) -> usize {
        self.lines.values().map(|line| line.sessions.len()).sum()
    }

    /// Forgets servers that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(McpServerId) -> bool) {
        self.lines.retain(|id, _| is_there(*id));
    }
}
