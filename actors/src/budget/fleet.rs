//! Budgets that are shared with other replicas through Redis.
//!
//! Is: what is asked of Redis when this replica's part is spent, on the request's way and bounded in time; and, in
//! `rounds`, what is told to it in between. Is not: on the way of a request whose part suffices. Invariants: no lock is
//! held over a call; what a call brought is in the core before anybody acts on it; without Redis a hard budget is spent
//! from the claim there is and no further.

use super::NoHold;
use super::desk::Desk;
use crate::clock::unix_micros;
use crate::fleet::claims::{Claims, Replies};
use crate::fleet::replica::known_in;
use crate::fleet::{Away, Link};
use crate::guards::Hold;
use arc_swap::ArcSwap;
use obleth_core::registry::Registry;
use obleth_core::token_budget::slices::store::Reply;
use obleth_core::token_budget::{Amount, Answer, Ask, Counter, Dip, Limits, Minute, Owner, Period, Report};
use obleth_schema::ledger::{Written, written, written_by};
use obleth_schema::{Store, StoreError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

mod rounds;

/// How long a request asks, at most: others may have to give back what they do not use.
const PATIENCE: Duration = Duration::from_millis(600);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(15);
/// How long the start waits until claims are given. A little more than the quarantine of an empty store.
const JOINING: Duration = Duration::from_secs(5);

/// What a replica needs to share budgets.
#[derive(Debug)]
pub struct Joining {
    pub link: Link,
    pub runtime: Handle,
    /// The ledger, where what others have used is looked up.
    pub store: Store,
    /// The name of this replica, also of the one that writes its rows.
    pub replica: String,
    /// The folder of its journal, where it remembers the others.
    pub folder: PathBuf,
    /// What the names of its keys begin with.
    pub prefix: String,
    /// Without Redis, limits a minute go on by this replica's part.
    pub fail_open: bool,
}

/// What is known of the others.
#[derive(Debug)]
struct Known {
    /// What Redis calls its memory as long as it is the same.
    run: String,
    /// The run that was told everything.
    asserted: String,
    /// Claims are given.
    open: bool,
    /// How many replicas live.
    live: u64,
    /// All that have not ended.
    members: Vec<String>,
    away: bool,
}

/// The other replicas.
#[derive(Debug)]
pub(super) struct Fleet {
    claims: Claims,
    desk: Arc<Desk>,
    registry: Arc<ArcSwap<Registry>>,
    store: Store,
    runtime: Handle,
    replica: String,
    folder: PathBuf,
    fail_open: bool,
    known: Mutex<Known>,
    opened: Notify,
    joined: std::sync::atomic::AtomicBool,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Try again at once.
    Granted,
    /// Others have what they do not use, and were asked to give it back.
    Wait,
    /// There is no more.
    No,
    /// Redis does not answer.
    Away,
    /// Redis does not know yet what everybody has.
    Closed,
}

impl Fleet {
    pub(super) fn new(joining: Joining, desk: Arc<Desk>, registry: Arc<ArcSwap<Registry>>) -> Self {
        let Joining { link, runtime, store, replica, folder, prefix, fail_open } = joining;
        let seq = u64::try_from(unix_micros()).unwrap_or_default();
        desk.each(|now, core| core.share(now, seq));
        let known = Known {
            run: String::new(),
            asserted: String::new(),
            open: false,
            live: 1,
            members: known_in(&folder),
            away: false,
        };
        Self {
            claims: Claims::new(link, replica.clone(), &prefix),
            desk,
            registry,
            store,
            runtime,
            replica,
            folder,
            fail_open,
            known: Mutex::new(known),
            opened: Notify::new(),
            joined: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// What this replica has used in the running periods, as the ledger has it.
    pub(super) async fn own_usage(&self) -> Result<HashMap<Owner, [Amount; 3]>, StoreError> {
        let now = unix_micros();
        let mut sums: HashMap<Owner, [Amount; 3]> = HashMap::new();
        for (position, period) in Period::ALL.into_iter().enumerate() {
            let since = period.start(period.index(now));
            for keys in [false, true] {
                for row in written_by(&self.store, &self.replica, keys, since).await? {
                    let Some(owner) = owner_of(&row) else { continue };
                    if let Some(sum) = sums.entry(owner).or_default().get_mut(position) {
                        *sum = amount(&row);
                    }
                }
            }
        }
        Ok(sums)
    }

    pub(super) async fn join(self: &Arc<Self>) {
        if !self.joined.swap(true, std::sync::atomic::Ordering::AcqRel) {
            rounds::begin(self);
        }
        let open = async {
            while !self.known.lock().open {
                self.opened.notified().await;
            }
        };
        _ = timeout(JOINING, open).await;
    }

    /// Tries until it is granted, refused for good, or long enough.
    pub(super) async fn obtain(
        &self,
        mut lacking: Vec<Ask>,
        reserve: impl Fn(bool) -> Result<Hold, NoHold>,
    ) -> Result<Hold, NoHold> {
        let begun = Instant::now();
        loop {
            let outcome = self.ask(&lacking).await;
            let late = begun.elapsed() >= PATIENCE;
            let last = match outcome {
                Outcome::Granted => late,
                Outcome::Wait => late,
                Outcome::No => true,
                Outcome::Away if self.goes_on(&lacking) => false,
                Outcome::Away | Outcome::Closed => return Err(NoHold::Away),
            };
            match reserve(last) {
                Err(NoHold::Short(still)) if !last => lacking = still,
                Err(NoHold::Short(_)) => return Err(NoHold::Away),
                other => return other,
            }
            if outcome == Outcome::Away && late {
                return Err(NoHold::Away);
            }
            if outcome == Outcome::Wait {
                sleep(AGAIN).await;
            }
        }
    }

    /// Whether a request goes on without Redis: by this replica's part of a minute, but for hard budgets.
    fn goes_on(&self, lacking: &[Ask]) -> bool {
        if self.fail_open {
            self.part();
        }
        self.fail_open && lacking.iter().all(|ask| matches!(ask, Ask::Minute { .. }))
    }

    /// Redis is away: from now on each replica has its part of a minute.
    fn part(&self) {
        let live = {
            let mut known = self.known.lock();
            if std::mem::replace(&mut known.away, true) {
                return;
            }
            known.live
        };
        self.desk.each(|now, core| core.part(now, Some(live.max(1)), false));
    }

    async fn ask(&self, lacking: &[Ask]) -> Outcome {
        let mut reports = Vec::new();
        let mut dips = Vec::new();
        let members = self.known.lock().live;
        for ask in lacking {
            match *ask {
                Ask::Claim { counter, least, limit } => {
                    let report = self.desk.of(counter.owner, |_, core| core.claim(counter, least, limit));
                    reports.extend(report.flatten());
                }
                Ask::Minute { owner, minute, count, limit } => {
                    let place = (owner, minute);
                    let dip = self.desk.of(owner, |now, core| core.dip(now, place, count, limit, members));
                    dips.extend(dip.flatten().map(|dip| (dip, count)));
                }
            }
        }
        let (claims, minutes) = tokio::join!(self.claim(&reports), self.dip(&dips));
        claims.max(minutes)
    }

    /// Asks for claims. Where the counter is not known yet, what everybody has written is looked up first.
    async fn claim(&self, reports: &[Report]) -> Outcome {
        if reports.is_empty() {
            return Outcome::Granted;
        }
        let replies = match self.tell(reports).await {
            Ok(replies) => replies,
            Err(Away::Refused) => return Outcome::Closed,
            Err(Away::Down | Away::Late) => return Outcome::Away,
        };
        let mut outcome = Outcome::Granted;
        for (report, reply) in reports.iter().zip(replies) {
            outcome = outcome.max(match reply {
                Reply::Kept(claim, _) if claim >= report.least => Outcome::Granted,
                Reply::Kept(_, others) if others.claimed > others.busy => Outcome::Wait,
                Reply::Kept(..) => Outcome::No,
                Reply::Blank if self.begin(&report.counter).await => Outcome::Granted,
                Reply::Stale(_) => Outcome::Granted,
                Reply::Blank | Reply::Closed | Reply::Lost => Outcome::Closed,
            });
        }
        outcome
    }

    /// Says reports, all of one tenant or not, and hears the answers.
    async fn tell(&self, reports: &[Report]) -> Result<Vec<Reply>, Away> {
        let (run, live) = {
            let known = self.known.lock();
            (known.run.clone(), known.live)
        };
        let replies = match self.claims.report(&run, live, reports).await? {
            Replies::Of(replies) => replies,
            Replies::Lost => {
                let mut known = self.known.lock();
                if known.run == run {
                    known.open = false;
                }
                return Err(Away::Refused);
            }
        };
        for (report, reply) in reports.iter().zip(&replies) {
            let counter = report.counter;
            match *reply {
                Reply::Kept(claim, others) => {
                    let answer = Answer { seq: report.seq, claim, others };
                    self.desk.of(counter.owner, |_, core| core.claimed(counter, &answer));
                }
                // A clock that went back between two lives.
                Reply::Stale(seq) => _ = self.desk.of(counter.owner, |_, core| core.catch_up(seq)),
                Reply::Blank | Reply::Closed | Reply::Lost => {}
            }
        }
        Ok(replies)
    }

    /// Says reports, and those again whose counters Redis was not told before what everybody has written of them.
    async fn tell_all(&self, reports: &[Report]) {
        let Ok(replies) = self.tell(reports).await else { return };
        let mut again = Vec::new();
        for (report, reply) in reports.iter().zip(replies) {
            if reply == Reply::Blank && self.begin(&report.counter).await {
                let (counter, limit) = (report.counter, report.limit);
                again.extend(self.desk.of(counter.owner, |_, core| core.look(counter, limit)).flatten());
            }
        }
        if !again.is_empty() {
            _ = self.tell(&again).await;
        }
    }

    /// Tells Redis what everybody has written of a counter.
    async fn begin(&self, counter: &Counter) -> bool {
        let run = self.known.lock().run.clone();
        let Ok(rows) = self.rows(counter.owner, counter.period, counter.index).await else { return false };
        let of = |row: &Written| (row.replica.clone(), amount(row).of(counter.what));
        let written: Vec<_> = rows.iter().map(of).collect();
        self.claims.begin(&run, counter, &written).await.unwrap_or(false)
    }

    async fn rows(&self, owner: Owner, period: Period, index: i64) -> Result<Vec<Written>, StoreError> {
        let (tenant, key) = match owner {
            Owner::Tenant(tenant) => (tenant.to_string(), None),
            Owner::Key(tenant, key) => (tenant.to_string(), Some(key.to_string())),
        };
        written(&self.store, &tenant, key.as_deref(), period.start(index)).await
    }

    async fn dip(&self, dips: &[(Dip, u64)]) -> Outcome {
        if dips.is_empty() {
            return Outcome::Granted;
        }
        let answers = self.claims.dip(dips).await;
        let mut outcome = if answers.is_ok() { Outcome::Granted } else { Outcome::Away };
        let answers = answers.unwrap_or_default();
        for (position, (dip, least)) in dips.iter().enumerate() {
            let answer = answers.get(position).copied();
            if *least > 0 && answer.is_some_and(|answer| !answer.wait.is_zero()) {
                outcome = outcome.max(Outcome::No);
            }
            self.desk.of(dip.owner, |now, core| core.dipped(now, dip, answer));
        }
        outcome
    }

    /// Looks up what others have used of an owner: in Redis where it has budgets, else in the ledger.
    pub(super) async fn refresh(&self, owner: Owner, limits: &Limits) {
        let unix = unix_micros();
        for period in Period::ALL {
            let index = period.index(unix);
            let Ok(rows) = self.rows(owner, period, index).await else { continue };
            let others = rows.iter().filter(|row| row.replica != self.replica).map(amount);
            let used = others.fold(Amount::ZERO, Amount::plus);
            self.desk.of(owner, |_, core| core.note_others(owner, period, index, used));
        }
        let mut reports = Vec::new();
        for budget in &limits.budgets {
            let index = budget.period.index(unix);
            for (what, limit) in budget.limits() {
                let counter = Counter { owner, period: budget.period, index, what };
                let limit = budget.hard.then_some(limit);
                reports.extend(self.desk.of(owner, |_, core| core.look(counter, limit)).flatten());
            }
        }
        self.tell_all(&reports).await;
        let minutes =
            [(Minute::Tokens, limits.tokens_per_minute), (Minute::Requests, limits.requests_per_minute)];
        let mut dips = Vec::new();
        for (minute, limit) in minutes {
            let Some(limit) = limit else { continue };
            let dip = Dip { owner, minute, limit, due: 0, want: 0 };
            dips.push((dip, 0));
        }
        self.dip(&dips).await;
    }
}

fn owner_of(row: &Written) -> Option<Owner> {
    let tenant = row.tenant.parse().ok()?;
    if row.key.is_empty() {
        return Some(Owner::Tenant(tenant));
    }
    row.key.parse().ok().map(|key| Owner::Key(tenant, key))
}

fn amount(row: &Written) -> Amount {
    Amount {
        tokens: u64::try_from(row.tokens).unwrap_or(0),
        pico: u128::try_from(row.cost_pico).unwrap_or(0),
    }
}

/// A name for a run of Redis.
fn next_run() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Whether a counter is of money or tokens of somebody who is limited. For what is said after Redis was lost.
fn limited(registry: &Registry, owner: Owner) -> bool {
    match owner {
        Owner::Tenant(tenant) => {
            registry.tenant(tenant).is_some_and(|tenant| !tenant.limits.budgets.is_empty())
        }
        Owner::Key(_, key) => registry.key(key).is_some_and(|key| !key.limits.budgets.is_empty()),
    }
}
