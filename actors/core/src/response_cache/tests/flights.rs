//! Leaders and followers: by hand, and in any interleaving against a plain book of who should know what.

use crate::ids::{ModelId, TenantId};
use crate::response_cache::WaiterId;
use crate::response_cache::{
    CacheKey, Effect, FlightId, Flights, Joined, Limits, Mark, MarkOf, Material, Purge,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

const LIMITS: Limits = Limits { flights: 8, followers: 4, followers_total: 10 };

fn tenant(number: u8) -> TenantId {
    TenantId(Uuid::from_u128(number.into()))
}

fn model(number: u8) -> ModelId {
    ModelId(Uuid::from_u128(number.into()))
}

/// The key of body `number`; even ones are of tenant 0, odd ones of tenant 1.
fn key(number: u8) -> CacheKey {
    let upstream: Mark = MarkOf { base: None, upstream_model: "m", api_key: None, headers: &[] }.mark();
    Material {
        tenant: tenant(number % 2),
        namespace: None,
        route: "r",
        query: "",
        model: model(0),
        upstream,
        stream: false,
        headers: &[],
        body: &[number],
    }
    .key()
}

fn flights() -> Flights {
    Flights::resume(LIMITS, 0)
}

fn lead(joined: Joined) -> (FlightId, WaiterId) {
    match joined {
        Joined::Lead(flight, waiter) => (flight, waiter),
        other => panic!("{other:?}"),
    }
}

fn follow(joined: Joined) -> (FlightId, WaiterId) {
    match joined {
        Joined::Follow(flight, waiter) => (flight, waiter),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_lead_passes_on_in_order_of_arrival_until_one_is_sent() {
    let mut flights = flights();
    let (id, first) = lead(flights.join(key(0), model(0)));
    let (_, second) = follow(flights.join(key(0), model(0)));
    let (_, third) = follow(flights.join(key(0), model(0)));
    flights.leave(id, first);
    assert_eq!(flights.poll_effect(), Some(Effect::Lead(id, second)));
    assert!(!flights.send(id, first), "one that left does not lead");
    flights.leave(id, second);
    assert_eq!(flights.poll_effect(), Some(Effect::Lead(id, third)));
    let (_, late) = follow(flights.join(key(0), model(0)));
    assert!(flights.send(id, third));
    assert_eq!(flights.poll_effect(), Some(Effect::Sent(id, late)));
    let (_, later) = follow(flights.join(key(0), model(0)));
    assert_eq!(flights.poll_effect(), Some(Effect::Sent(id, later)));
    flights.finish(id);
    assert_eq!((flights.poll_effect(), flights.dump().flights, flights.dump().followers), (None, 0, 0));
    lead(flights.join(key(0), model(0)));
}

#[test]
fn a_leader_without_followers_leaves_nothing() {
    let mut flights = flights();
    let (id, leader) = lead(flights.join(key(0), model(0)));
    flights.leave(id, leader);
    assert_eq!((flights.poll_effect(), flights.dump().flights, flights.dump().open), (None, 0, 0));
}

#[test]
fn a_purge_lets_those_that_ride_arrive_and_keeps_nothing() {
    let mut flights = flights();
    let (id, leader) = lead(flights.join(key(0), model(7)));
    let (other, _) = lead(flights.join(key(1), model(7)));
    flights.send(id, leader);
    flights.purge(Purge { tenant: Some(tenant(0)), model: Some(model(8)) });
    assert!(flights.may_keep(id));
    flights.purge(Purge { tenant: Some(tenant(0)), model: Some(model(7)) });
    assert!(!flights.may_keep(id) && flights.may_keep(other));
    let (fresh, _) = lead(flights.join(key(0), model(7)));
    assert!(flights.may_keep(fresh));
    flights.finish(id);
    assert_eq!(flights.join(key(0), model(7)), Joined::Follow(fresh, WaiterId(flights.dump().last_id)));
    assert!(!flights.may_keep(id), "a flight that is over keeps nothing");
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8),
    /// The leader of one of the flights is sent.
    Send(usize),
    /// A leader that was not sent leaves.
    LeaderLeaves(usize),
    FollowerLeaves(usize),
    Finish(usize),
    Detach(usize),
    Purge(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0_u8..4).prop_map(Step::Join),
        3 => any::<usize>().prop_map(Step::Send),
        3 => any::<usize>().prop_map(Step::LeaderLeaves),
        3 => any::<usize>().prop_map(Step::FollowerLeaves),
        2 => any::<usize>().prop_map(Step::Finish),
        1 => any::<usize>().prop_map(Step::Detach),
        1 => (0_u8..2).prop_map(Step::Purge),
    ]
}

/// What should be: kept apart from the code under test, as maps of who is what.
#[derive(Default)]
struct Book {
    /// Key, and the leader of one that is not sent.
    flying: BTreeMap<FlightId, (u8, Option<WaiterId>)>,
    /// Followers that wait to hear, in order; and those that have heard.
    waiting: BTreeMap<FlightId, Vec<WaiterId>>,
    riding: BTreeMap<FlightId, BTreeSet<WaiterId>>,
    open: BTreeMap<u8, FlightId>,
    purged: BTreeSet<FlightId>,
}

fn pick<T: Clone>(list: Vec<T>, at: usize) -> Option<T> {
    (!list.is_empty()).then(|| list[at % list.len()].clone())
}

impl Book {
    fn leaders(&self) -> Vec<(FlightId, WaiterId)> {
        self.flying.iter().filter_map(|(id, (_, leader))| Some((*id, (*leader)?))).collect()
    }

    fn forget(&mut self, id: FlightId) {
        self.flying.remove(&id);
        self.waiting.remove(&id);
        self.riding.remove(&id);
        self.open.retain(|_, open| *open != id);
    }

    fn followers(&self, id: FlightId) -> usize {
        self.waiting[&id].len() + self.riding[&id].len()
    }

    fn all_followers(&self) -> usize {
        self.flying.keys().map(|id| self.followers(*id)).sum()
    }

    fn join(&mut self, flights: &mut Flights, number: u8) {
        let joined = flights.join(key(number), model(0));
        match (self.open.get(&number).copied(), joined) {
            (Some(id), Joined::Follow(told, waiter)) => {
                assert_eq!(id, told, "the flight of another key");
                let sent = self.flying[&id].1.is_none();
                if sent {
                    assert_eq!(flights.poll_effect(), Some(Effect::Sent(id, waiter)));
                    self.riding.get_mut(&id).unwrap().insert(waiter);
                } else {
                    self.waiting.get_mut(&id).unwrap().push(waiter);
                }
            }
            (Some(id), Joined::Alone) => assert!(
                self.followers(id) == LIMITS.followers || self.all_followers() == LIMITS.followers_total
            ),
            (None, Joined::Lead(id, waiter)) => {
                assert!(self.flying.insert(id, (number, Some(waiter))).is_none());
                self.waiting.insert(id, Vec::new());
                self.riding.insert(id, BTreeSet::new());
                self.open.insert(number, id);
            }
            (None, Joined::Alone) => assert_eq!(self.flying.len(), LIMITS.flights),
            (open, joined) => panic!("{open:?} {joined:?}"),
        }
    }

    fn send(&mut self, flights: &mut Flights, id: FlightId, leader: WaiterId) {
        assert!(flights.send(id, leader));
        assert!(!flights.send(id, leader), "sent once");
        self.flying.get_mut(&id).unwrap().1 = None;
        for waiter in std::mem::take(self.waiting.get_mut(&id).unwrap()) {
            assert_eq!(flights.poll_effect(), Some(Effect::Sent(id, waiter)));
            self.riding.get_mut(&id).unwrap().insert(waiter);
        }
    }

    fn leader_leaves(&mut self, flights: &mut Flights, id: FlightId, leader: WaiterId) {
        flights.leave(id, leader);
        let waiting = self.waiting.get_mut(&id).unwrap();
        if waiting.is_empty() {
            return self.forget(id);
        }
        let next = waiting.remove(0);
        assert_eq!(flights.poll_effect(), Some(Effect::Lead(id, next)));
        self.flying.get_mut(&id).unwrap().1 = Some(next);
    }

    fn follower_leaves(&mut self, flights: &mut Flights, at: usize) {
        let waiting = self.waiting.iter().flat_map(|(id, list)| list.iter().map(|waiter| (*id, *waiter)));
        let riding = self.riding.iter().flat_map(|(id, list)| list.iter().map(|waiter| (*id, *waiter)));
        if let Some((id, waiter)) = pick(waiting.chain(riding).collect(), at) {
            flights.leave(id, waiter);
            self.waiting.get_mut(&id).unwrap().retain(|known| *known != waiter);
            self.riding.get_mut(&id).unwrap().remove(&waiter);
        }
    }

    fn take(&mut self, flights: &mut Flights, step: Step) {
        let sent = |book: &Self| -> Vec<FlightId> {
            book.flying.iter().filter(|(_, (_, leader))| leader.is_none()).map(|(id, _)| *id).collect()
        };
        match step {
            Step::Join(number) => self.join(flights, number),
            Step::Send(at) => {
                if let Some((id, leader)) = pick(self.leaders(), at) {
                    self.send(flights, id, leader);
                }
            }
            Step::LeaderLeaves(at) => {
                if let Some((id, leader)) = pick(self.leaders(), at) {
                    self.leader_leaves(flights, id, leader);
                }
            }
            Step::FollowerLeaves(at) => self.follower_leaves(flights, at),
            Step::Finish(at) => {
                if let Some(id) = pick(sent(self), at) {
                    assert_eq!(flights.may_keep(id), !self.purged.contains(&id));
                    flights.finish(id);
                    self.forget(id);
                }
            }
            Step::Detach(at) => {
                if let Some(id) = pick(sent(self), at) {
                    flights.detach(id);
                    self.open.retain(|_, open| *open != id);
                }
            }
            Step::Purge(of) => {
                flights.purge(Purge { tenant: Some(tenant(of)), model: None });
                self.open.retain(|number, _| number % 2 != of);
                let meant = self.flying.iter().filter(|(_, (number, _))| number % 2 == of);
                self.purged.extend(meant.map(|(id, _)| *id));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens_one_leads_and_nobody_is_left_behind(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut flights = flights();
        let mut book = Book::default();
        for step in steps {
            book.take(&mut flights, step);
            assert_eq!(flights.poll_effect(), None, "nobody hears what does not concern it");
            flights.check();
            // Of one key at most one flight that can be joined is upstream.
            assert_eq!(flights.dump().open, book.open.len());
            assert_eq!(flights.dump().followers, book.all_followers());
        }
        // In the end every lead passes through all that wait, and then nothing is left.
        while let Some((id, leader)) = book.leaders().first().copied() {
            book.leader_leaves(&mut flights, id, leader);
        }
        assert!(book.waiting.values().all(Vec::is_empty), "one waits for nobody");
        for id in book.flying.keys().copied().collect::<Vec<_>>() {
            flights.finish(id);
        }
        flights.check();
        let dump = flights.dump();
        assert_eq!((dump.flights, dump.open, dump.followers), (0, 0, 0));
    }
}
