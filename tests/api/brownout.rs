//! Under pressure: what the policies of tenants do, one step after the other, and what everybody is told.

use crate::support::{
    Answer, Caller, Gate, Step, TestApp, Upstream, chat_answer, json as answer, run, until,
};
use actix_rt::task::JoinHandle;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

const CHAT: &str = "/v1/chat/completions";

/// A gateway with one slot, which is taken, in front of an upstream that answers when it is let.
struct Scene {
    app: TestApp,
    upstream: Upstream,
    gate: Gate,
    holder: JoinHandle<Answer>,
}

impl Scene {
    /// The slot is held by the tenant of this name and policy.
    async fn new(variables: &[(&str, &str)], holder: (&str, Value)) -> (Self, Caller) {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let script = move |seen: &crate::support::Seen| {
            let body = match seen.target.as_str() {
                "/v1/embeddings" => {
                    answer(200, r#"{"data":[],"usage":{"prompt_tokens":1,"total_tokens":1}}"#)
                }
                _ => chat_answer(1, 1),
            };
            vec![Step::Wait(Arc::clone(&held)), Step::Send(body)]
        };
        let upstream = Upstream::start(script).await;
        let variables: Vec<_> =
            [("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")].iter().chain(variables).copied().collect();
        let app = TestApp::with(&upstream, &variables).await;
        app.model("m").await;
        let caller = tenant(&app, holder.0, holder.1).await;
        let own = caller.clone();
        let holder = actix_rt::spawn(async move { own.chat("m").await });
        until("the slot is taken", async || (upstream.seen().len() == 1).then_some(())).await;
        (Self { app, upstream, gate, holder }, caller)
    }

    /// Sends a request and waits until it stands in the queue.
    async fn join(&self, caller: &Caller, body: Value) -> JoinHandle<Answer> {
        let before = self.app.queued();
        let own = caller.clone();
        let sent = actix_rt::spawn(async move { own.post(CHAT, &body).await });
        until("it stands in the queue", async || (self.app.queued() > before).then_some(())).await;
        sent
    }

    /// The rows of the brownout in the live view.
    async fn rows(&self) -> Vec<Value> {
        let view = self.app.admin().get("/api/v1/fairshare/live").await.expect(200).json();
        view["brownout"].as_array().unwrap().clone()
    }

    /// Waits until the policies have come to this level.
    async fn level(&self, wanted: u64) -> Vec<Value> {
        until(&format!("level {wanted}"), async || {
            let rows = self.rows().await;
            let level = rows.iter().filter_map(|row| row["level"].as_u64()).max().unwrap_or(0);
            (level == wanted).then_some(rows)
        })
        .await
    }

    /// So many slots from now on, and everything is answered.
    async fn open(&self, slots: u32) {
        self.gate.add_permits(10_000);
        self.app.admin().put("/api/v1/capacity", &json!({"max_in_flight": slots})).await.expect(200);
    }

    /// What the upstream saw of the request with this mark.
    fn seen(&self, mark: &str) -> Value {
        let all = self.upstream.seen();
        all.iter().map(|seen| seen.json()).find(|body| body["user"] == mark).expect("it went upstream")
    }

    async fn counted(&self, step: &str) -> u64 {
        let metrics = Caller::new(self.app.running.metrics, None).get("/metrics").await.text();
        let series = format!("obleth_brownout_total{{step=\"{step}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(series.as_str())).expect("the series");
        line.parse().unwrap()
    }

    async fn stop(self) {
        self.gate.add_permits(10_000);
        self.holder.await.unwrap().expect(200);
        self.app.idle().await;
        self.app.stop().await;
    }
}

async fn tenant(app: &TestApp, name: &str, brownout: Value) -> Caller {
    let tenant = app.tenant(json!({"name": name, "brownout": brownout})).await;
    app.client(&app.key(&tenant, json!({"name": name})).await)
}

fn policy(steps: &[&str]) -> Value {
    json!({"enabled": true, "wait_ms": 20, "max_tokens": 32, "steps": steps})
}

/// A chat request with a mark to know it by upstream.
fn marked(mark: &str, fields: Value) -> Value {
    let mut body = json!({"model": "m", "user": mark, "messages": [{"role": "user", "content": "Hello"}]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// Admission header, what was changed, admission of the row.
async fn told(scene: &Scene, answer: &Answer) -> (Option<String>, Option<String>, String) {
    scene.app.idle().await;
    let row = scene.app.row(answer.header("x-request-id").unwrap()).await;
    let header = |name: &str| answer.header(name).map(str::to_owned);
    let admission = row["admission"].as_str().unwrap().to_owned();
    (header("x-obleth-admission"), header("x-obleth-brownout"), admission)
}

fn browned_out() -> (Option<String>, Option<String>, String) {
    (Some("brownout".to_owned()), Some("max_tokens=32".to_owned()), "brownout".to_owned())
}

#[test]
fn answers_are_shortened_where_the_policy_says_so_and_nowhere_else() {
    run(async {
        let (scene, plain) = Scene::new(&[], ("plain", Value::Null)).await;
        let dim = tenant(&scene.app, "dim", policy(&["cap_tokens"])).await;
        let off = tenant(&scene.app, "off", json!({"enabled": false, "wait_ms": 20})).await;
        assert_eq!(scene.counted("cap_tokens").await, 0);
        assert_eq!(scene.rows().await, [] as [Value; 0]);
        let waiting = scene.join(&dim, marked("waited", json!({}))).await;
        let untouched = scene.join(&off, marked("off", json!({"max_tokens": 5000}))).await;
        let also = scene.join(&plain, marked("plain", json!({}))).await;
        let rows = scene.level(1).await;
        assert_eq!((rows.len(), &rows[0]["model"], &rows[0]["level"]), (1, &json!(null), &json!(1)));
        assert_eq!((&rows[0]["steps"], &rows[0]["reason"]), (&json!(["cap_tokens"]), &json!("oldest_wait")));
        let policy = json!({"wait_ms": 20, "max_tokens": 32, "steps": ["cap_tokens"]});
        assert_eq!(rows[0]["policy"], policy);
        let view = scene.app.admin().get("/api/v1/fairshare/live").await.expect(200).json();
        let of = |name: &str| {
            let tenants = view["tenants"].as_array().unwrap();
            tenants.iter().find(|row| row["name"] == name).unwrap()["brownout"].clone()
        };
        let dimmed = json!({"level": 1, "steps": ["cap_tokens"], "reason": "oldest_wait"});
        assert_eq!((of("dim"), of("off"), of("plain")), (dimmed, Value::Null, Value::Null));
        let limits = dim.get("/v1/limits").await.expect(200).json();
        let in_force = json!([{"model": null, "steps": ["cap_tokens"]}]);
        assert_eq!(limits["brownout"]["in_force"], in_force, "{limits}");
        assert_eq!(limits["brownout"]["wait_ms"], 20);
        assert_eq!(plain.get("/v1/limits").await.expect(200).json()["brownout"], Value::Null);

        scene.open(100).await;
        let table = shortened_or_not(&scene, &dim).await;
        let waited = waiting.await.unwrap().expect(200);
        assert_eq!(waited.header("x-obleth-max-tokens"), Some("32"));
        assert_eq!(told(&scene, &waited).await, browned_out());
        assert_eq!(scene.seen("waited")["max_tokens"], 32);
        for (sent, mark, bound) in [(untouched, "off", json!(5000)), (also, "plain", Value::Null)] {
            let queued = (Some("queued".to_owned()), None, "queued".to_owned());
            assert_eq!(told(&scene, &sent.await.unwrap().expect(200)).await, queued);
            assert_eq!(scene.seen(mark)["max_tokens"], bound);
        }
        assert_eq!(scene.counted("cap_tokens").await, table + 1);
        assert_eq!(scene.counted("shed").await, 0);

        // Nobody sends anything: it leaves by itself.
        scene.level(0).await;
        let full = dim.post(CHAT, &marked("after", json!({"max_tokens": 400}))).await.expect(200);
        assert_eq!(told(&scene, &full).await, (Some("fast".to_owned()), None, "fast".to_owned()));
        assert_eq!(scene.seen("after")["max_tokens"], 400);
        scene.stop().await;
    });
}

/// Sends one of each kind at once; how many were shortened.
async fn shortened_or_not(scene: &Scene, dim: &Caller) -> u64 {
    let table: Vec<(&str, &str, Value, Value)> = vec![
        ("none", CHAT, json!({}), json!({"max_tokens": 32})),
        ("higher", CHAT, json!({"max_tokens": 33, "n": 3}), json!({"max_tokens": 32, "n": 3})),
        ("null", CHAT, json!({"max_tokens": null}), json!({"max_tokens": 32})),
        ("newer", CHAT, json!({"max_completion_tokens": 400}), json!({"max_completion_tokens": 32})),
        (
            "stream",
            CHAT,
            json!({"stream": true, "max_tokens": 64}),
            json!({"max_tokens": 32, "stream": true}),
        ),
        ("text", "/v1/completions", json!({"prompt": "x"}), json!({"max_tokens": 32})),
        ("response", "/v1/responses", json!({"input": "x"}), json!({"max_output_tokens": 32})),
        ("message", "/v1/messages", json!({"max_tokens": 1024}), json!({"max_tokens": 32})),
        ("equal", CHAT, json!({"max_tokens": 32}), json!({"max_tokens": 32})),
        ("lower", CHAT, json!({"max_tokens": 8}), json!({"max_tokens": 8})),
        ("vector", "/v1/embeddings", json!({"input": "x"}), json!({"max_tokens": null})),
    ];
    let send = |(mark, path, fields, _): &(&'static str, &'static str, Value, Value)| {
        let (own, path, body) = (dim.clone(), *path, marked(mark, fields.clone()));
        actix_rt::spawn(async move { own.post(path, &body).await })
    };
    let sent: Vec<_> = table.iter().map(send).collect();
    let mut shortened = 0;
    for ((mark, _, _, wanted), sent) in table.iter().zip(sent) {
        let answer = sent.await.unwrap().expect(200);
        let (header, change, row) = told(scene, &answer).await;
        let seen = scene.seen(mark);
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(&seen[field], value, "{mark}: {seen}");
        }
        if ["equal", "lower", "vector"].contains(mark) {
            assert_eq!((header.as_deref(), change), (Some(row.as_str()), None), "{mark}");
            assert!(["fast", "queued"].contains(&row.as_str()), "{mark}: {row}");
        } else {
            assert_eq!((header, change, row), browned_out(), "{mark}");
            shortened += 1;
        }
    }
    shortened
}

/// A request that was refused for the others' sake.
async fn assert_shed(scene: &Scene, answer: Answer, waited: bool) {
    let answer = answer.expect(503);
    assert_eq!(answer.error_code(), "overloaded");
    assert!((1..=60).contains(&answer.header("retry-after").unwrap().parse::<u64>().unwrap()));
    assert_eq!(answer.header("x-obleth-brownout"), Some("shed"));
    assert_eq!(answer.header("x-obleth-admission"), waited.then_some("queued"));
    let row = scene.app.row(answer.header("x-request-id").unwrap()).await;
    assert_eq!(
        (&row["admission"], &row["status"], &row["error_code"], &row["output_tokens"]),
        (&json!("rejected"), &json!(503), &json!("overloaded"), &json!(0))
    );
}

#[test]
fn who_is_over_its_share_is_refused_first_then_all_with_the_policy_and_nobody_else() {
    run(async {
        let (scene, flood) = Scene::new(&[], ("flood", policy(&["shed"]))).await;
        let light = tenant(&scene.app, "light", policy(&["shed"])).await;
        let plain = tenant(&scene.app, "plain", Value::Null).await;
        let light_one = scene.join(&light, marked("light", json!({}))).await;
        let mut others = Vec::new();
        for mark in ["p0", "p1"] {
            others.push(scene.join(&plain, marked(mark, json!({"max_tokens": 5000}))).await);
        }
        // Eight requests of three tenants of one weight: three each, and one of the flood runs.
        let own = flood.clone();
        let crowd: Vec<_> = (0..4)
            .map(|_| {
                let own = own.clone();
                actix_rt::spawn(async move { own.chat("m").await })
            })
            .collect();
        scene.level(1).await;
        until("the flood is left with its share", async || {
            (crowd.iter().filter(|sent| sent.is_finished()).count() == 3).then_some(())
        })
        .await;
        assert_shed(&scene, flood.chat("m").await, false).await;
        let light_two = scene.join(&light, marked("light2", json!({}))).await;
        assert!(!light_one.is_finished() && others.iter().all(|other| !other.is_finished()));
        let rows = scene.level(2).await;
        assert_eq!((&rows[0]["steps"], rows.len()), (&json!(["shed"]), 1));
        for sent in [light_one, light_two] {
            assert_shed(&scene, sent.await.unwrap(), true).await;
        }
        for sent in crowd {
            let answer = sent.await.unwrap();
            let waited = answer.header("x-obleth-admission").is_some();
            assert_shed(&scene, answer, waited).await;
        }
        assert_shed(&scene, light.chat("m").await, false).await;
        others.push(scene.join(&plain, marked("p2", json!({"max_tokens": 5000}))).await);
        assert_eq!(scene.counted("shed").await, 8);
        assert_eq!(scene.counted("cap_tokens").await, 0);
        scene.gate.add_permits(10_000);
        for (number, sent) in others.into_iter().enumerate() {
            let queued = (Some("queued".to_owned()), None, "queued".to_owned());
            assert_eq!(told(&scene, &sent.await.unwrap().expect(200)).await, queued);
            assert_eq!(scene.seen(&format!("p{number}"))["max_tokens"], 5000);
        }
        // A free slot is refused to nobody.
        light.chat("m").await.expect(200);
        scene.stop().await;
    });
}

#[test]
fn the_default_policy_is_that_of_tenants_without_one() {
    run(async {
        let default = r#"{"enabled":true,"max_tokens":16,"steps":["cap_tokens"]}"#;
        let variables = [("OBLETH_BROWNOUT_DEFAULT", default), ("OBLETH_BROWNOUT_WAIT_MS", "20")];
        let (scene, plain) = Scene::new(&variables, ("plain", Value::Null)).await;
        let off = tenant(&scene.app, "off", json!({"enabled": false})).await;
        let own = tenant(&scene.app, "own", json!({"enabled": true, "max_tokens": 64})).await;
        let mut waiting = Vec::new();
        for (mark, caller) in [("plain", &plain), ("off", &off), ("own", &own)] {
            waiting.push(scene.join(caller, marked(mark, json!({}))).await);
        }
        until("both are at level 1", async || (scene.rows().await.len() == 2).then_some(())).await;
        scene.open(100).await;
        for sent in waiting {
            sent.await.unwrap().expect(200);
        }
        let bounds = ["plain", "off", "own"].map(|mark| scene.seen(mark)["max_tokens"].clone());
        assert_eq!(bounds, [json!(16), Value::Null, json!(64)]);
        scene.stop().await;
    });
}

#[test]
fn a_shortened_answer_is_not_kept() {
    run(async {
        let (scene, plain) = Scene::new(&[], ("plain", Value::Null)).await;
        let cached = json!({"cache_enabled": true, "cache_ttl_secs": 600});
        scene.app.admin().patch("/api/v1/models/m", &cached).await.expect(200);
        let dim = tenant(&scene.app, "dim", policy(&["cap_tokens"])).await;
        let body = marked("same", json!({}));
        let waiting = scene.join(&dim, body.clone()).await;
        scene.level(1).await;
        scene.open(100).await;
        let first = waiting.await.unwrap().expect(200);
        let second = dim.post(CHAT, &body).await.expect(200);
        for answer in [first, second] {
            assert_eq!(told(&scene, &answer).await, browned_out());
            assert_eq!(answer.header("x-obleth-cache"), Some("miss"));
        }
        assert_eq!(scene.upstream.seen().len(), 3, "each asked for itself");
        scene.level(0).await;
        for (caller, wanted) in [(&dim, "miss"), (&dim, "hit"), (&plain, "miss")] {
            let answer = caller.post(CHAT, &body).await.expect(200);
            assert_eq!(answer.header("x-obleth-cache"), Some(wanted));
        }
        scene.stop().await;
    });
}
