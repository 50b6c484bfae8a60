//! Fallback models: another model serves while the upstream of the one that was asked for fails.

use crate::support::{
    Answer, Caller, Gate, Step, TestApp, Upstream, chat_answer, chat_body, chat_chunks, hang, json as answer,
    run, sse, until,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

mod budgets;
mod cached;

type Scripts = Arc<Mutex<BTreeMap<String, Vec<Step>>>>;

/// A gateway whose one upstream plays for each model (by its name there) what the test sets, else an answer.
struct House {
    app: TestApp,
    upstream: Upstream,
    caller: Caller,
    tenant: String,
    scripts: Scripts,
}

impl House {
    async fn with(variables: &[(&str, &str)]) -> Self {
        let scripts = Scripts::default();
        let played = Arc::clone(&scripts);
        let upstream = Upstream::start(move |seen| {
            let name = seen.json()["model"].as_str().unwrap().to_owned();
            let steps = played.lock().unwrap().get(&name).cloned();
            steps.unwrap_or_else(|| vec![Step::Send(chat_answer(100, 10))])
        })
        .await;
        let app = TestApp::with(&upstream, variables).await;
        let tenant = app.tenant(json!({"name": "acme"})).await;
        let key = app.key(&tenant, json!({"name": "k"})).await;
        let caller = app.client(&key);
        Self { app, upstream, caller, tenant, scripts }
    }

    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// A model with these fallbacks and further fields; upstream it is called `up-<name>`.
    async fn model(&self, name: &str, fallbacks: &[&str], fields: Value) {
        let mut model =
            json!({"model_name": name, "upstream_model": format!("up-{name}"), "fallback_models": fallbacks});
        model.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.app.model_with(model).await;
    }

    fn play(&self, name: &str, steps: Vec<Step>) {
        self.scripts.lock().unwrap().insert(format!("up-{name}"), steps);
    }

    /// What the upstream was asked for, in order.
    fn order(&self) -> Vec<String> {
        self.upstream.seen().iter().map(|seen| seen.json()["model"].as_str().unwrap().to_owned()).collect()
    }

    /// The answer to a chat request to `m`, and the one row it left.
    async fn chat(&self) -> (Answer, Value) {
        let answer = self.caller.chat("m").await;
        self.app.idle().await;
        let id = answer.header("x-request-id").unwrap();
        let rows = self.app.rows().await;
        assert_eq!(rows.iter().filter(|row| row["request_id"] == id).count(), 1, "one row a request");
        let row = rows.into_iter().find(|row| row["request_id"] == id).unwrap();
        (answer, row)
    }

    async fn stop(self) {
        self.app.idle().await;
        assert_eq!((self.app.in_flight(), self.app.queued()), (0, 0));
        self.app.stop().await;
    }
}

fn broken() -> Vec<Step> {
    vec![Step::Send(answer(500, r#"{"error":"mine"}"#))]
}

/// Lets `m` fail until its breaker opens.
async fn open_breaker(house: &House) {
    house.play("m", broken());
    until("the breaker opens", async || {
        let asked = json!({"model": "m", "messages": [{"role": "user", "content": "Fail"}]});
        house.caller.post("/v1/chat/completions", &asked).await;
        let health = house.app.admin().get("/api/v1/models/m").await.expect(200).json()["health"].clone();
        (health["state"] == "open").then_some(())
    })
    .await;
}

#[test]
fn a_fallback_serves_under_its_own_name_and_price() {
    run(async {
        let house = House::new().await;
        let dear = json!({"input_cost_per_token": "0.001", "output_cost_per_token": "0.01"});
        house.model("m", &["fb"], json!({})).await;
        house.model("fb", &[], dear).await;
        let (well, row) = house.chat().await;
        assert_eq!((well.status, well.header("x-obleth-model")), (200, None));
        assert_eq!((&row["model"], &row["cost_usd"]), (&json!("m"), &json!("0.000065")));
        for steps in [
            broken(),
            vec![Step::Send(answer(502, ""))],
            vec![Step::Send(answer(503, "{}"))],
            vec![Step::Send(answer(504, "{}"))],
            vec![Step::Reset],
            vec![Step::Close],
        ] {
            println!("{steps:?}");
            house.play("m", steps);
            let (answer, row) = house.chat().await;
            assert_eq!(
                (answer.status, answer.header("x-obleth-model")),
                (200, Some("fb")),
                "{}",
                answer.text()
            );
            assert_eq!(answer.json()["usage"]["prompt_tokens"], 100);
            assert_eq!((&row["model"], &row["upstream_model"]), (&json!("fb"), &json!("up-fb")));
            assert_eq!((&row["status"], &row["error_code"]), (&json!(200), &json!(null)));
            assert_eq!((&row["cost_usd"], &row["admission"]), (&json!("0.2"), &json!("fast")));
            // Another key: the breaker begins anew.
            let key = json!({"api_key": answer.header("x-request-id")});
            house.app.admin().patch("/api/v1/models/m", &key).await.expect(200);
        }
        house.stop().await;
    });
}

#[test]
fn the_body_is_spliced_from_the_original() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], json!({})).await;
        house.model("fb", &[], json!({})).await;
        house.play("m", broken());
        let text =
            "{ \"messages\":[{\"role\":\"user\",\"content\":\"H\\u0069\"}] ,\"model\" : \"m\", \"odd\":1.50}";
        house.caller.post_text("/v1/chat/completions", text).await.expect(200);
        let bodies: Vec<String> =
            house.upstream.seen().iter().map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect();
        assert_eq!(bodies, [text.replace("\"m\"", "\"up-m\""), text.replace("\"m\"", "\"up-fb\"")]);
        let ids: Vec<_> = house
            .upstream
            .seen()
            .iter()
            .map(|seen| seen.header("x-request-id").unwrap().to_owned())
            .collect();
        assert_eq!(ids[0], ids[1]);
        house.stop().await;
    });
}

#[test]
fn an_open_breaker_goes_to_the_fallback_without_a_connect() {
    run(async {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let house = House::new().await;
        house
            .model("m", &["fb"], json!({"api_base": format!("http://{}", free.local_addr().unwrap())}))
            .await;
        house.model("fb", &[], json!({})).await;
        let address = free.local_addr().unwrap();
        drop(free);
        for _ in 0..5 {
            assert_eq!(house.chat().await.0.header("x-obleth-model"), Some("fb"));
        }
        // Whoever knocks from here on is seen.
        let knocks = TcpListener::bind(address).unwrap();
        knocks.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        for _ in 0..10 {
            let (answer, row) = house.chat().await;
            assert_eq!((answer.status, answer.header("x-obleth-model")), (200, Some("fb")));
            assert_eq!(row["model"], "fb");
        }
        assert!(begun.elapsed() < Duration::from_secs(4), "before the first probe is due");
        assert!(knocks.accept().is_err(), "nobody knocked");
        assert_eq!(house.order().len(), 15);
        house.stop().await;
    });
}

#[test]
fn only_models_the_caller_may_use_are_fallbacks() {
    run(async {
        let house = House::new().await;
        house.model("m", &["nobody", "off", "secret", "small"], json!({})).await;
        house.model("off", &[], json!({"enabled": false})).await;
        house.model("secret", &[], json!({})).await;
        house.model("small", &[], json!({"context_window": 1})).await;
        house.play("m", broken());
        let limits = json!({"allowed_models": ["m", "off", "small", "nobody"]});
        house.app.admin().patch(&format!("/api/v1/tenants/{}", house.tenant), &limits).await.expect(200);
        let mut body = chat_body();
        body["messages"][0]["content"] = json!("x".repeat(100));
        let answer = house.caller.post("/v1/chat/completions", &body).await.expect(500);
        assert_eq!((answer.text().as_str(), answer.header("x-obleth-model")), (r#"{"error":"mine"}"#, None));
        let row = house.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["model"], &row["error_code"]), (&json!("m"), &json!("upstream_error")));
        assert_eq!(house.order(), ["up-m"]);
        house.stop().await;
    });
}

#[test]
fn each_fallback_is_tried_once_and_there_is_no_cycle() {
    run(async {
        let house = House::new().await;
        house.model("m", &["b", "bee", "c", "d"], json!({})).await;
        house.model("b", &["m", "c"], json!({"aliases": ["bee"]})).await;
        house.model("c", &["b"], json!({})).await;
        house.model("d", &[], json!({})).await;
        for name in ["m", "b", "c"] {
            house.play(name, broken());
        }
        let (answer, row) = house.chat().await;
        assert_eq!((answer.status, answer.header("x-obleth-model")), (200, Some("d")));
        assert_eq!((house.order().join(" ").as_str(), &row["model"]), ("up-m up-b up-c up-d", &json!("d")));
        house.play("d", vec![Step::Send(answer_503())]);
        let (answer, row) = house.chat().await;
        assert_eq!((answer.status, answer.text().as_str()), (503, r#"{"last":1}"#));
        assert_eq!((answer.header("x-obleth-model"), answer.header("retry-after")), (Some("d"), Some("1")));
        assert_eq!(
            (&row["model"], &row["status"], &row["cost_usd"]),
            (&json!("d"), &json!(503), &json!("0"))
        );
        assert_eq!(house.order().len(), 8);
        let own = json!({"model_name": "x", "fallback_models": ["x"]});
        let refused = house.app.admin().post("/api/v1/models", &own).await.expect(400);
        assert_eq!(refused.json()["error"]["param"], "fallback_models");
        house.stop().await;
    });
}

fn answer_503() -> bytes::Bytes {
    answer(503, r#"{"last":1}"#)
}

#[test]
fn what_is_no_failure_of_the_upstream_does_not_fall_back() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], json!({})).await;
        house.model("fb", &[], json!({})).await;
        for status in [400, 401, 404, 422, 429, 501] {
            house.play("m", vec![Step::Send(answer(status, "{}"))]);
            let (answer, row) = house.chat().await;
            assert_eq!((answer.status, answer.header("x-obleth-model")), (status, None));
            assert_eq!(row["model"], "m");
        }
        // An answer that has begun is not taken back.
        let mut begun = sse(&chat_chunks(&["Hello", "there"], None));
        begun.truncate(2);
        begun.push(Step::Close);
        house.play("m", begun);
        let mut body = chat_body();
        body["stream"] = json!(true);
        let answer = house.caller.post("/v1/chat/completions", &body).await.expect(200);
        assert!(answer.text().contains("upstream_truncated"));
        assert!(!house.order().contains(&"up-fb".to_owned()));
        house.stop().await;
    });
}

#[test]
fn a_time_out_before_the_first_byte_falls_back() {
    run(async {
        let house = House::new().await;
        house.model("m", &["fb"], json!({"request_timeout_secs": 1})).await;
        house.model("fb", &[], json!({})).await;
        house.play("m", vec![hang()]);
        let mut chunks = sse(&chat_chunks(&["Hello"], Some((3, 1))));
        house.play("fb", std::mem::take(&mut chunks));
        let mut body = chat_body();
        body["stream"] = json!(true);
        let answer = house.caller.post("/v1/chat/completions", &body).await.expect(200);
        assert_eq!(answer.header("x-obleth-model"), Some("fb"));
        assert!(answer.text().ends_with("data: [DONE]\n\n") && !answer.text().contains("prompt_tokens"));
        let row = house.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!(
            (&row["model"], &row["input_tokens"], &row["output_tokens"]),
            (&json!("fb"), &json!(3), &json!(1))
        );
        assert!(row["total_ms"].as_u64().unwrap() >= 1000);
        house.stop().await;
    });
}

/// The only place of the fallback's pool is taken by another tenant.
async fn crowded(variables: &[(&str, &str)]) -> (House, Gate, actix_rt::task::JoinHandle<Answer>) {
    let house = House::with(variables).await;
    house.model("m", &["fb"], json!({})).await;
    house.model("fb", &[], json!({"max_in_flight": 1})).await;
    house.play("m", broken());
    let gate: Gate = Arc::new(Semaphore::new(0));
    house.play("fb", vec![Step::Wait(Arc::clone(&gate)), Step::Send(chat_answer(1, 1))]);
    let other = house.app.caller("other").await;
    let holder = actix_rt::spawn(async move { other.chat("fb").await });
    until("the place is taken", async || (house.order().len() == 1).then_some(())).await;
    (house, gate, holder)
}

#[test]
fn the_seat_is_one_of_the_fallbacks_pool() {
    run(async {
        let (house, gate, holder) = crowded(&[]).await;
        let caller = house.caller.clone();
        let waiting = actix_rt::spawn(async move { caller.chat("m").await });
        until("it waits for the other pool", async || (house.app.queued() == 1).then_some(())).await;
        assert_eq!((house.app.in_flight(), house.order().join(" ").as_str()), (1, "up-fb up-m"));
        gate.add_permits(2);
        let answer = waiting.await.unwrap().expect(200);
        assert_eq!(answer.header("x-obleth-model"), Some("fb"));
        assert_eq!(answer.header("x-obleth-admission"), Some("queued"));
        let row = house.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["model"], &row["admission"]), (&json!("fb"), &json!("queued")));
        holder.await.unwrap().expect(200);
        house.stop().await;
    });
}

#[test]
fn a_fallback_that_is_not_to_be_had_in_time_leaves_the_first_answer() {
    run(async {
        let (house, gate, holder) = crowded(&[("OBLETH_ADMISSION_TIMEOUT_SECS", "1")]).await;
        let begun = Instant::now();
        let caller = house.caller.clone();
        let answer = caller.chat("m").await.expect(500);
        assert!(
            (900..1900).contains(&begun.elapsed().as_millis()),
            "from its arrival: {:?}",
            begun.elapsed()
        );
        assert_eq!((answer.text().as_str(), answer.header("x-obleth-model")), (r#"{"error":"mine"}"#, None));
        let row = house.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!((&row["model"], &row["status"]), (&json!("m"), &json!(500)));
        gate.add_permits(1);
        holder.await.unwrap().expect(200);
        house.stop().await;
    });
}

#[test]
fn who_is_revoked_while_it_waits_for_a_fallback_is_told_so() {
    run(async {
        let (house, gate, holder) = crowded(&[]).await;
        let caller = house.caller.clone();
        let waiting = actix_rt::spawn(async move { caller.chat("m").await });
        until("it waits for the other pool", async || (house.app.queued() == 1).then_some(())).await;
        let status = json!({"status": "suspended"});
        house.app.admin().patch(&format!("/api/v1/tenants/{}", house.tenant), &status).await.expect(200);
        assert_eq!(waiting.await.unwrap().expect(403).error_code(), "tenant_suspended");
        gate.add_permits(1);
        holder.await.unwrap().expect(200);
        house.stop().await;
    });
}

#[test]
fn a_request_that_a_brownout_has_shortened_does_not_fall_back() {
    run(async {
        let house = House::with(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        house.model("m", &["fb"], json!({})).await;
        house.model("fb", &[], json!({})).await;
        house.model("h", &[], json!({})).await;
        house.play("m", broken());
        let gate: Gate = Arc::new(Semaphore::new(0));
        house.play("h", vec![Step::Wait(Arc::clone(&gate)), Step::Send(chat_answer(1, 1))]);
        let policy = json!({"enabled": true, "wait_ms": 20, "max_tokens": 32, "steps": ["cap_tokens"]});
        let tenant = format!("/api/v1/tenants/{}", house.tenant);
        house.app.admin().patch(&tenant, &json!({"brownout": policy})).await.expect(200);
        let other = house.app.caller("other").await;
        let holder = actix_rt::spawn(async move { other.chat("h").await });
        until("the slot is taken", async || (house.order().len() == 1).then_some(())).await;
        let caller = house.caller.clone();
        let waiting = actix_rt::spawn(async move { caller.chat("m").await });
        until("the policy takes its step", async || {
            let live = house.app.admin().get("/api/v1/fairshare/live").await.expect(200).json();
            live["brownout"].as_array().unwrap().iter().any(|row| row["level"] == 1).then_some(())
        })
        .await;
        gate.add_permits(1);
        let answer = waiting.await.unwrap().expect(500);
        assert_eq!(answer.header("x-obleth-brownout"), Some("max_tokens=32"));
        assert_eq!((answer.header("x-obleth-model"), answer.text().as_str()), (None, r#"{"error":"mine"}"#));
        assert_eq!(house.order(), ["up-h", "up-m"]);
        holder.await.unwrap().expect(200);
        house.stop().await;
    });
}
