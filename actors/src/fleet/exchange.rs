//! The exchange of slots and tags with the other replicas, through scripts in Redis.
//!
//! Is: a task on the runtime of the databases' I/O that asks the store ten times a second, at once when the queue needs
//! slots or others need those that are idle here, and when the store rings. Is not: on a request's path; a request that
//! finds a slot here does not know of it. Invariants: one question at a time; what an answer grants is handed over like
//! any grant; the task ends with its handle, and gives back what it holds if it is told to.

use super::link::{Away, Link, Script};
use super::news::News;
use crate::clock::Clock;
use crate::fairshare::Desk;
use crate::plans::Plans;
use arc_swap::ArcSwap;
use obleth_core::fair_queue::{Portion, Subject, SubjectPlan, Told};
use obleth_core::fleet::{Answer, Ask};
use obleth_core::registry::Registry;
use redis::{FromRedisValue, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

/// Between two questions when nothing happens, at least; [`JITTER`] more at most.
const TICK: Duration = Duration::from_millis(90);
const JITTER: u64 = 20;
/// How long a call may take.
const CALL: Duration = Duration::from_millis(250);
/// Between a call that failed and the next.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Subjects told and heard in one call at most, and calls in a row.
const SUBJECTS: usize = 512;
const CALLS: usize = 16;

const SLOTS: &str = include_str!("slots.lua");
const TAGS: &str = include_str!("tags.lua");
const LIVE: &str = include_str!("live.lua");

/// How often a replica shows itself to the others, and how old what it has shown may be.
const SHOW: Duration = Duration::from_secs(1);
const SHOWN_FOR: Duration = Duration::from_secs(5);
/// Tenants of one replica that are shown.
const TENANTS_SHOWN: usize = 2000;

/// What the exchange works with.
pub(crate) struct Parts {
    pub link: Link,
    pub desk: Arc<Desk>,
    pub clock: Clock,
    pub registry: Arc<ArcSwap<Registry>>,
    pub plans: Plans,
    /// What the names of its keys and channels begin with.
    pub prefix: String,
    pub name: Uuid,
}

/// The exchange that runs. Dropped it stops without a word, as if the process were killed.
#[derive(Debug)]
pub(crate) struct Exchange {
    parts: Arc<Parts>,
    stop: watch::Sender<Option<()>>,
    done: mpsc::Sender<oneshot::Sender<()>>,
}

impl Exchange {
    /// Begins to exchange, on `runtime`.
    pub(crate) fn start(parts: Parts, runtime: &Handle) -> Self {
        let (stop, stopped) = watch::channel(None);
        let (done, leave) = mpsc::channel(1);
        let parts = Arc::new(parts);
        let ring = parts.link.subscribe(format!("{}{}", channels(&parts.prefix), parts.name.simple()));
        runtime.spawn(keep(Arc::clone(&parts), ring, leave, stopped));
        Self { parts, stop, done }
    }

    /// What the other replicas show of themselves, at most some seconds old. Nothing while Redis is away.
    pub(crate) async fn others(&self) -> Vec<Portion> {
        self.parts.show(&Script::new(LIVE), None).await.unwrap_or_default()
    }

    /// Gives back everything. To be called when nothing runs any more.
    pub(crate) async fn leave(&self) {
        let (told, heard) = oneshot::channel();
        if self.done.send(told).await.is_ok() {
            // Redis may be away; the leases end by themselves then.
            _ = timeout(2 * CALL, heard).await;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.send_replace(Some(()));
    }
}

impl Parts {
    /// Shows itself, or looks at the others.
    async fn show(&self, script: &Script, portion: Option<&Portion>) -> Result<Vec<Portion>, Away> {
        let view = portion.and_then(|portion| serde_json::to_vec(portion).ok()).unwrap_or_default();
        let kept = SHOWN_FOR.as_millis().to_string().into_bytes();
        let args = vec![self.name.simple().to_string().into_bytes(), view, kept];
        let key = format!("{}:{{fleet}}:live", self.prefix);
        let views = self.link.call(script, &[&key], args, CALL).await?;
        let views = Vec::<Vec<u8>>::from_redis_value(views).map_err(|_| Away::Refused)?;
        Ok(views.iter().filter_map(|view| serde_json::from_slice(view).ok()).collect())
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("name", &self.name).finish_non_exhaustive()
    }
}

fn channels(prefix: &str) -> String {
    format!("{prefix}:{{fleet}}:ring:")
}

/// Runs the exchange again if it panics.
async fn keep(
    parts: Arc<Parts>,
    ring: mpsc::Receiver<News>,
    leave: mpsc::Receiver<oneshot::Sender<()>>,
    mut stopped: watch::Receiver<Option<()>>,
) {
    let work = Arc::new(tokio::sync::Mutex::new(Work::new(parts, ring, leave)));
    loop {
        let running = Arc::clone(&work);
        let mut task = tokio::spawn(async move { running.lock_owned().await.run().await });
        tokio::select! {
            ended = &mut task => match ended {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "the exchange of slots is restarted after a fault"),
            },
            _ = stopped.changed() => return task.abort(),
        }
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}

struct Work {
    parts: Arc<Parts>,
    ring: mpsc::Receiver<News>,
    leave: mpsc::Receiver<oneshot::Sender<()>>,
    slots: Script,
    tags: Script,
    live: Script,
    shown: Option<Instant>,
    keys: [String; 4],
    channels: String,
    /// The generation of the tags' store, and the last number seen of it.
    generation: String,
    seen: String,
    /// Of the last question about tags.
    number: u64,
    /// Replicas could not hear of each other for longer than a lease.
    outage: bool,
}

impl Work {
    fn new(
        parts: Arc<Parts>,
        ring: mpsc::Receiver<News>,
        leave: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        let key = |name: &str| format!("{}:{{fleet}}:{name}", parts.prefix);
        Self {
            keys: [key("slots"), key("tags"), key("tags:order"), key("tags:tellers")],
            channels: channels(&parts.prefix),
            parts,
            ring,
            leave,
            slots: Script::new(SLOTS),
            tags: Script::new(TAGS),
            live: Script::new(LIVE),
            shown: None,
            generation: String::new(),
            seen: "0".to_owned(),
            number: 0,
            outage: false,
        }
    }

    async fn run(&mut self) {
        let mut tick = Instant::now();
        loop {
            let bell = Arc::clone(&self.parts);
            let leaving = tokio::select! {
                () = sleep_until(tick) => None,
                () = bell.desk.bell() => None,
                // The channel's sender lives as long as the receiver; its end is a tick.
                _ = self.ring.recv() => None,
                leaving = self.leave.recv() => match leaving {
                    Some(told) => Some(told),
                    None => return,
                },
            };
            if let Some(told) = leaving {
                self.parts.desk.leave_fleet();
                _ = self.ask().await;
                _ = told.send(());
                return;
            }
            while self.ring.try_recv().is_ok() {}
            let due = Instant::now() >= tick;
            if due {
                let jitter =
                    u64::from(Uuid::new_v4().as_bytes().first().copied().unwrap_or_default()) % JITTER;
                tick = Instant::now() + TICK + Duration::from_millis(jitter);
            }
            let answered = self.ask().await.is_ok() && (!due || self.exchange_tags().await.is_ok());
            if due && answered && self.shown.is_none_or(|shown| shown.elapsed() >= SHOW) {
                self.shown = Some(Instant::now());
                self.show().await;
            }
            if !answered {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }

    /// Shows the others what they add to their live view. Alone there is nobody to look.
    async fn show(&self) {
        let Parts { desk, .. } = &*self.parts;
        if desk.fleet_state().is_some_and(|state| state.members > 1)
            && let Some(picture) = desk.picture()
        {
            // The next one comes in a second.
            _ = self.parts.show(&self.live, Some(&picture.portion(TENANTS_SHOWN))).await;
        }
    }

    /// One question about slots.
    async fn ask(&mut self) -> Result<(), Away> {
        let Parts { link, desk, clock, .. } = &*self.parts;
        let Some(ask) = desk.ask_fleet(|| Uuid::new_v4().simple().to_string()) else { return Ok(()) };
        let sent = clock.now();
        let answer = match encode(&ask) {
            Some(question) => {
                let args = vec![question, self.channels.clone().into_bytes(), Vec::new()];
                let [slots, ..] = &self.keys;
                link.call(&self.slots, &[slots], args, CALL).await
            }
            None => Err(Away::Refused),
        };
        match answer.map(decode) {
            Ok(Some(answer)) => {
                let returned = desk.hear_fleet(sent, answer);
                self.outage |= returned;
                Ok(())
            }
            Ok(None) => {
                tracing::error!("Redis answers the script of slots with something else");
                desk.unheard_by_fleet();
                Err(Away::Refused)
            }
            Err(away) => {
                desk.unheard_by_fleet();
                Err(away)
            }
        }
    }

    /// Tells what has changed and hears what others tell, until nothing is left.
    async fn exchange_tags(&mut self) -> Result<(), Away> {
        for _ in 0..CALLS {
            if !self.exchange_some_tags().await? {
                break;
            }
        }
        if std::mem::take(&mut self.outage) {
            self.parts.desk.bound_debts();
        }
        Ok(())
    }

    /// Whether there is more.
    async fn exchange_some_tags(&mut self) -> Result<bool, Away> {
        let Parts { link, desk, name, registry, .. } = &*self.parts;
        if registry.load().groups().next().is_none() {
            // It is not read yet, and whom it does not have one cannot hear of.
            return Ok(false);
        }
        // Nothing is told before it is known among whom.
        let told = if self.generation.is_empty() { Vec::new() } else { desk.tell_fleet(SUBJECTS) };
        let text = |text: String| text.into_bytes();
        self.number += 1;
        let mut args = vec![
            text(name.simple().to_string()),
            text(self.generation.clone()),
            text(self.seen.clone()),
            text(SUBJECTS.to_string()),
            text(self.number.to_string()),
        ];
        let full = told.len() >= SUBJECTS;
        for (subject, told) in told {
            args.extend([text(subject.to_string()), text(told.to_string())]);
        }
        let [_, tags, order, tellers] = &self.keys;
        let answer = link.call(&self.tags, &[tags, order, tellers], args, CALL).await;
        // Whether what was told has arrived is not known: all of it is told again.
        let answer = answer.inspect_err(|_| desk.tell_anew())?;
        let lines = Vec::<String>::from_redis_value(answer).map_err(|_| Away::Refused)?;
        let [generation, seen, more, rest @ ..] = lines.as_slice() else { return Err(Away::Refused) };
        let begins = self.generation != *generation;
        if begins {
            desk.begin_generation(generation.parse().map_err(|_| Away::Refused)?);
            self.generation.clone_from(generation);
        }
        self.seen.clone_from(seen);
        self.hear(rest);
        Ok(full || begins || more == "1")
    }

    fn hear(&self, lines: &[String]) {
        let Parts { desk, registry, plans, .. } = &*self.parts;
        let registry = registry.load();
        let all = lines.chunks_exact(3).filter_map(|line| {
            let [subject, replica, told] = line else { return None };
            let (subject, told): (Subject, Told) = (subject.parse().ok()?, told.parse().ok()?);
            let (from, _) = Uuid::parse_str(replica).ok()?.as_u64_pair();
            let plan = match subject {
                // One that the registry does not have yet is told of again with its next request.
                Subject::Tenant(id) => SubjectPlan::Tenant(plans.tenant(&registry, registry.tenant(id)?)?),
                Subject::Group(id) => {
                    let group = registry.group(id)?;
                    SubjectPlan::Group(obleth_core::fair_queue::GroupPlan { id, weight: group.weight })
                }
                Subject::Tenants(..) | Subject::Groups(_) => SubjectPlan::Clock,
            };
            Some((from, subject, plan, told))
        });
        desk.hear_of_fleet(all.collect());
    }
}

fn encode(ask: &Ask) -> Option<Vec<u8>> {
    serde_json::to_vec(ask).ok()
}

fn decode(value: Value) -> Option<Answer> {
    let text = Vec::<u8>::from_redis_value(value).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests;
