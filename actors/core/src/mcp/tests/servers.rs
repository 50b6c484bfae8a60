use crate::breaker::{Rules, State};
use crate::ids::{KeyId, McpServerId};
use crate::mcp::servers::{Ready, Refused, SESSION_IDLE, SESSIONS_MAX, Servers, Which};
use crate::mcp::{Catalogue, Era};
use crate::moment::Moment;
use std::time::Duration;
use uuid::Uuid;

const A: Which = Which { id: McpServerId(Uuid::from_u128(1)), version: 1 };
const B: Which = Which { id: McpServerId(Uuid::from_u128(2)), version: 1 };
const K: KeyId = KeyId(Uuid::from_u128(7));
const L: KeyId = KeyId(Uuid::from_u128(8));

fn at(seconds: u64) -> Moment {
    Moment::from_micros(seconds * 1_000_000)
}

fn fail(servers: &mut Servers, now: Moment, which: Which) {
    for _ in 0..5 {
        let permit = servers.admit(now, which, None).unwrap();
        servers.failed(now, which, &permit);
    }
}

#[test]
fn one_servers_failures_are_its_own() {
    let mut servers = Servers::new(Rules::default());
    fail(&mut servers, at(0), A);
    assert_eq!(servers.admit(at(0), A, None).unwrap_err(), Refused::Open(Duration::from_secs(5)));
    assert!(servers.admit(at(0), B, None).is_ok());
    assert_eq!(servers.view(A).unwrap().state, State::Open);
    let mut probe = servers.admit(at(5), A, None).unwrap();
    assert!(servers.admit(at(5), A, None).is_err());
    assert!(servers.begun(at(5), A, &mut probe));
    assert_eq!(servers.view(A).unwrap().state, State::Closed);
}

#[test]
fn a_server_that_was_changed_begins_anew_but_for_its_minute() {
    let mut servers = Servers::new(Rules::default());
    let newer = Which { version: 2, ..A };
    servers.admit(at(0), A, Some(1)).unwrap();
    assert_eq!(servers.admit(at(0), A, Some(1)).unwrap_err(), Refused::Busy(Duration::from_secs(60)));
    fail(&mut servers, at(0), A);
    let known = servers.known(at(0), A);
    servers.refreshed(at(0), A, known.ask.unwrap(), Some(Catalogue::new(Era::Session, "v")));
    assert!(servers.admit(at(0), newer, None).is_ok());
    assert_eq!(servers.known(at(0), newer).catalogue, None);
    assert_eq!(servers.admit(at(0), newer, Some(1)).unwrap_err(), Refused::Busy(Duration::from_secs(60)));
    // One that is still on its way to the old one says nothing of the new one.
    let permit = servers.admit(at(0), A, None).unwrap();
    assert!(!servers.failed(at(0), A, &permit));
    assert_eq!((servers.view(A), servers.view(newer).unwrap().failures), (None, 0));
}

#[test]
fn what_does_not_count_takes_nothing_of_the_minute() {
    let mut servers = Servers::new(Rules::default());
    servers.admit(at(0), A, Some(2)).unwrap();
    for _ in 0..10 {
        servers.admit(at(0), A, None).unwrap();
    }
    servers.admit(at(0), A, Some(2)).unwrap();
    assert_eq!(servers.admit(at(0), A, Some(2)).unwrap_err(), Refused::Busy(Duration::from_secs(30)));
    assert!(servers.admit(at(30), A, Some(2)).is_ok());
}

#[test]
fn a_list_is_read_by_one_and_the_last_good_one_stands() {
    let mut servers = Servers::new(Rules::default());
    let first = servers.known(at(0), A);
    assert_eq!((first.catalogue.is_some(), first.running), (false, Some(Duration::ZERO)));
    let second = servers.known(at(1), A);
    assert_eq!((second.ask, second.running), (None, Some(Duration::from_secs(1))));
    let list = Catalogue { ttl: Duration::from_secs(10), ..Catalogue::new(Era::Session, "v") };
    servers.refreshed(at(2), A, first.ask.unwrap(), Some(list.clone()));
    assert!(servers.known(at(11), A).fresh);
    let due = servers.known(at(12), A);
    assert_eq!((due.fresh, due.catalogue.as_deref()), (false, Some(&list)));
    servers.refreshed(at(13), A, due.ask.unwrap(), None);
    let after = servers.known(at(14), A);
    assert_eq!((after.ask, after.running, after.catalogue.as_deref()), (None, None, Some(&list)));
    let again = servers.known(at(18), A).ask.unwrap();
    // It never ends: another may ask, and the lost one changes nothing when it comes back.
    let other = servers.known(at(18 + 120), A).ask.unwrap();
    servers.refreshed(at(140), A, again, Some(Catalogue::new(Era::Stateless, "lost")));
    assert_eq!(servers.known(at(140), A).catalogue.as_deref(), Some(&list));
    servers.refreshed(at(140), A, other, Some(list));
    assert!(servers.known(at(140), A).fresh);
}

fn ready(id: &str) -> Ready {
    Ready { id: Some(id.into()), version: "v".into() }
}

#[test]
fn a_session_is_lent_to_one_call_of_its_own_key() {
    let mut servers = Servers::new(Rules::default());
    assert_eq!(servers.give_back(at(0), A, K, ready("unknown")), Some(ready("unknown")));
    servers.admit(at(0), A, None).unwrap();
    assert_eq!(servers.give_back(at(0), A, K, ready("1")), None);
    assert_eq!(servers.give_back(at(1), A, K, ready("2")), None);
    assert_eq!((servers.lend(at(1), A, L), servers.lend(at(1), B, K)), (None, None));
    assert_eq!(servers.lend(at(1), A, K), Some(ready("2")));
    assert_eq!(servers.lend(at(1), A, K), Some(ready("1")));
    assert_eq!(servers.lend(at(1), A, K), None);
}

#[test]
fn sessions_that_wait_are_few_and_not_for_ever() {
    let mut servers = Servers::new(Rules::default());
    servers.admit(at(0), A, None).unwrap();
    for number in 0..SESSIONS_MAX {
        assert_eq!(servers.give_back(at(0), A, K, ready(&number.to_string())), None);
    }
    assert_eq!(servers.give_back(at(1), A, K, ready("x")), Some(ready("0")), "the oldest goes");
    assert_eq!(servers.waiting(), SESSIONS_MAX);
    let late = at(SESSION_IDLE.as_secs());
    assert_eq!(servers.lend(late, A, K), Some(ready("x")));
    assert_eq!(servers.lend(late, A, K), None, "the others are overdue");
    assert_eq!(servers.overdue(late, A), Some(ready("1")));
    while servers.overdue(late, A).is_some() {}
    assert_eq!(servers.waiting(), 0);
    servers.give_back(late, A, K, ready("y"));
    assert_eq!(servers.overdue(late, A), None);
    servers.retain(|_| false);
    assert_eq!((servers.waiting(), servers.view(A)), (0, None));
}
