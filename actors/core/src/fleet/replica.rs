//! The replica's side: what it holds, what it gives back, what it wants.

use super::{Answer, Ask, Pool, Report, Rival};
use crate::fair_queue::FairQueue;
use crate::moment::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Slots beyond a replica's part go back after having been idle for this long.
const IDLE: Duration = Duration::from_millis(50);
/// Slots of a capped tenant stay at hand for so long after its last request, of so many idle tenants.
const QUIET: Duration = Duration::from_secs(300);
const QUIET_TENANTS: usize = 64;
/// Without the store a replica that holds nothing has one slot all the same where this many are a small part.
const LARGE: u32 = 64;

/// The rules that are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long slots stay with a replica that the store does not hear of.
    pub lease: Duration,
    /// How long a store that has lost everything waits until all members have told it what they hold.
    pub quarantine: Duration,
    /// Whether slots that it held may be used beyond the lease while the store is away.
    pub fail_open: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: Duration::from_secs(3), quarantine: Duration::from_secs(3), fail_open: true }
    }
}

/// How the replica stands with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Not heard of yet.
    Never,
    /// Heard of within the lease.
    Near,
    /// Not for longer than that.
    Lost,
}

/// Totals of this replica, of one pool and one generation of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    got: u64,
    back: u64,
    /// What of it may stay here while nobody else waits for it, and what must go as it gets free.
    part: u32,
    owe: u32,
    /// When it was last seen in use.
    used: Option<Moment>,
    /// Since when more of it has been idle than this replica may keep.
    idle_since: Option<Moment>,
}

impl Account {
    fn held(self) -> u32 {
        u32::try_from(self.got.saturating_sub(self.back)).unwrap_or(u32::MAX)
    }

    /// What requests may hold of it.
    fn usable(self) -> u32 {
        self.held().saturating_sub(self.owe)
    }
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Replica {
    name: String,
    terms: Terms,
    generation: String,
    membership: String,
    /// Of the last question.
    number: u64,
    base: Option<i128>,
    accounts: BTreeMap<Pool, Account>,
    rivals: Vec<Rival>,
    members: u32,
    /// When the last question was sent that was answered.
    heard: Option<Moment>,
    /// The last question was not answered.
    unanswered: bool,
    /// The store gives nothing out yet.
    closed: bool,
    leaving: bool,
    /// It stood still itself for longer than its lease, and has not heard of the store since then.
    slept: Option<Moment>,
}

impl Replica {
    /// One that has not heard of the store. `name` is never used again by another process.
    pub fn new(name: String, terms: Terms) -> Self {
        Self {
            name,
            terms,
            generation: String::new(),
            membership: String::new(),
            number: 0,
            base: None,
            accounts: BTreeMap::new(),
            rivals: Vec::new(),
            members: 0,
            heard: None,
            unanswered: false,
            closed: true,
            leaving: false,
            slept: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Replicas that lived when the store last answered, this one included.
    pub const fn members(&self) -> u32 {
        self.members
    }

    /// What it holds of a pool.
    pub fn held(&self, pool: Pool) -> u32 {
        self.accounts.get(&pool).map_or(0, |account| account.held())
    }

    /// Whether the store's last answer is younger than the lease.
    pub fn contact(&self, now: Moment) -> Contact {
        match self.heard {
            None => Contact::Never,
            Some(heard) if now.since(heard) < self.terms.lease => Contact::Near,
            Some(_) => Contact::Lost,
        }
    }

    /// Whether requests can run here, now or when others give slots back.
    pub fn is_ready(&self, now: Moment, queue: &FairQueue) -> bool {
        queue.leased_slots() != Some(0) || (self.contact(now) == Contact::Near && !self.closed)
    }

    /// Whether what has changed in the queue is worth a question at once: something waits that slots are lacking for
    /// and the store does not know, or others wait for what is idle here.
    pub fn is_urgent(&self, queue: &FairQueue) -> bool {
        if self.base.is_none() || self.closed || self.unanswered {
            return false;
        }
        let idle = |pool: &Pool| self.held(*pool) > queue.in_use(*pool);
        self.rivals.iter().any(|rival| rival.need.iter().any(idle)) || queue.wants_more()
    }

    /// Before each decision: one that stood still itself for longer than its lease lets nobody in until it has heard of
    /// the store, which may have given all it held to others.
    pub fn look(&mut self, now: Moment, queue: &mut FairQueue) {
        if self.slept.is_none() && !self.unanswered && self.contact(now) == Contact::Lost {
            self.slept = Some(now);
            self.lease(now, queue);
        }
    }

    /// After the queue was built anew.
    pub fn resume(&mut self, now: Moment, queue: &mut FairQueue) {
        self.lease(now, queue);
    }

    /// From now on it takes nothing more.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// Gives back what it may not keep, and says what it wants.
    pub fn ask(&mut self, now: Moment, queue: &mut FairQueue, fresh: impl FnOnce() -> String) -> Ask {
        self.look(now, queue);
        // What is given back into nowhere serves nobody; one that leaves serves nobody either.
        if !self.unanswered && (!self.closed || self.leaving) {
            self.give_back(now, queue);
        }
        self.lease(now, queue);
        self.number = self.number.saturating_add(1);
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Ask {
            replica: self.name.clone(),
            generation: self.generation.clone(),
            new_generation: fresh(),
            membership: self.membership.clone(),
            number: self.number,
            new_base: queue.base_for_a_fleet().to_string(),
            leaving: self.leaving && queue.in_flight() == 0,
            lease: millis(self.terms.lease),
            quarantine: millis(self.terms.quarantine),
            pools: self.report(now, queue),
            wants: match self.base {
                Some(base) if !self.leaving => queue.wants(now, base),
                _ => Vec::new(),
            },
        }
    }

    fn report(&self, now: Moment, queue: &FairQueue) -> BTreeMap<Pool, Report> {
        let floor = self.floor(now, queue);
        let mut pools: BTreeMap<Pool, Report> = BTreeMap::new();
        // One that leaves has no part in what is spread.
        for (pool, cap) in queue.caps().filter(|_| !self.leaving) {
            pools.entry(pool).or_default().cap = Some(cap);
        }
        for (pool, account) in &self.accounts {
            let said = pools.entry(*pool).or_default();
            (said.back, said.seen, said.hold) = (account.back, account.got, account.held());
        }
        for (pool, said) in &mut pools {
            said.used = queue.in_use(*pool);
            let floor = if *pool == Pool::Slots { floor } else { 0 };
            said.hold = said.hold.max(said.used).max(floor);
        }
        pools
    }

    /// Takes an answer to a question that was sent at `sent`.
    pub fn hear(&mut self, now: Moment, sent: Moment, queue: &mut FairQueue, answer: Answer) {
        if answer.joined || answer.generation != self.generation || answer.membership != self.membership {
            self.generation = answer.generation;
            self.membership = answer.membership;
            self.accounts.clear();
        }
        // Of the others the store keeps no account any more.
        self.accounts.retain(|pool, _| answer.pools.contains_key(pool));
        for (pool, holding) in answer.pools {
            let account = self.accounts.entry(pool).or_default();
            account.got = account.got.max(holding.got);
            account.back = account.back.max(holding.back);
            (account.part, account.owe) = (holding.part, holding.owe);
        }
        self.unanswered = false;
        self.base = answer.base.parse().ok();
        self.closed = answer.closed_for > 0;
        self.members = answer.members;
        // While nothing is given out, what is left to others would lie idle.
        self.rivals = if self.closed { Vec::new() } else { answer.rivals };
        self.heard = self.heard.max(Some(sent));
        // It may have slept between the question and the answer.
        self.slept = (self.contact(now) == Contact::Lost).then_some(now);
        self.lease(now, queue);
    }

    /// Without an answer nobody knows who waits elsewhere: what is held serves those who are here. When the lease is over
    /// it stays what it is, or, if it is so configured, shrinks to what is in use.
    pub fn unheard(&mut self, now: Moment, queue: &mut FairQueue) {
        self.look(now, queue);
        self.unanswered = true;
        self.rivals.clear();
        if self.slept.is_some_and(|since| now.since(since) >= self.terms.lease) {
            // There is nobody to hear of.
            self.slept = None;
        }
        if self.contact(now) == Contact::Lost {
            for (pool, account) in &mut self.accounts {
                // What was given back stays so: the store may have heard of it, or will.
                if !self.terms.fail_open {
                    let idle = account.held().saturating_sub(queue.in_use(*pool));
                    account.back = account.back.saturating_add(u64::from(idle));
                }
            }
        }
        self.lease(now, queue);
    }

    /// Brings the queue in line with what is held, and lets go on who may.
    fn lease(&mut self, now: Moment, queue: &mut FairQueue) {
        let floor = self.floor(now, queue);
        let sure = self.accounts.iter().filter(|_| self.slept.is_none());
        let leases: BTreeMap<Pool, u32> = sure.map(|(pool, account)| (*pool, account.usable())).collect();
        queue.set_leases(&leases, floor);
        queue.set_rivals(self.base.unwrap_or_default(), self.heard.unwrap_or_default(), &self.rivals);
        queue.set_cut_off(self.slept.is_none() && self.contact(now) != Contact::Near);
        queue.go_on(now);
    }

    /// Slots that it has although it holds none: one, without the store, where that is a small part of all.
    fn floor(&self, now: Moment, queue: &FairQueue) -> u32 {
        let cap = queue.caps().find(|(pool, _)| *pool == Pool::Slots).map_or(0, |(_, cap)| cap);
        let small_part = cap >= LARGE.saturating_mul(self.members.max(1));
        let away = self.slept.is_none() && self.contact(now) != Contact::Near;
        u32::from(self.terms.fail_open && small_part && away && !self.leaving)
    }

    fn give_back(&mut self, now: Moment, queue: &FairQueue) {
        let quiet = self.quiet_tenants(now, queue);
        for (pool, account) in &mut self.accounts {
            let held = account.held();
            let idle = held.saturating_sub(queue.in_use(*pool));
            let wanted = self.rivals.iter().filter(|rival| rival.need.contains(pool));
            let wanted = wanted.fold(0_u32, |sum, rival| sum.saturating_add(rival.count));
            let part = if self.leaving || quiet.contains(pool) { 0 } else { account.part };
            let beyond = held.saturating_sub(part).min(idle);
            let since = (beyond > 0).then(|| account.idle_since.unwrap_or(now));
            account.idle_since = since;
            let ripe = self.leaving || since.is_some_and(|since| now.since(since) >= IDLE);
            let back = wanted.max(account.owe).min(idle).max(if ripe { beyond } else { 0 });
            account.back = account.back.saturating_add(u64::from(back));
            account.owe = account.owe.saturating_sub(back);
        }
    }

    /// Tenants whose slots do not stay at hand any longer.
    fn quiet_tenants(&mut self, now: Moment, queue: &FairQueue) -> BTreeSet<Pool> {
        let mut idle: Vec<(Moment, Pool)> = Vec::new();
        for (pool, account) in &mut self.accounts {
            if account.used.is_none() || queue.in_use(*pool) > 0 {
                account.used = Some(now);
            } else if let (Pool::Tenant(_), Some(used)) = (pool, account.used) {
                idle.push((used, *pool));
            }
        }
        idle.sort_unstable_by(|one, other| other.cmp(one));
        let place = idle.partition_point(|(used, _)| now.since(*used) < QUIET).min(QUIET_TENANTS);
        idle.into_iter().skip(place).map(|(_, pool)| pool).collect()
    }

    /// The pools it holds something of.
    pub fn pools(&self) -> BTreeSet<Pool> {
        self.accounts.iter().filter(|(_, account)| account.held() > 0).map(|(pool, _)| *pool).collect()
    }
}
