//! The breaker of a model: answers at once while its upstream is down, without a connect, and back soon after.

use crate::support::{
    Answer, Caller, Gate, Mock, Seen, Socket, Step, TestApp, Upstream, chat_answer, chat_body, chat_chunks,
    hang, json as answer, post, run, sse, until,
};
use actix_rt::task::JoinHandle;
use obleth::mock::{MockOptions, start};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A gateway with models `m`, on an upstream that plays what the test sets, and `n`, on one that is well.
struct Pair {
    app: TestApp,
    upstream: Upstream,
    caller: Caller,
    script: Arc<Mutex<Vec<Step>>>,
}

impl Pair {
    async fn new(variables: &[(&str, &str)]) -> Self {
        let script = Arc::new(Mutex::new(vec![Step::Reset]));
        let played = Arc::clone(&script);
        let upstream = Upstream::start(move |_| played.lock().unwrap().clone()).await;
        let well = Upstream::always(chat_answer(1, 1)).await;
        let variables: Vec<_> =
            [("OBLETH_BREAKER_PROBE_SECS", "1")].iter().chain(variables).copied().collect();
        let app = TestApp::with(&upstream, &variables).await;
        app.model("m").await;
        app.model_with(json!({"model_name": "n", "api_base": well.base()})).await;
        let caller = app.caller("acme").await;
        Self { app, upstream, caller, script }
    }

    fn play(&self, steps: Vec<Step>) {
        *self.script.lock().unwrap() = steps;
    }

    fn heal(&self) {
        self.play(vec![Step::Send(chat_answer(1, 1))]);
    }

    async fn health(&self) -> Value {
        self.app.admin().get("/api/v1/models/m").await.expect(200).json()["health"].clone()
    }

    /// Requests that fail, until the breaker opens; they were `failures`.
    async fn open(&self, failures: usize) {
        for _ in 0..failures {
            let answer = self.caller.chat("m").await;
            assert!(
                answer.status >= 500 && !answer.text().contains("upstream_circuit_open"),
                "{}",
                answer.text()
            );
        }
        assert_eq!(self.health().await["state"], "open");
    }

    /// Asks `m` until it is answered; how long that took. Whatever comes before is refused at once.
    async fn back(&self) -> Duration {
        let begun = Instant::now();
        until("it is back", async || {
            let answer = self.caller.chat("m").await;
            if answer.status == 200 {
                return Some(begun.elapsed());
            }
            refused(&answer);
            None
        })
        .await
    }

    async fn stop(self) {
        self.app.idle().await;
        self.app.stop().await;
    }
}

/// Refused by an open breaker.
fn refused(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (503, "upstream_circuit_open"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[test]
fn after_five_failures_answers_come_at_once_without_a_connect_and_others_are_unaffected() {
    run(async {
        let pair = Pair::new(&[]).await;
        assert_eq!(
            pair.health().await,
            json!({"state": "closed", "since": null, "failures": 0, "retry_at": null})
        );
        pair.open(5).await;
        assert_eq!(pair.upstream.connections(), 5);
        let begun = Instant::now();
        for _ in 0..20 {
            let answer = pair.caller.chat("m").await;
            refused(&answer);
            assert_eq!(answer.header("x-obleth-admission"), None);
            pair.caller.chat("n").await.expect(200);
        }
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
        assert_eq!(pair.upstream.connections(), 5, "nobody knocked");
        let rows = pair.app.rows().await;
        let row = rows.iter().find(|row| row["error_code"] == "upstream_circuit_open").unwrap();
        assert_eq!((&row["status"], &row["admission"]), (&json!(503), &json!("rejected")));
        assert_eq!((&row["cost_usd"], &row["estimated_tokens"]), (&json!("0"), &json!(0)));
        let health = pair.health().await;
        assert_eq!((&health["state"], &health["failures"]), (&json!("open"), &json!(5)));
        let at = |name: &str| chrono::DateTime::parse_from_rfc3339(health[name].as_str().unwrap()).unwrap();
        assert_eq!((at("retry_at") - at("since")).num_milliseconds(), 1000);
        let listed = pair.app.admin().get("/api/v1/models").await.expect(200).json();
        let states: Vec<&Value> =
            listed["data"].as_array().unwrap().iter().map(|m| &m["health"]["state"]).collect();
        assert_eq!(states, ["open", "closed"]);
        let metrics = pair.app.metrics().await;
        for line in [
            "obleth_upstream_circuit_state{model=\"m\"} 2",
            "obleth_upstream_circuit_state{model=\"n\"} 0",
            "obleth_upstream_failures_total{kind=\"broken\",model=\"m\"} 5",
            "obleth_upstream_failures_total{kind=\"broken\",model=\"n\"} 0",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
        pair.stop().await;
    });
}

#[test]
fn one_probe_at_a_time_finds_out_that_it_is_back() {
    run(async {
        let pair = Pair::new(&[]).await;
        pair.open(5).await;
        pair.heal();
        let took = pair.back().await;
        assert!(took < Duration::from_millis(1500), "{took:?}");
        assert_eq!(pair.upstream.connections(), 6, "one probe was enough");
        assert_eq!(pair.health().await["state"], "closed");
        for _ in 0..5 {
            pair.caller.chat("m").await.expect(200);
        }
        pair.stop().await;
    });
}

#[test]
fn a_probe_that_fails_doubles_the_pause() {
    run(async {
        let pair = Pair::new(&[]).await;
        pair.open(5).await;
        let probed = async |count| {
            until("a probe goes", async || {
                let answer = pair.caller.chat("m").await;
                assert_ne!(answer.status, 200);
                (pair.upstream.connections() == count).then(Instant::now)
            })
            .await
        };
        let first = probed(6).await;
        let second = probed(7).await;
        let pause = second - first;
        assert!((1900..3000).contains(&pause.as_millis()), "{pause:?}");
        pair.stop().await;
    });
}

/// Kills a real upstream of `m` (no fallback) and `f` (falls back to `n`), and brings it back.
#[test]
fn an_upstream_that_is_killed_costs_no_connect_and_is_back_within_one_pause_of_its_return() {
    run(async {
        let mock = Mock::start(MockOptions::default());
        let other = Mock::start(MockOptions::default());
        let (base, address) = (mock.base(), mock.address);
        let app = TestApp::at(&base, &[("OBLETH_BREAKER_PROBE_SECS", "2")]).await;
        app.model("m").await;
        app.model_with(json!({"model_name": "f", "fallback_models": ["n"]})).await;
        app.model_with(json!({"model_name": "n", "api_base": other.base()})).await;
        let caller = app.caller("acme").await;
        let said = async |model: &str| {
            let answer = caller.chat(model).await;
            (answer.status, answer.header("x-obleth-model").map(str::to_owned))
        };
        let (fallen, own) = ((200, Some("n".to_owned())), (200, None));
        assert_eq!(
            (said("m").await, said("f").await, said("n").await),
            (own.clone(), own.clone(), own.clone())
        );
        mock.stop().await;
        // A connection that is open already may be served for a moment.
        for (model, failed) in [("m", (502, None)), ("f", fallen.clone())] {
            until("it is gone", async || (said(model).await == failed).then_some(())).await;
            for _ in 1..5 {
                assert_eq!(said(model).await, failed);
            }
        }
        // Whoever knocks from here on is seen.
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let opened = Instant::now();
        for _ in 0..10 {
            let begun = Instant::now();
            assert_eq!((said("m").await, said("f").await), ((503, None), fallen.clone()));
            assert_eq!(said("n").await, own);
            assert!(begun.elapsed() < Duration::from_millis(500), "at once: {:?}", begun.elapsed());
        }
        assert!(opened.elapsed() < Duration::from_millis(1500), "before the first probe is due");
        assert!(listener.accept().is_err(), "nobody knocked");
        let models = app.admin().get("/api/v1/models").await.expect(200).json();
        let states: BTreeMap<&str, &str> = models["data"].as_array().unwrap().iter().map(state_of).collect();
        assert_eq!(states, [("f", "open"), ("m", "open"), ("n", "closed")].into());
        let metrics = app.metrics().await;
        for (model, state) in [("f", 2), ("m", 2), ("n", 0)] {
            let line = format!("obleth_upstream_circuit_state{{model=\"{model}\"}} {state}\n");
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
        let server = start(listener, MockOptions::default()).unwrap();
        let handle = server.handle();
        actix_rt::spawn(server.run());
        let back = Instant::now();
        for model in ["m", "f"] {
            until("it is back", async || (said(model).await == own).then_some(())).await;
        }
        assert!(back.elapsed() < Duration::from_millis(2500), "{:?}", back.elapsed());
        for _ in 0..5 {
            assert_eq!((said("m").await, said("f").await), (own.clone(), own.clone()));
        }
        app.idle().await;
        app.stop().await;
        other.stop().await;
        handle.stop(false).await;
    });
}

fn state_of(model: &Value) -> (&str, &str) {
    (model["model_name"].as_str().unwrap(), model["health"]["state"].as_str().unwrap())
}

#[test]
fn what_counts_as_a_failure() {
    run(async {
        let cut = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
        let pair = Pair::new(&[("OBLETH_BREAKER_FAILURES", "2")]).await;
        for (steps, kind) in [
            (vec![Step::Send(answer(500, "{}"))], "status"),
            (vec![Step::Send(answer(502, "{}"))], "status"),
            (vec![Step::Send(answer(503, "{}"))], "status"),
            (vec![Step::Send(answer(504, "{}"))], "status"),
            (vec![Step::Close], "broken"),
            (vec![Step::Send("SSH-2.0\r\n".into()), Step::Close], "broken"),
            (vec![Step::Send(cut.into()), Step::Close], "cut"),
        ] {
            println!("{steps:?}");
            pair.play(steps);
            pair.open(2).await;
            refused(&pair.caller.chat("m").await);
            assert!(pair.app.metrics().await.contains(&format!("{{kind=\"{kind}\",model=\"m\"}}")));
            pair.heal();
            pair.back().await;
        }
        for status in [400, 401, 404, 408, 422, 429, 501, 529] {
            pair.play(vec![Step::Send(answer(status, "{}"))]);
            for _ in 0..4 {
                assert_eq!(pair.caller.chat("m").await.status, status);
            }
            assert_eq!(pair.health().await["state"], "closed", "{status}");
        }
        pair.stop().await;
    });
}

#[test]
fn a_silent_upstream_and_cut_streams_count_too() {
    run(async {
        let pair = Pair::new(&[("OBLETH_BREAKER_FAILURES", "2")]).await;
        let mut begun = sse(&chat_chunks(&["Hello", "there"], None));
        begun.truncate(2);
        begun.push(Step::Close);
        pair.play(begun);
        let mut body = chat_body();
        body["stream"] = json!(true);
        for _ in 0..2 {
            let answer = pair.caller.post("/v1/chat/completions", &body).await.expect(200);
            assert!(answer.text().contains("upstream_truncated"));
        }
        refused(&pair.caller.chat("m").await);
        pair.heal();
        pair.back().await;
        pair.app.admin().patch("/api/v1/models/m", &json!({"request_timeout_secs": 1})).await.expect(200);
        pair.play(vec![hang()]);
        for _ in 0..2 {
            assert_eq!(pair.caller.chat("m").await.expect(504).error_code(), "upstream_timeout");
        }
        refused(&pair.caller.chat("m").await);
        pair.stop().await;
    });
}

#[test]
fn a_client_that_leaves_is_no_failure_and_its_probe_makes_room_for_the_next() {
    run(async {
        let pair = Pair::new(&[("OBLETH_BREAKER_FAILURES", "2")]).await;
        let key = pair.caller.credential.clone().unwrap();
        let leave = async |id: &str| {
            let (seen, left) = (pair.upstream.seen().len(), pair.upstream.left());
            let text = post("/v1/chat/completions", &key, id, &chat_body());
            let socket = Socket::sent(pair.app.running.proxy, &text).await;
            until("it is upstream", async || (pair.upstream.seen().len() > seen).then_some(())).await;
            drop(socket);
            until("the upstream is left", async || (pair.upstream.left() > left).then_some(())).await;
            pair.app.idle().await;
        };
        pair.play(vec![hang()]);
        for number in 0..5 {
            leave(&format!("left-{number}")).await;
        }
        assert_eq!(pair.health().await["failures"], 0);
        pair.play(vec![Step::Reset]);
        pair.open(2).await;
        pair.play(vec![hang()]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        leave("probe").await;
        assert_eq!(pair.health().await["state"], "open");
        pair.heal();
        pair.caller.chat("m").await.expect(200);
        pair.stop().await;
    });
}

/// One at a time on `m`, all failing when the gate opens: those that still wait when the breaker opens are
/// refused at their grant.
#[test]
fn those_that_wait_when_it_opens_are_refused_without_a_connect() {
    run(async {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let upstream = Upstream::start(move |_| vec![Step::Wait(Arc::clone(&held)), Step::Reset]).await;
        let app = TestApp::with(&upstream, &[("OBLETH_BREAKER_FAILURES", "3")]).await;
        app.model_with(json!({"model_name": "m", "max_in_flight": 1})).await;
        let caller = app.caller("acme").await;
        let asked: Vec<JoinHandle<Answer>> = (0..8)
            .map(|_| {
                let caller = caller.clone();
                actix_rt::spawn(async move { caller.chat("m").await })
            })
            .collect();
        until("seven wait", async || (app.queued() == 7).then_some(())).await;
        gate.add_permits(100);
        let mut codes = Vec::new();
        for asked in asked {
            codes.push(asked.await.unwrap().error_code());
        }
        codes.sort();
        let expected = [["upstream_circuit_open"; 5].as_slice(), &["upstream_error"; 3]].concat();
        assert_eq!(codes, expected);
        assert_eq!((upstream.connections(), app.in_flight(), app.queued()), (3, 0, 0));
        let rows = app.rows().await;
        assert!(rows.iter().all(|row| row["cost_usd"] == "0"));
        assert_eq!(rows.len(), 8);
        app.idle().await;
        app.stop().await;
    });
}

#[test]
fn another_address_or_key_begins_anew() {
    run(async {
        let pair = Pair::new(&[("OBLETH_BREAKER_PROBE_SECS", "60")]).await;
        pair.open(5).await;
        pair.app.admin().patch("/api/v1/models/m", &json!({"description": "x"})).await.expect(200);
        assert_eq!(pair.caller.chat("m").await.status, 503);
        let well = Upstream::always(chat_answer(1, 1)).await;
        pair.app.admin().patch("/api/v1/models/m", &json!({"api_base": well.base()})).await.expect(200);
        pair.caller.chat("m").await.expect(200);
        pair.app.admin().patch("/api/v1/models/m", &json!({"api_base": null})).await.expect(200);
        pair.open(5).await;
        pair.heal();
        pair.app.admin().patch("/api/v1/models/m", &json!({"api_key": "k2"})).await.expect(200);
        pair.caller.chat("m").await.expect(200);
        pair.stop().await;
    });
}

#[test]
fn without_a_breaker_every_request_goes_upstream() {
    run(async {
        let pair = Pair::new(&[("OBLETH_BREAKER_FAILURES", "0")]).await;
        for _ in 0..30 {
            assert_eq!(pair.caller.chat("m").await.expect(502).error_code(), "upstream_error");
        }
        assert_eq!(pair.upstream.connections(), 30);
        pair.stop().await;
    });
}

/// What a check says, but for the time it took.
async fn check(app: &TestApp, query: &str) -> Value {
    let mut checked =
        app.admin().post(&format!("/api/v1/models/m/check{query}"), &json!({})).await.expect(200).json();
    assert!(checked["latency_ms"].take().as_u64().unwrap() < 11_000);
    checked.as_object_mut().unwrap().remove("latency_ms");
    checked
}

#[test]
fn a_check_is_one_tiny_call_that_closes_the_breaker_and_leaves_no_row() {
    run(async {
        let pair = Pair::new(&[("OBLETH_BREAKER_PROBE_SECS", "60")]).await;
        let secret = "sk-of-the-operator";
        let fields =
            json!({"api_key": secret, "upstream_model": "org/m", "upstream_headers": {"x-team": "blue"}});
        pair.app.admin().patch("/api/v1/models/m", &fields).await.expect(200);
        pair.open(5).await;
        let rows = pair.app.rows().await.len();
        let told = |ok: bool, status: Value, seen: Value, code: Value| {
            json!({"model": "m", "upstream_model": "org/m", "route": "/v1/chat/completions", "ok": ok,
                "status": status, "model_seen": seen, "error_code": code})
        };
        assert_eq!(
            check(&pair.app, "").await,
            told(false, json!(null), json!(null), json!("upstream_error"))
        );
        assert_eq!(pair.health().await["state"], "open");
        for (status, code) in [(401, "upstream_auth"), (302, "upstream_error"), (503, "upstream_error")] {
            pair.play(vec![Step::Send(answer(status, &format!(r#"{{"error":"{secret}"}}"#)))]);
            assert_eq!(check(&pair.app, "").await, told(false, json!(status), json!(null), json!(code)));
        }
        pair.play(vec![Step::Send(answer(404, r#"{"error":{"code":"model_not_found"}}"#))]);
        assert_eq!(
            check(&pair.app, "").await,
            told(false, json!(404), json!(null), json!("model_not_found"))
        );
        pair.play(vec![Step::Send(answer(200, "no json"))]);
        assert_eq!(check(&pair.app, "").await, told(false, json!(200), json!(null), json!("upstream_error")));
        assert_eq!(pair.health().await["state"], "open");
        pair.play(vec![Step::Send(answer(200, &format!(r#"{{"model":"{secret}"}}"#)))]);
        assert_eq!(check(&pair.app, "").await, told(true, json!(200), json!(null), json!(null)));
        pair.heal();
        assert_eq!(check(&pair.app, "").await, told(true, json!(200), json!("up"), json!(null)));
        let seen = pair.upstream.last();
        assert_eq!(seen.header("authorization"), Some("Bearer sk-of-the-operator"));
        assert_eq!(seen.header("x-team"), Some("blue"));
        let body = seen.json();
        assert_eq!(
            (&body["model"], &body["max_tokens"], &body["stream"]),
            (&json!("org/m"), &json!(1), &json!(null))
        );
        assert_eq!(pair.health().await["state"], "closed");
        assert_eq!(pair.app.rows().await.len(), rows, "no tenant asked");
        pair.caller.chat("m").await.expect(200);
        pair.stop().await;
    });
}

#[test]
fn a_check_finds_the_route_of_the_model_or_takes_the_one_it_is_told() {
    run(async {
        let script = |seen: &Seen| match seen.target.as_str() {
            "/v1/embeddings" => vec![Step::Send(answer(200, r#"{"model":"e","data":[]}"#))],
            _ => vec![Step::Send(answer(400, r#"{"error":"no chat here"}"#))],
        };
        let upstream = Upstream::start(script).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let checked = check(&app, "").await;
        assert_eq!((&checked["ok"], &checked["route"]), (&json!(true), &json!("/v1/embeddings")));
        assert_eq!(checked["model_seen"], "e");
        let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(targets, ["/v1/chat/completions", "/v1/embeddings"]);
        let told = check(&app, "?route=chat").await;
        assert_eq!((&told["ok"], &told["status"]), (&json!(false), &json!(400)));
        assert_eq!(check(&app, "?route=completions").await["route"], "/v1/completions");
        assert_eq!(check(&app, "?route=embeddings").await["ok"], true);
        for path in ["models/m/check?route=x", "models/m/check?rout=chat"] {
            let refused = app.admin().post(&format!("/api/v1/{path}"), &json!({})).await.expect(400);
            assert_eq!(refused.error_code(), "invalid_request");
        }
        app.admin().post("/api/v1/models/x/check", &json!({})).await.expect(404);
        // No model can have a name that is the path of a check.
        let refused = app.admin().post("/api/v1/models", &json!({"model_name": "m/check"})).await.expect(400);
        assert_eq!(refused.error_code(), "invalid_request");
        let other = app.admin().get("/api/v1/models/m/check").await.expect(405);
        assert_eq!(other.header("allow"), Some("POST"));
        app.stop().await;
    });
}

#[test]
fn a_check_of_a_silent_upstream_ends_after_ten_seconds() {
    run(async {
        let silent = AtomicBool::new(true);
        let upstream = Upstream::start(move |_| match silent.swap(false, Ordering::SeqCst) {
            true => vec![hang()],
            false => vec![Step::Send(chat_answer(1, 1))],
        })
        .await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let begun = Instant::now();
        let checked = check(&app, "").await;
        assert_eq!((&checked["ok"], &checked["error_code"]), (&json!(false), &json!("upstream_timeout")));
        assert!((9..12).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(upstream.seen().len(), 1);
        app.stop().await;
    });
}
