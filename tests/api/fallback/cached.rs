//! Fallbacks and the response cache: what is kept is served while the model is down; what a fallback says is
//! neither kept nor shared.

use super::{House, broken, open_breaker};
use crate::support::{
    Answer, Caller, Gate, Socket, Step, chat_answer, chat_chunks, json as answer, post, run, sse, until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

const CHAT: &str = "/v1/chat/completions";
/// Never opens.
const NO_BREAKER: &[(&str, &str)] = &[("OBLETH_BREAKER_FAILURES", "0")];

fn body(seed: u64) -> Value {
    json!({"model": "m", "seed": seed, "messages": [{"role": "user", "content": "Hello"}]})
}

fn kept() -> Value {
    json!({"cache_enabled": true, "cache_ttl_secs": 600})
}

/// Models `m` and its fallback `fb`, both cached; `fb` answers with 7 tokens of prompt.
async fn cached(variables: &[(&str, &str)]) -> House {
    let house = House::with(variables).await;
    house.model("m", &["fb"], kept()).await;
    house.model("fb", &[], kept()).await;
    house.play("fb", vec![Step::Send(chat_answer(7, 3))]);
    house
}

/// Status, state of the cache, and model of an answer.
fn said(answer: &Answer) -> (u16, &str, Option<&str>) {
    (answer.status, answer.header("x-obleth-cache").unwrap(), answer.header("x-obleth-model"))
}

async fn in_air(house: &House, wanted: (usize, usize)) {
    until("flights and followers", async || {
        let dump = house.app.running.gateway.handles.cache.dump().unwrap();
        ((dump.flights, dump.followers) == wanted).then_some(())
    })
    .await;
}

async fn stop(house: House) {
    house.app.idle().await;
    in_air(&house, (0, 0)).await;
    assert_eq!(house.app.running.gateway.handles.budget.holds(), 0);
    house.stop().await;
}

#[test]
fn kept_answers_are_served_while_the_breaker_is_open() {
    run(async {
        let house = cached(&[]).await;
        assert_eq!(said(&house.caller.post(CHAT, &body(1)).await), (200, "miss", None));
        open_breaker(&house).await;
        let before = house.order().len();
        for _ in 0..3 {
            assert_eq!(said(&house.caller.post(CHAT, &body(1)).await), (200, "hit", None));
        }
        assert_eq!(house.order().len(), before);
        stop(house).await;
    });
}

#[test]
fn an_answer_of_a_fallback_is_not_kept_under_any_key() {
    run(async {
        let house = cached(&[]).await;
        house.play("m", broken());
        for _ in 0..2 {
            // First after a failed call, then past an open breaker.
            for _ in 0..2 {
                let answer = house.caller.post(CHAT, &body(1)).await;
                assert_eq!(said(&answer), (200, "miss", Some("fb")));
                assert_eq!(answer.json()["usage"]["prompt_tokens"], 7);
            }
            open_breaker(&house).await;
        }
        house.app.idle().await;
        let stats = house.app.admin().get("/api/v1/cache/stats").await.expect(200).json();
        assert_eq!(stats["entries"], 0, "{stats}");
        let of =
            |name: &str| stats["models"].as_array().unwrap().iter().find(|row| row["model"] == name).cloned();
        assert!(of("m").is_some_and(|row| row["misses"].as_u64().unwrap() > 4), "{stats}");
        assert!(
            of("fb").is_none_or(|row| row["misses"] == 0),
            "looked for under the name that was asked: {stats}"
        );
        // Not under the fallback's own key either.
        let mut own = body(1);
        own["model"] = json!("fb");
        assert_eq!(said(&house.caller.post(CHAT, &own).await), (200, "miss", None));
        // The model is back: its own answer, and that is kept.
        house.play("m", vec![Step::Send(chat_answer(100, 10))]);
        house.app.admin().patch("/api/v1/models/m", &json!({"api_key": "another"})).await.expect(200);
        assert_eq!(said(&house.caller.post(CHAT, &body(1)).await), (200, "miss", None));
        // What the change of the model forgets, it forgets soon: at first a new answer may go with it.
        until("the model's own answer is kept", async || {
            let answer = house.caller.post(CHAT, &body(1)).await;
            assert_eq!(answer.json()["usage"]["prompt_tokens"], 100);
            (said(&answer) == (200, "hit", None)).then_some(())
        })
        .await;
        stop(house).await;
    });
}

/// A flight of `m` in the air that fails when the gate opens; the clients behind it follow. Their answers, and the
/// calls of the fallback.
async fn flight(house: &House, callers: &[Caller], failure: &[Step]) -> (Vec<Answer>, usize) {
    let gate: Gate = Arc::new(Semaphore::new(0));
    let steps = [Step::Wait(Arc::clone(&gate))].into_iter().chain(failure.iter().cloned());
    house.play("m", steps.collect());
    let before = house.order().len();
    let asked = body(u64::try_from(before).unwrap());
    let all = join_all(callers.iter().enumerate().map(|(number, caller)| {
        let asked = &asked;
        async move {
            in_air(house, (usize::from(number > 0), number.saturating_sub(1))).await;
            caller.post(CHAT, asked).await
        }
    }));
    let open = async {
        in_air(house, (1, callers.len() - 1)).await;
        until("the call is upstream", async || (house.order().len() > before).then_some(())).await;
        assert_eq!(house.order().len(), before + 1);
        gate.add_permits(100);
    };
    let (answers, ()) = tokio::join!(all, open);
    house.app.idle().await;
    let calls = house.order().split_off(before);
    let (own, others): (Vec<_>, Vec<_>) = calls.into_iter().partition(|name| name == "up-m");
    // A connection that breaks and was used before is tried once more on a new one.
    assert!((1..=2).contains(&own.len()), "{own:?}");
    (answers, others.len())
}

#[test]
fn a_flight_whose_upstream_fails_sends_each_to_the_fallback_by_itself() {
    run(async {
        let house = cached(NO_BREAKER).await;
        let callers = vec![house.caller.clone(); 8];
        for failure in [broken(), vec![Step::Reset], vec![Step::Close]] {
            println!("{failure:?}");
            let rows = house.app.all_rows().await.len();
            let (answers, calls) = flight(&house, &callers, &failure).await;
            assert_eq!(calls, 8, "the fallback for each");
            for answer in &answers {
                assert_eq!(said(answer), (200, "miss", Some("fb")), "{}", answer.text());
                let row = house.app.row(answer.header("x-request-id").unwrap()).await;
                assert_eq!((&row["model"], &row["cache"]), (&json!("fb"), &json!("miss")));
                assert_eq!((&row["input_tokens"], &row["cost_usd"]), (&json!(7), &json!("0.000008")));
            }
            assert_eq!(house.app.all_rows().await.len(), rows + 8);
        }
        let stats = house.app.admin().get("/api/v1/cache/stats").await.expect(200).json();
        assert_eq!(stats["entries"], 0, "{stats}");
        stop(house).await;
    });
}

#[test]
fn streams_that_share_a_flight_get_each_their_own_from_the_fallback() {
    run(async {
        let house = cached(NO_BREAKER).await;
        house.play("fb", sse(&chat_chunks(&["one", "two"], Some((7, 2)))));
        let gate: Gate = Arc::new(Semaphore::new(0));
        house.play("m", vec![Step::Wait(Arc::clone(&gate)), Step::Send(answer(503, "{}"))]);
        let mut asked = body(1);
        asked["stream"] = json!(true);
        let all = join_all((0..4).map(|_| house.caller.post(CHAT, &asked)));
        let open = async {
            in_air(&house, (1, 3)).await;
            gate.add_permits(100);
        };
        let (answers, ()) = tokio::join!(all, open);
        for answer in &answers {
            assert_eq!(said(answer), (200, "miss", Some("fb")));
            assert!(answer.text().contains("two") && answer.text().ends_with("data: [DONE]\n\n"));
        }
        assert_eq!(house.order().len(), 5);
        stop(house).await;
    });
}

#[test]
fn each_who_waited_gets_only_what_its_own_key_may_use() {
    run(async {
        let house = cached(NO_BREAKER).await;
        let narrow = house.app.key(&house.tenant, json!({"name": "n", "allowed_models": ["m"]})).await;
        let narrow = house.app.client(&narrow);
        // The one that leads may use the fallback, or it may not: the other gets what is its own.
        for leads in [true, false] {
            for failure in [broken(), vec![Step::Reset]] {
                let mut callers = vec![house.caller.clone(), narrow.clone()];
                if !leads {
                    callers.reverse();
                }
                let (mut answers, calls) = flight(&house, &callers, &failure).await;
                if !leads {
                    answers.reverse();
                }
                assert_eq!((said(&answers[0]), calls), ((200, "miss", Some("fb")), 1));
                // Where it led it has the upstream's own answer.
                let reset = matches!(failure[..], [Step::Reset]);
                let status = if leads || reset { 502 } else { 500 };
                assert_eq!(said(&answers[1]), (status, "miss", None), "{}", answers[1].text());
                let row = house.app.row(answers[1].header("x-request-id").unwrap()).await;
                let found = (&row["model"], &row["error_code"], &row["cost_usd"]);
                assert_eq!(found, (&json!("m"), &json!("upstream_error"), &json!("0")));
            }
        }
        stop(house).await;
    });
}

#[test]
fn a_leader_that_left_leaves_the_others_their_fallback() {
    run(async {
        let house = cached(NO_BREAKER).await;
        let gate: Gate = Arc::new(Semaphore::new(0));
        house.play("m", vec![Step::Wait(Arc::clone(&gate)), Step::Send(answer(500, "{}"))]);
        let key = house.caller.credential.clone().unwrap();
        let leader = Socket::sent(house.app.running.proxy, &post(CHAT, &key, "leader", &body(1))).await;
        in_air(&house, (1, 0)).await;
        let asked = body(1);
        let all = join_all((0..3).map(|_| house.caller.post(CHAT, &asked)));
        let rest = async {
            in_air(&house, (1, 3)).await;
            until("the call is upstream", async || (house.order().len() == 1).then_some(())).await;
            drop(leader);
            // Often long enough for the gateway to see it go.
            for _ in 0..4000 {
                yield_now().await;
            }
            gate.add_permits(100);
        };
        let (answers, ()) = tokio::join!(all, rest);
        for answer in &answers {
            assert_eq!(said(answer), (200, "miss", Some("fb")));
        }
        house.app.idle().await;
        let row = house.app.row("leader").await;
        // It was gone, or the fallback served it before that was seen.
        assert!(row["status"] == 499 && row["model"] == "m" || row["model"] == "fb", "{row}");
        if row["model"] == "m" {
            assert_eq!((&row["cost_usd"], &row["input_tokens"]), (&json!("0"), &json!(0)));
        }
        stop(house).await;
    });
}

#[test]
fn without_a_fallback_the_failure_is_shared() {
    run(async {
        let house = House::with(NO_BREAKER).await;
        house.model("m", &[], kept()).await;
        let callers = vec![house.caller.clone(); 4];
        let (answers, calls) = flight(&house, &callers, &broken()).await;
        assert_eq!(calls, 0);
        for answer in &answers {
            assert_eq!((answer.status, answer.text().as_str()), (500, r#"{"error":"mine"}"#));
        }
        let states = answers.iter().map(|answer| said(answer).1);
        assert_eq!(states.filter(|state| *state == "coalesced").count(), 3);
        stop(house).await;
    });
}

#[test]
fn those_behind_a_leader_that_waits_hear_at_its_grant_that_the_breaker_has_opened() {
    run(async {
        let house = House::with(&[("OBLETH_BREAKER_FAILURES", "1")]).await;
        let mut fields = kept();
        fields["max_in_flight"] = json!(1);
        house.model("m", &["fb"], fields).await;
        house.model("fb", &[], kept()).await;
        house.play("fb", vec![Step::Send(chat_answer(7, 3))]);
        let gate: Gate = Arc::new(Semaphore::new(0));
        house.play("m", vec![Step::Wait(Arc::clone(&gate)), Step::Reset]);
        let (first, second) = (body(1), body(2));
        let holder = house.caller.post(CHAT, &first);
        let all = async {
            until("the place is taken", async || (house.order().len() == 1).then_some(())).await;
            join_all((0..4).map(|_| house.caller.post(CHAT, &second))).await
        };
        let open = async {
            in_air(&house, (2, 3)).await;
            until("the leader waits", async || (house.app.queued() == 1).then_some(())).await;
            gate.add_permits(100);
        };
        let (held, answers, ()) = tokio::join!(holder, all, open);
        for answer in answers.iter().chain([&held]) {
            assert_eq!(said(answer), (200, "miss", Some("fb")));
        }
        let models = house.order();
        assert_eq!(models.iter().filter(|name| *name == "up-m").count(), 1, "{models:?}");
        stop(house).await;
    });
}
