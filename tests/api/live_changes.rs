//! Changes while requests run and wait: they hold from the next grant on, and nothing is dropped.

use crate::support::{Caller, Room, run};
use serde_json::{Value, json};

/// A tenant with a caller.
struct Party {
    id: String,
    caller: Caller,
}

async fn party(room: &Room, fields: Value) -> Party {
    let id = room.app.tenant(fields).await;
    let key = room.app.key(&id, json!({"name": "k"})).await;
    Party { caller: room.app.client(&key), id }
}

async fn patch(room: &Room, path: &str, fields: &Value) {
    room.app.admin().patch(&format!("/api/v1/{path}"), fields).await.expect(200);
}

/// One slot, taken by a stranger, with so many requests of each of these waiting in turns.
async fn crowd(room: &Room, parties: &[(&str, &Party)], each: usize) {
    room.app.model("m").await;
    room.app.admin().post("/api/v1/groups", &json!({"name": "strangers"})).await.expect(201);
    let stranger = party(room, json!({"name": "stranger", "group": "strangers"})).await;
    room.ask(&stranger.caller, "x").await;
    for number in 0..each {
        for (letter, party) in parties {
            room.ask(&party.caller, &format!("{letter}{number}")).await;
        }
    }
}

/// Lets the stranger and so many more end; how many of them began with each letter.
async fn shares<const N: usize>(room: &Room, letters: [char; N], of: usize) -> [usize; N] {
    room.release(of).await;
    let order: String = room.order().chars().skip(1).take(of).collect();
    println!("{order}");
    letters.map(|letter| order.chars().filter(|one| *one == letter).count())
}

async fn end(room: Room, requests: usize) {
    assert_eq!(room.finish().await, requests, "nothing was dropped");
    room.app.stop().await;
}

#[test]
fn a_tenants_weight() {
    run(async {
        let room = Room::new(1).await;
        let a = party(&room, json!({"name": "a"})).await;
        let b = party(&room, json!({"name": "b"})).await;
        crowd(&room, &[("a", &a), ("b", &b)], 6).await;
        patch(&room, &format!("tenants/{}", a.id), &json!({"weight": 1000})).await;
        let [of_a, of_b] = shares(&room, ['a', 'b'], 7).await;
        assert_eq!((of_a, of_b), (6, 1), "ten to one, and not one to one");
        end(room, 13).await;
    });
}

#[test]
fn a_tenants_group() {
    run(async {
        let room = Room::new(1).await;
        for group in ["other", "solo"] {
            room.app.admin().post("/api/v1/groups", &json!({"name": group})).await.expect(201);
        }
        let a = party(&room, json!({"name": "a"})).await;
        let b = party(&room, json!({"name": "b"})).await;
        let d = party(&room, json!({"name": "d", "group": "other"})).await;
        crowd(&room, &[("a", &a), ("b", &b), ("d", &d)], 8).await;
        patch(&room, &format!("tenants/{}", a.id), &json!({"group": "solo"})).await;
        let counts = shares(&room, ['a', 'b', 'd'], 12).await;
        // A third each; in their old groups it would have been 3, 3 and 6.
        assert!(counts.iter().all(|count| (3..=5).contains(count)) && counts[0] >= 4, "{counts:?}");
        end(room, 25).await;
    });
}

#[test]
fn a_groups_weight() {
    run(async {
        let room = Room::new(1).await;
        room.app.admin().post("/api/v1/groups", &json!({"name": "prod"})).await.expect(201);
        let a = party(&room, json!({"name": "a", "group": "prod"})).await;
        let b = party(&room, json!({"name": "b"})).await;
        crowd(&room, &[("a", &a), ("b", &b)], 10).await;
        patch(&room, "groups/prod", &json!({"weight": 900})).await;
        let [of_a, of_b] = shares(&room, ['a', 'b'], 10).await;
        assert!(of_a >= 8 && of_b >= 1, "nine to one, and not one to one: {of_a} to {of_b}");
        end(room, 21).await;
    });
}

/// Twelve requests on eight slots, and a limit that goes to 2, to 3 and away while they run and wait.
async fn narrow_and_wide(room: &Room, caller: &Caller, set: impl AsyncFn(Value)) {
    for number in 0..12 {
        room.ask(caller, &format!("r{number}")).await;
    }
    let now = || (room.app.in_flight(), room.app.queued(), room.upstream.seen().len());
    assert_eq!(now(), (8, 4, 8));
    set(json!(2)).await;
    assert_eq!(now(), (8, 4, 8), "what runs goes on, what waits waits");
    room.release(6).await;
    assert_eq!(now(), (2, 4, 8), "six ended and none came in their place");
    room.release(1).await;
    assert_eq!(now(), (2, 3, 9));
    set(json!(3)).await;
    room.settled().await;
    assert_eq!(now(), (3, 2, 10), "at once, without another request");
    set(json!(null)).await;
    room.settled().await;
    assert_eq!(now(), (5, 0, 12));
    assert_eq!(room.finish().await, 12, "nothing was dropped");
}

#[test]
fn a_tenants_cap() {
    run(async {
        let room = Room::new(8).await;
        room.app.model("m").await;
        let a = party(&room, json!({"name": "a"})).await;
        let path = format!("tenants/{}", a.id);
        let set = async |cap| patch(&room, &path, &json!({"max_in_flight": cap})).await;
        narrow_and_wide(&room, &a.caller, set).await;
        room.app.stop().await;
    });
}

#[test]
fn a_models_cap() {
    run(async {
        let room = Room::new(8).await;
        room.app.model("m").await;
        let a = party(&room, json!({"name": "a"})).await;
        let set = async |cap| patch(&room, "models/m", &json!({"max_in_flight": cap})).await;
        narrow_and_wide(&room, &a.caller, set).await;
        room.app.stop().await;
    });
}

#[test]
fn a_keys_cap() {
    run(async {
        let room = Room::new(8).await;
        room.app.model("m").await;
        let tenant = room.app.tenant(json!({"name": "a"})).await;
        let keys = format!("/api/v1/tenants/{tenant}/keys");
        let made = room.app.admin().post(&keys, &json!({"name": "k"})).await.expect(201).json();
        let caller = room.app.client(made["secret"].as_str().unwrap());
        let path = format!("keys/{}", made["key"]["id"].as_str().unwrap());
        let set = async |cap| patch(&room, &path, &json!({"max_in_flight": cap})).await;
        narrow_and_wide(&room, &caller, set).await;
        room.app.stop().await;
    });
}

#[test]
fn the_capacity() {
    run(async {
        let room = Room::new(8).await;
        room.app.model("m").await;
        let a = party(&room, json!({"name": "a"})).await;
        let set = async |slots| {
            room.app.admin().put("/api/v1/capacity", &json!({"max_in_flight": slots})).await.expect(200);
        };
        narrow_and_wide(&room, &a.caller, set).await;
        room.app.stop().await;
    });
}
