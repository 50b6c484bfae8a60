//! The store's rules: who holds which slots, and who gets the free ones.
//!
//! Is: what the script `slots.lua` does, in the same order, for simulations and for the test that holds the script
//! against it. Is not: used by a gateway. Invariant: what replicas hold of a pool never adds up to more than its size,
//! but for what a replica that the store had given up, or a store that had lost everything, is told of.

use super::{Answer, Ask, Holding, Pool, Rival, Want};
use crate::ids::{GroupId, TenantId};
use std::collections::{BTreeMap, BTreeSet};

/// Rivals told at most.
const RIVALS: usize = 16;
/// Members call ten times a second. A pause longer than this, in ms, is one of the store.
const STILL: u64 = 1000;
/// Grants of one call at most.
const GRANTS: u32 = 4096;

/// A member's total at the store, of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    got: u64,
    back: u64,
}

impl Account {
    const fn held(self) -> u64 {
        self.got.saturating_sub(self.back)
    }
}

#[derive(Clone, Debug, Default)]
struct Member {
    till: u64,
    membership: String,
    /// Of the last question.
    number: u64,
    accounts: BTreeMap<Pool, Account>,
    /// The highest total of an account that was closed: the next ones begin there, so that no total falls.
    floor: u64,
    caps: BTreeMap<Pool, u32>,
    /// With the time since when the first of it has waited.
    wants: Vec<(Want, u64)>,
    /// It was told to ask and has not yet.
    rung: bool,
    /// It knows that others wait.
    pressed: bool,
}

impl Member {
    fn held(&self, pool: Pool) -> u64 {
        self.accounts.get(&pool).copied().unwrap_or_default().held()
    }

    fn give(&mut self, pool: Pool, count: u64) {
        let empty = Account { got: self.floor, back: self.floor };
        let account = self.accounts.entry(pool).or_insert(empty);
        account.got = account.got.saturating_add(count);
    }

    /// Of what it holds nothing of nothing is kept.
    fn close_accounts(&mut self) {
        let Self { accounts, floor, .. } = self;
        accounts.retain(|_, account| {
            if account.held() == 0 {
                *floor = account.got.max(*floor);
            }
            account.held() > 0
        });
    }
}

/// A want in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    group_tag: i64,
    group: GroupId,
    tag: i64,
    tenant: TenantId,
    since: u64,
    member: String,
    place: usize,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub struct Broker {
    generation: String,
    base: String,
    opens: u64,
    /// The last call.
    last: u64,
    members: BTreeMap<String, Member>,
}

impl Broker {
    /// One call of the script at `now`, Unix milliseconds.
    pub fn exchange(&mut self, now: u64, ask: &Ask) -> Answer {
        if self.generation.is_empty() {
            self.generation = ask.new_generation.clone();
            self.base = ask.new_base.clone();
            self.opens = now.saturating_add(ask.quarantine);
        }
        // A store that stood still: no time has passed for its members, who could not be heard.
        let set_back = self.last.saturating_sub(now);
        if set_back > 0 {
            // Its clock was: what it promised until then comes as much earlier.
            let earlier = |at: u64| at.saturating_sub(set_back);
            self.opens = earlier(self.opens);
            self.members.values_mut().for_each(|member| member.till = earlier(member.till));
        }
        let stood_still = now.saturating_sub(self.last);
        if stood_still > STILL {
            self.members
                .values_mut()
                .for_each(|member| member.till = member.till.saturating_add(stood_still));
        }
        self.last = now;
        self.members.retain(|_, member| member.till > now);
        let mut ring = BTreeSet::new();
        if ask.leaving {
            self.members.remove(&ask.replica);
            self.hand_out(now, &mut ring);
            return self.answer(now, ask, false, ring);
        }
        let joined = self.admit(now, ask);
        self.hand_out(now, &mut ring);
        self.top_up(now, ask);
        self.press(&mut ring);
        self.answer(now, ask, joined, ring)
    }

    /// Notes what a member says. Whether it was not known.
    fn admit(&mut self, now: u64, ask: &Ask) -> bool {
        let known = self.members.get(&ask.replica).filter(|member| member.membership == ask.membership);
        let joined = ask.generation != self.generation || known.is_none();
        if !joined && known.is_some_and(|member| ask.number <= member.number) {
            return false;
        }
        if joined {
            let member = Member { membership: ask.new_generation.clone(), ..Member::default() };
            self.members.insert(ask.replica.clone(), member);
        }
        let closed = now < self.opens;
        let Some(member) = self.members.get_mut(&ask.replica) else { return joined };
        member.number = ask.number;
        member.till = now.saturating_add(ask.lease);
        member.rung = false;
        member.caps = ask.pools.iter().filter_map(|(pool, said)| Some((*pool, said.cap?))).collect();
        let wants = ask.wants.iter().filter(|want| !want.need.is_empty());
        member.wants = wants.map(|want| (want.clone(), now.saturating_sub(want.age))).collect();
        for (pool, said) in &ask.pools {
            // While nothing is given out, what it may use is its own. Later the rest may be another's. What runs is
            // counted, whoever let it.
            let own = if joined && closed { said.hold } else { said.used };
            if let Some(account) = member.accounts.get_mut(pool) {
                account.back = account.back.max(said.back).min(account.got);
            }
            let more = u64::from(own).saturating_sub(member.held(*pool));
            if more > 0 {
                member.give(*pool, more);
            }
        }
        if joined {
            return true;
        }
        // What it was given and has not heard of will serve the first of those who wait.
        for (want, _) in &mut member.wants {
            let unseen = want.need.iter().filter_map(|pool| {
                let account = member.accounts.get(pool)?;
                let seen = ask.pools.get(pool).map_or(0, |said| said.seen);
                Some(account.got.saturating_sub(seen.max(account.back)))
            });
            let unseen = u32::try_from(unseen.max().unwrap_or_default()).unwrap_or(u32::MAX).min(want.count);
            advance(want, unseen);
        }
        member.wants.retain(|(want, _)| want.count > 0);
        false
    }

    /// The size of a pool: the smallest that a member knows.
    fn cap(&self, pool: Pool) -> Option<u64> {
        self.members.values().filter_map(|member| member.caps.get(&pool)).min().map(|cap| u64::from(*cap))
    }

    fn free(&self, pool: Pool) -> u64 {
        self.cap(pool).map_or(u64::MAX, |cap| cap.saturating_sub(self.held(pool)))
    }

    /// What of these nothing is free of: what somebody must give back.
    fn exhausted(&self, need: &[Pool]) -> Vec<Pool> {
        need.iter().filter(|pool| self.free(**pool) == 0).copied().collect()
    }

    /// Everybody's wants, the next one first: the group with the smallest tag, in it the tenant with the smallest tag, of
    /// it what has waited longest. Members know tags with different delays; the largest is the newest.
    fn order(&self) -> Vec<Entry> {
        let mut groups: BTreeMap<GroupId, i64> = BTreeMap::new();
        let mut tenants: BTreeMap<TenantId, i64> = BTreeMap::new();
        for (want, _) in self.members.values().flat_map(|member| &member.wants) {
            let tag = groups.entry(want.group).or_insert(want.group_tag);
            *tag = (*tag).max(want.group_tag);
            let tag = tenants.entry(want.tenant).or_insert(want.tag);
            *tag = (*tag).max(want.tag);
        }
        let mut all = Vec::new();
        for (name, member) in &self.members {
            for (place, (want, since)) in member.wants.iter().enumerate() {
                all.push(Entry {
                    group_tag: groups.get(&want.group).copied().unwrap_or_default(),
                    group: want.group,
                    tag: tenants.get(&want.tenant).copied().unwrap_or_default(),
                    tenant: want.tenant,
                    since: *since,
                    member: name.clone(),
                    place,
                });
            }
        }
        all.sort();
        all
    }

    /// Gives free slots to those who are next.
    fn hand_out(&mut self, now: u64, ring: &mut BTreeSet<String>) {
        if now < self.opens {
            return;
        }
        for _ in 0..GRANTS {
            let fits = |entry: &Entry| {
                let want = self.members.get(&entry.member).and_then(|member| member.wants.get(entry.place));
                want.is_some_and(|(want, _)| want.need.iter().all(|pool| self.free(*pool) > 0))
            };
            let Some(Entry { member: name, place, .. }) = self.order().into_iter().find(fits) else { return };
            let Some(member) = self.members.get_mut(&name) else { return };
            let Some((want, _)) = member.wants.get_mut(place) else { return };
            let need = want.need.clone();
            advance(want, 1);
            if want.count == 0 {
                member.wants.remove(place);
            }
            need.iter().for_each(|pool| member.give(*pool, 1));
            ring.insert(name);
        }
    }

    /// What a member may keep of a pool while nobody waits for it: the same as all who name it, those with the smaller
    /// names one more.
    fn part(&self, name: &str, pool: Pool) -> u64 {
        let named: Vec<&String> = self
            .members
            .iter()
            .filter(|(_, member)| member.caps.contains_key(&pool))
            .map(|(name, _)| name)
            .collect();
        let Some(place) = named.iter().position(|other| *other == name) else { return 0 };
        let (count, place) =
            (u64::try_from(named.len()).unwrap_or(1), u64::try_from(place).unwrap_or_default());
        let cap = self.cap(pool).unwrap_or_default();
        cap / count + u64::from(place < cap % count)
    }

    /// What a member must give back, because more is held than there is: each of them all that is too much, so that
    /// nobody lets another one in before it is gone.
    fn owe(&self, name: &str, pool: Pool) -> u64 {
        let Some(cap) = self.cap(pool) else { return 0 };
        let own = self.members.get(name).map_or(0, |member| member.held(pool));
        own.min(self.held(pool).saturating_sub(cap))
    }

    /// While nobody waits for it each member may have its part at hand.
    fn top_up(&mut self, now: u64, ask: &Ask) {
        if now < self.opens {
            return;
        }
        let wants = self.members.values().flat_map(|member| &member.wants);
        let wanted: BTreeSet<Pool> = wants.flat_map(|(want, _)| want.need.iter().copied()).collect();
        for (pool, said) in &ask.pools {
            if said.cap.is_none() || wanted.contains(pool) {
                continue;
            }
            let (part, free) = (self.part(&ask.replica, *pool), self.free(*pool));
            let Some(member) = self.members.get_mut(&ask.replica) else { return };
            let more = part.saturating_sub(member.held(*pool)).min(free);
            if more > 0 {
                member.give(*pool, more);
            }
        }
    }

    /// Who holds something that others wait for, and does not know it, is told to ask.
    fn press(&mut self, ring: &mut BTreeSet<String>) {
        let mut wanted: Vec<(String, Pool)> = Vec::new();
        for (name, member) in &self.members {
            let need = member.wants.iter().flat_map(|(want, _)| self.exhausted(&want.need));
            wanted.extend(need.map(|pool| (name.clone(), pool)));
        }
        for (name, member) in &self.members {
            let holds = |(by, pool): &(String, Pool)| by != name && member.held(*pool) > 0;
            if !member.pressed && wanted.iter().any(holds) {
                ring.insert(name.clone());
            }
        }
    }

    fn answer(&mut self, now: u64, ask: &Ask, joined: bool, mut ring: BTreeSet<String>) -> Answer {
        let mut rivals = Vec::new();
        for Entry { group_tag, tag, since, member, place, .. } in self.order() {
            let want = self.members.get(&member).and_then(|member| member.wants.get(place));
            let Some((want, _)) = want.filter(|_| member != ask.replica && rivals.len() < RIVALS) else {
                continue;
            };
            let need = self.exhausted(&want.need);
            if need.is_empty() {
                continue;
            }
            rivals.push(Rival {
                need,
                group: want.group,
                tenant: want.tenant,
                age: now.saturating_sub(since),
                group_tag,
                tag,
                count: want.count,
            });
        }
        ring.remove(&ask.replica);
        ring.retain(|name| {
            self.members.get_mut(name).is_some_and(|member| !std::mem::replace(&mut member.rung, true))
        });
        let mut membership = String::new();
        let mut pools: Vec<Pool> = Vec::new();
        if let Some(member) = self.members.get_mut(&ask.replica) {
            member.pressed = !rivals.is_empty();
            member.close_accounts();
            membership.clone_from(&member.membership);
            pools.extend(member.accounts.keys());
        }
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let holding = |pool: &Pool| {
            let account = self.members.get(&ask.replica)?.accounts.get(pool)?;
            let (part, owe) = (self.part(&ask.replica, *pool), self.owe(&ask.replica, *pool));
            Some((
                *pool,
                Holding { got: account.got, back: account.back, part: small(part), owe: small(owe) },
            ))
        };
        let pools = pools.iter().filter_map(holding).collect();
        Answer {
            generation: self.generation.clone(),
            joined,
            membership,
            closed_for: self.opens.saturating_sub(now),
            base: self.base.clone(),
            pools,
            rivals,
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            ring: ring.into_iter().collect(),
            time: now,
        }
    }

    /// Accounts kept, of all members.
    pub fn accounts(&self) -> usize {
        self.members.values().map(|member| member.accounts.len()).sum()
    }

    /// What members hold of a pool, together.
    pub fn held(&self, pool: Pool) -> u64 {
        self.members.values().map(|member| member.held(pool)).sum()
    }
}

/// So many of them have been served.
fn advance(want: &mut Want, by: u32) {
    let steps = i64::from(by);
    want.group_tag = want.group_tag.saturating_add(want.group_step.saturating_mul(steps));
    want.tag = want.tag.saturating_add(want.step.saturating_mul(steps));
    want.count = want.count.saturating_sub(by);
}
