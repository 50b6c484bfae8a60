//! The store's rules: who holds which slots, and who gets the free ones.
//!
//! Is: what the script `slots.lua` does, in the same order, for simulations and for the test that holds the script
//! against it. Is not: used by a gateway. Invariant: what replicas hold of a pool never adds up to more than its size,
//! but for what a replica that the store had given up, or a store that had lost everything, is told of.

use super::{Answer, Ask, Pool, Rival, Want};
use crate::ids::GroupId;
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
    caps: BTreeMap<Pool, u32>,
    wants: Vec<Want>,
    /// It was told to ask and has not yet.
    rung: bool,
    /// It knows that others wait.
    pressed: bool,
}

impl Member {
    fn held(&self, pool: Pool) -> u64 {
        self.accounts.get(&pool).copied().unwrap_or_default().held()
    }
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
            let held = ask.hold.iter().filter(|(_, held)| **held > 0);
            let accounts =
                held.map(|(pool, held)| (*pool, Account { got: u64::from(*held), back: 0 })).collect();
            let membership = ask.new_generation.clone();
            self.members.insert(ask.replica.clone(), Member { accounts, membership, ..Member::default() });
        }
        let Some(member) = self.members.get_mut(&ask.replica) else { return joined };
        member.number = ask.number;
        member.till = now.saturating_add(ask.lease);
        member.rung = false;
        member.caps = ask.caps.clone();
        member.wants = ask.wants.iter().filter(|want| !want.need.is_empty()).cloned().collect();
        if joined {
            return true;
        }
        for (pool, back) in &ask.back {
            let account = member.accounts.entry(*pool).or_default();
            account.back = account.back.max(*back).min(account.got);
        }
        // What it was given and has not heard of will serve the first of those who wait.
        for want in &mut member.wants {
            let unseen = want.need.iter().filter_map(|pool| {
                let got = member.accounts.get(pool)?.got;
                Some(got.saturating_sub(ask.seen.get(pool).copied().unwrap_or_default()))
            });
            let unseen = u32::try_from(unseen.max().unwrap_or_default()).unwrap_or(u32::MAX).min(want.count);
            advance(want, unseen);
        }
        member.wants.retain(|want| want.count > 0);
        false
    }

    /// The size of a pool: the smallest that a member knows.
    fn cap(&self, pool: Pool) -> Option<u64> {
        self.members.values().filter_map(|member| member.caps.get(&pool)).min().map(|cap| u64::from(*cap))
    }

    fn free(&self, pool: Pool) -> u64 {
        let held = self.members.values().map(|member| member.held(pool)).sum();
        self.cap(pool).map_or(u64::MAX, |cap| cap.saturating_sub(held))
    }

    /// Everybody's wants, the next one first: the group with the smallest tag, in it the smallest tag. Members know a
    /// group's tag with different delays; the largest is the newest.
    fn order(&self) -> Vec<(i64, String, usize)> {
        let mut groups: BTreeMap<GroupId, i64> = BTreeMap::new();
        for want in self.members.values().flat_map(|member| &member.wants) {
            let tag = groups.entry(want.group).or_insert(want.group_tag);
            *tag = (*tag).max(want.group_tag);
        }
        let mut all = Vec::new();
        for (name, member) in &self.members {
            for (place, want) in member.wants.iter().enumerate() {
                let group = groups.get(&want.group).copied().unwrap_or_default();
                all.push((group, want.group, want.tag, name.clone(), place));
            }
        }
        all.sort();
        all.into_iter().map(|(group, _, _, name, place)| (group, name, place)).collect()
    }

    /// Gives free slots to those who are next.
    fn hand_out(&mut self, now: u64, ring: &mut BTreeSet<String>) {
        if now < self.opens {
            return;
        }
        for _ in 0..GRANTS {
            let fits = |(_, name, place): &(i64, String, usize)| {
                let want = self.members.get(name).and_then(|member| member.wants.get(*place));
                want.is_some_and(|want| want.need.iter().all(|pool| self.free(*pool) > 0))
            };
            let Some((_, name, place)) = self.order().into_iter().find(fits) else { return };
            let Some(member) = self.members.get_mut(&name) else { return };
            let Some(want) = member.wants.get_mut(place) else { return };
            for pool in &want.need {
                let account = member.accounts.entry(*pool).or_default();
                account.got = account.got.saturating_add(1);
            }
            advance(want, 1);
            if want.count == 0 {
                member.wants.remove(place);
            }
            ring.insert(name);
        }
    }

    /// While nobody waits each member may have its part of what is spread, to have it at hand.
    fn top_up(&mut self, now: u64, ask: &Ask) {
        if now < self.opens || self.members.values().any(|member| !member.wants.is_empty()) {
            return;
        }
        let members = u64::try_from(self.members.len()).unwrap_or(1).max(1);
        for pool in ask.caps.keys().filter(|pool| pool.is_spread()) {
            let (Some(cap), free) = (self.cap(*pool), self.free(*pool)) else { continue };
            let Some(member) = self.members.get_mut(&ask.replica) else { return };
            let more = (cap / members).saturating_sub(member.held(*pool)).min(free);
            if more > 0 {
                let account = member.accounts.entry(*pool).or_default();
                account.got = account.got.saturating_add(more);
            }
        }
    }

    /// Who holds something that others wait for, and does not know it, is told to ask.
    fn press(&mut self, ring: &mut BTreeSet<String>) {
        let mut wanted: Vec<(String, Pool)> = Vec::new();
        for (name, member) in &self.members {
            wanted.extend(member.wants.iter().flat_map(|want| &want.need).map(|pool| (name.clone(), *pool)));
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
        for (group_tag, name, place) in self.order() {
            let want = self.members.get(&name).and_then(|member| member.wants.get(place));
            let Some(want) = want.filter(|_| name != ask.replica && rivals.len() < RIVALS) else { continue };
            rivals.push(Rival {
                need: want.need.clone(),
                group: want.group,
                group_tag,
                tag: want.tag,
                count: want.count,
            });
        }
        ring.remove(&ask.replica);
        ring.retain(|name| {
            self.members.get_mut(name).is_some_and(|member| !std::mem::replace(&mut member.rung, true))
        });
        let member = self.members.get_mut(&ask.replica);
        let got =
            member.as_ref().map(|member| member.accounts.iter().map(|(pool, account)| (*pool, account.got)));
        let got = got.map(Iterator::collect).unwrap_or_default();
        let membership = member.as_ref().map(|member| member.membership.clone()).unwrap_or_default();
        if let Some(member) = member {
            member.pressed = !rivals.is_empty();
        }
        Answer {
            generation: self.generation.clone(),
            joined,
            membership,
            closed_for: self.opens.saturating_sub(now),
            base: self.base.clone(),
            got,
            rivals,
            members: u32::try_from(self.members.len()).unwrap_or(u32::MAX),
            ring: ring.into_iter().collect(),
            time: now,
        }
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
