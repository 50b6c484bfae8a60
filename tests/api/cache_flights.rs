//! Equal requests at the same time: one upstream call, whatever happens to the one that leads.

use crate::support::{
    Caller, Dice, Gate, Socket, Step, TestApp, Upstream, chat_answer, chat_chunks, post, run, sse, until,
};
use actix_web::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

const CHAT: &str = "/v1/chat/completions";

/// A gateway with one cached model `m`; its upstream waits at a gate before each step of its answer.
struct Air {
    upstream: Upstream,
    app: TestApp,
    caller: Caller,
    gate: Gate,
    script: Arc<Mutex<Vec<Step>>>,
}

impl Air {
    async fn new(variables: &[(&str, &str)]) -> Self {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let script = Arc::new(Mutex::new(vec![Step::Send(chat_answer(7, 3))]));
        let (own, played) = (Arc::clone(&gate), Arc::clone(&script));
        let upstream = Upstream::start(move |_| {
            let steps = played.lock().unwrap().clone();
            steps.into_iter().flat_map(|step| [Step::Wait(Arc::clone(&own)), step]).collect()
        })
        .await;
        let app = TestApp::with(&upstream, variables).await;
        app.model_with(json!({"model_name": "m", "cache_enabled": true, "cache_ttl_secs": 600})).await;
        app.model_with(json!({"model_name": "plain"})).await;
        let caller = app.caller("acme").await;
        Self { upstream, app, caller, gate, script }
    }

    fn play(&self, steps: Vec<Step>) {
        *self.script.lock().unwrap() = steps;
    }

    /// Flights and followers.
    fn in_air(&self) -> (usize, usize) {
        let dump = self.app.running.gateway.handles.cache.dump().unwrap();
        (dump.flights, dump.followers)
    }

    async fn until_in_air(&self, wanted: (usize, usize)) {
        until("flights and followers", async || (self.in_air() == wanted).then_some(())).await;
    }

    async fn until_seen(&self, count: usize) {
        until("the call is upstream", async || (self.upstream.seen().len() >= count).then_some(())).await;
    }

    fn open(&self) {
        self.gate.add_permits(10_000);
    }

    fn close(&self) {
        self.gate.forget_permits(usize::MAX >> 4);
    }

    /// Sends `body` on a connection of its own and does not wait.
    async fn sent(&self, request_id: &str, body: &Value) -> Socket {
        let key = self.caller.credential.clone().unwrap();
        Socket::sent(self.app.running.proxy, &post(CHAT, &key, request_id, body)).await
    }

    async fn stop(self) {
        self.app.idle().await;
        assert_eq!(self.in_air(), (0, 0), "nothing flies on");
        assert_eq!(self.app.running.gateway.handles.cache.in_flight_bytes(), 0);
        self.app.stop().await;
    }
}

fn body(seed: u64, stream: bool) -> Value {
    json!({"model": "m", "seed": seed, "stream": stream, "messages": [{"role": "user", "content": "Hello"}]})
}

fn words() -> Vec<String> {
    chat_chunks(&["one", "two", "three", "four", "five"], Some((7, 5)))
}

/// What a client gets of them that did not ask for the usage.
fn text() -> String {
    words().iter().filter(|event| !event.contains("usage")).cloned().collect()
}

#[test]
fn a_hundred_equal_requests_are_one_upstream_call() {
    run(async {
        let air = Air::new(&[]).await;
        for stream in [false, true] {
            air.play(if stream { sse(&words()) } else { vec![Step::Send(chat_answer(7, 5))] });
            let before = air.upstream.seen().len();
            let asked = body(1, stream);
            let all = join_all((0..100).map(|_| air.caller.post(CHAT, &asked)));
            let gate = async {
                air.until_in_air((1, 99)).await;
                assert_eq!(air.app.in_flight(), 1, "followers take no slot");
                air.open();
            };
            let (answers, ()) = tokio::join!(all, gate);
            air.app.idle().await;
            assert_eq!(air.upstream.seen().len(), before + 1);
            let whole = answers[0].body.clone();
            if stream {
                assert_eq!(String::from_utf8(whole.to_vec()).unwrap(), text());
            }
            let mut ids = std::collections::BTreeSet::new();
            let mut states = std::collections::BTreeMap::new();
            for answer in &answers {
                assert_eq!((answer.status, &answer.body), (200, &whole));
                assert!(ids.insert(answer.header("x-request-id").unwrap().to_owned()));
                *states.entry(answer.header("x-obleth-cache").unwrap()).or_insert(0) += 1;
            }
            assert_eq!(states, [("coalesced", 99), ("miss", 1)].into_iter().collect());
            let rows: Vec<Value> =
                air.app.all_rows().await.into_iter().filter(|row| row["stream"] == stream).collect();
            assert_eq!(rows.len(), 100);
            let (paid, free): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["cache"] == "miss");
            assert_eq!((paid.len(), &paid[0]["cost_usd"]), (1, &json!("0.000011")));
            for row in free {
                let found = (&row["cache"], &row["cost_usd"], &row["input_tokens"], &row["output_tokens"]);
                assert_eq!(found, (&json!("coalesced"), &json!("0"), &json!(7), &json!(5)));
            }
            assert_eq!(air.caller.post(CHAT, &asked).await.header("x-obleth-cache"), Some("hit"));
            air.close();
        }
        air.stop().await;
    });
}

#[test]
fn a_leader_that_leaves_at_any_moment_harms_no_follower() {
    const SEED: u64 = 11;
    const TRIES: u64 = 50;
    const FOLLOWERS: usize = 6;
    println!("seed {SEED}");
    run(async {
        let air = Air::new(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        for number in 0..TRIES {
            let mut dice = Dice::new(SEED * 1000 + number);
            let stream = dice.below(2) == 0;
            air.play(if stream { sse(&words()) } else { vec![Step::Send(chat_answer(7, 5))] });
            let before = air.upstream.seen().len();
            // Now and then the only slot is taken, so that the leader leaves in the queue.
            let taken = dice.below(3) == 0;
            let holder = json!({"model": "plain", "messages": []});
            let held = if taken { Some(air.sent(&format!("held-{number}"), &holder).await) } else { None };
            if taken {
                air.until_seen(before + 1).await;
            }
            let asked = body(100 + number, stream);
            let leader = air.sent(&format!("leader-{number}"), &asked).await;
            air.until_in_air((1, 0)).await;
            let followers = join_all((0..FOLLOWERS).map(|_| air.caller.post(CHAT, &asked)));
            let rest = async {
                air.until_in_air((1, FOLLOWERS)).await;
                for _ in 0..dice.below(60) {
                    air.gate.add_permits(usize::from(!taken && dice.below(8) == 0));
                    yield_now().await;
                }
                drop(leader);
                // Often long enough for the gateway to see it go, often not.
                for _ in 0..dice.below(4000) {
                    yield_now().await;
                }
                air.open();
            };
            let (answers, ()) = tokio::join!(followers, rest);
            drop(held);
            air.app.idle().await;
            for answer in &answers {
                assert_eq!((answer.status, &answer.body), (200, &answers[0].body), "try {number}");
            }
            if stream {
                assert_eq!(answers[0].text(), text(), "try {number}");
            }
            let calls = air.upstream.seen().len() - before - usize::from(taken);
            assert_eq!(calls, 1, "try {number}");
            let row = air.app.row(&format!("leader-{number}")).await;
            assert!(row["status"] == 499 || row["status"] == 200, "{row}");
            air.close();
        }
        // Who leaves after its request was sent pays for the answer that the others get.
        let rows = air.app.all_rows().await;
        let mine = rows.iter().filter(|row| row["request_id"].as_str().unwrap().starts_with("leader-"));
        let (mut left, mut paid) = (0, 0);
        for row in mine.filter(|row| row["status"] == 499) {
            left += 1;
            if row["usage_source"] == "upstream" {
                assert_eq!((&row["output_tokens"], &row["cost_usd"]), (&json!(5), &json!("0.000011")));
                paid += 1;
            }
        }
        println!("{left} leaders left, {paid} of them after they were sent");
        assert!(left > 20 && paid > 5 && paid < left, "the moments differ: {left} {paid}");
        air.stop().await;
    });
}

#[test]
fn a_leader_that_ends_in_the_queue_passes_the_lead_on() {
    run(async {
        let air = Air::new(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        let _held = air.sent("held", &json!({"model": "plain", "messages": []})).await;
        air.until_seen(1).await;
        let asked = body(1, false);
        let deadline = air
            .caller
            .request(Method::POST, CHAT)
            .insert_header(("content-type", "application/json"))
            .insert_header(("x-obleth-deadline-ms", "300"));
        let first = Caller::send(deadline, asked.to_string());
        let rest = async {
            air.until_in_air((1, 0)).await;
            let second = air.caller.post(CHAT, &asked);
            let third = air.caller.post(CHAT, &asked);
            let gate = async {
                air.until_in_air((1, 2)).await;
                // The leader's own deadline passes: the second leads, the third follows.
                air.until_in_air((1, 1)).await;
                until("it stands in the queue", async || (air.app.queued() == 1).then_some(())).await;
                air.open();
            };
            let (second, third, ()) = tokio::join!(second, third, gate);
            (second, third)
        };
        let (first, (second, third)) = tokio::join!(first, rest);
        assert_eq!((first.status, first.error_code().as_str()), (503, "deadline_unreachable"));
        // Which of the two came first is not said.
        let state = |answer: &crate::support::Answer| answer.header("x-obleth-cache").unwrap().to_owned();
        let (led, followed) = if state(&second) == "miss" { (second, third) } else { (third, second) };
        assert_eq!((led.status, state(&led).as_str()), (200, "miss"));
        assert_eq!(led.header("x-obleth-admission"), Some("queued"));
        assert_eq!((followed.status, state(&followed).as_str()), (200, "coalesced"));
        assert_eq!(followed.body, led.body);
        assert_eq!(air.upstream.seen().len(), 2);
        air.stop().await;
    });
}

#[test]
fn the_call_ends_when_nobody_waits_any_more() {
    run(async {
        let air = Air::new(&[]).await;
        air.play(sse(&words()));
        let asked = body(1, true);
        let leader = air.sent("leader", &asked).await;
        air.until_seen(1).await;
        let mut follower = air.sent("follower", &asked).await;
        air.until_in_air((1, 1)).await;
        air.gate.add_permits(2);
        drop(leader);
        assert!(follower.head().await.unwrap().starts_with("http/1.1 200"));
        assert!(!follower.chunk().await.unwrap().is_empty());
        assert_eq!((air.upstream.left(), air.in_air()), (0, (1, 1)), "one still waits");
        drop(follower);
        until("the upstream sees it", async || (air.upstream.left() == 1).then_some(())).await;
        air.app.idle().await;
        let row = air.app.row("leader").await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(499), &json!("client_left")));
        assert!(row["input_tokens"].as_u64().unwrap() > 0);
        let row = air.app.row("follower").await;
        assert_eq!((&row["status"], &row["cost_usd"]), (&json!(499), &json!("0")));
        air.stop().await;
    });
}

#[test]
fn followers_hear_each_piece_as_it_comes() {
    run(async {
        let air = Air::new(&[]).await;
        air.play(sse(&words()));
        let asked = body(1, true);
        let mut leader = air.sent("leader", &asked).await;
        air.until_seen(1).await;
        air.gate.add_permits(3);
        assert!(leader.head().await.unwrap().contains("x-obleth-cache: miss"));
        let first = leader.chunk().await.unwrap();
        let second = leader.chunk().await.unwrap();
        // It comes late and gets all of it, without waiting for the rest.
        let mut late = air.sent("late", &asked).await;
        assert!(late.head().await.unwrap().contains("x-obleth-cache: coalesced"));
        assert_eq!((late.chunk().await.unwrap(), late.chunk().await.unwrap()), (first, second));
        air.gate.add_permits(1);
        assert_eq!(late.chunk().await, leader.chunk().await);
        air.open();
        loop {
            let (one, other) = (leader.chunk().await.unwrap(), late.chunk().await.unwrap());
            assert_eq!(one, other);
            if one.is_empty() {
                break;
            }
        }
        air.stop().await;
    });
}

#[test]
fn failures_of_the_upstream_are_shared_and_not_kept() {
    run(async {
        let air = Air::new(&[]).await;
        let cut: Vec<Step> = sse(&words()).into_iter().take(3).chain([Step::Close]).collect();
        for (number, script, stream, status, code) in [
            (1, vec![Step::Reset], false, 502, "upstream_error"),
            (
                2,
                vec![Step::Send(crate::support::json(503, r#"{"error":{"message":"full"}}"#))],
                false,
                503,
                "",
            ),
            (3, cut, true, 200, "upstream_truncated"),
        ] {
            air.play(script);
            let before = air.upstream.seen().len();
            let asked = body(number, stream);
            let all = join_all((0..10).map(|_| air.caller.post(CHAT, &asked)));
            let gate = async {
                air.until_in_air((1, 9)).await;
                air.open();
            };
            let (answers, ()) = tokio::join!(all, gate);
            assert_eq!(air.upstream.seen().len(), before + 1);
            for answer in answers {
                assert_eq!(answer.status, status, "{}", answer.text());
                let id = answer.header("x-request-id").unwrap();
                match (status, stream) {
                    (502, _) => assert_eq!(answer.error_code(), code),
                    (503, _) => assert_eq!(answer.header("retry-after"), Some("1")),
                    _ => {
                        let text = answer.text();
                        assert!(text.contains(code) && text.contains(id), "each is told by itself: {text}");
                    }
                }
            }
            air.app.idle().await;
            let costs = air.app.all_rows().await.into_iter().filter(|row| row["cache"] == "coalesced");
            assert!(costs.into_iter().all(|row| row["cost_usd"] == "0"));
            air.play(if stream { sse(&words()) } else { vec![Step::Send(chat_answer(7, 5))] });
            let again = air.caller.post(CHAT, &asked).await.expect(200);
            assert_eq!(again.header("x-obleth-cache"), Some("miss"));
            air.close();
        }
        air.stop().await;
    });
}

#[test]
fn an_answer_too_large_to_keep_reaches_all_who_follow_in_a_bounded_space() {
    run(async {
        let air = Air::new(&[("OBLETH_CACHE_MAX_ENTRY_BYTES", "65536")]).await;
        let word = "x".repeat(16 * 1024);
        let events = chat_chunks(&vec![word.as_str(); 200], Some((7, 5)));
        air.play(sse(&events));
        let asked = body(1, true);
        let all = join_all((0..10).map(|_| air.caller.post(CHAT, &asked)));
        let most = std::cell::Cell::new(0);
        let gate = async {
            air.until_in_air((1, 9)).await;
            air.open();
            while air.app.running.gateway.running() > 0 {
                let bytes = air.app.running.gateway.handles.cache.in_flight_bytes();
                most.set(most.get().max(bytes));
                yield_now().await;
            }
        };
        let (answers, ()) = tokio::join!(all, gate);
        let whole: String = events.iter().filter(|event| !event.contains("usage")).cloned().collect();
        for answer in answers {
            assert_eq!(answer.status, 200);
            assert!(answer.text() == whole, "{} of {} bytes", answer.body.len(), whole.len());
        }
        println!("at most {} of {} bytes were held", most.get(), whole.len());
        assert!(most.get() < 600 * 1024, "{}", most.get());
        assert_eq!(air.upstream.seen().len(), 1);
        let again = air.caller.post(CHAT, &asked).await.expect(200);
        assert_eq!(again.header("x-obleth-cache"), Some("miss"));
        air.stop().await;
    });
}

#[test]
fn a_purge_forgets_what_is_still_on_its_way() {
    run(async {
        let air = Air::new(&[]).await;
        let asked = body(1, false);
        let first = air.caller.post(CHAT, &asked);
        let rest = async {
            air.until_seen(1).await;
            air.app.admin().delete("/api/v1/cache").await.expect(204);
            let second = air.caller.post(CHAT, &asked);
            let gate = async {
                air.until_seen(2).await;
                air.open();
            };
            tokio::join!(second, gate).0
        };
        let (first, second) = tokio::join!(first, rest);
        assert_eq!((first.status, second.status), (200, 200));
        assert_eq!(second.header("x-obleth-cache"), Some("miss"), "it does not join what was begun before");
        assert_eq!(air.caller.post(CHAT, &asked).await.header("x-obleth-cache"), Some("hit"));
        air.stop().await;
    });
}

#[test]
fn a_contained_fault_leaves_nobody_waiting() {
    run(async {
        let air = Air::new(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        let _held = air.sent("held", &json!({"model": "plain", "messages": []})).await;
        air.until_seen(1).await;
        let asked = body(1, false);
        let all = join_all((0..5).map(|_| air.caller.post(CHAT, &asked)));
        let fault = async {
            air.until_in_air((1, 4)).await;
            let cache = &air.app.running.gateway.handles.cache;
            cache.plant_fault();
            assert_eq!(cache.dump(), None);
            air.until_in_air((1, 3)).await;
            assert_eq!(cache.restarts(), 1);
            air.open();
        };
        let (answers, ()) = tokio::join!(all, fault);
        assert!(answers.iter().all(|answer| answer.status == 200));
        air.stop().await;
    });
}

#[test]
fn a_follower_whose_key_is_disabled_before_the_call_is_sent_gets_no_answer() {
    run(async {
        let air = Air::new(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        let tenant = air.app.tenant(json!({"name": "two keys"})).await;
        let leads = air.app.client(&air.app.key(&tenant, json!({"name": "leads"})).await);
        let keys = format!("/api/v1/tenants/{tenant}/keys");
        let made: Value = air.app.admin().post(&keys, &json!({"name": "follows"})).await.expect(201).json();
        let follows = air.app.client(made["secret"].as_str().unwrap());
        let asked = body(1, false);
        let holds_the_slot = air.caller.chat("plain");
        let leader = async {
            air.until_seen(1).await;
            leads.post(CHAT, &asked).await
        };
        let follower = async {
            air.until_in_air((1, 0)).await;
            follows.post(CHAT, &asked).await
        };
        let change = async {
            air.until_in_air((1, 1)).await;
            let key = format!("/api/v1/keys/{}", made["key"]["id"].as_str().unwrap());
            air.app.admin().patch(&key, &json!({"disabled": true})).await.expect(200);
            assert_eq!(air.upstream.seen().len(), 1, "the leader waits in the queue");
            air.open();
        };
        let (first, leader, follower, ()) = tokio::join!(holds_the_slot, leader, follower, change);
        assert_eq!((first.status, leader.status), (200, 200), "{}", leader.text());
        assert_eq!((follower.status, follower.error_code().as_str()), (403, "key_disabled"));
        assert_eq!(air.upstream.seen().len(), 2);
        air.stop().await;
    });
}
