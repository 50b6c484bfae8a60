//! A gateway with one model `m` in front of an upstream whose next answer each test sets.

use super::{Answer, Caller, Step, TestApp, Upstream};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

type Scripts = Arc<Mutex<Vec<Step>>>;

/// The gateway, its upstream, and a caller with a key.
pub struct Stage {
    pub upstream: Upstream,
    pub app: TestApp,
    pub caller: Caller,
    script: Scripts,
    rows: std::cell::Cell<usize>,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(json!({}), &[]).await
    }

    /// With further fields of the model and further variables.
    pub async fn with(model: Value, variables: &[(&str, &str)]) -> Self {
        let script = Scripts::default();
        let played = Arc::clone(&script);
        let upstream = Upstream::start(move |_| played.lock().unwrap().clone()).await;
        // More failures in a row than a breaker stands are what these stages are for.
        let own = [("OBLETH_BREAKER_FAILURES", "0")];
        let variables: Vec<_> = own.iter().chain(variables).copied().collect();
        let app = TestApp::with(&upstream, &variables).await;
        let mut fields = json!({"model_name": "m"});
        fields.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
        app.model_with(fields).await;
        let caller = app.caller("acme").await;
        Self { upstream, app, caller, script, rows: std::cell::Cell::new(0) }
    }

    /// What the upstream answers from now on.
    pub fn play(&self, steps: Vec<Step>) {
        *self.script.lock().unwrap() = steps;
    }

    /// The upstream answers these bytes from now on.
    pub fn answer(&self, bytes: impl Into<bytes::Bytes>) {
        self.play(vec![Step::Send(bytes.into())]);
    }

    /// Posts `body`; the answer and the one row it left.
    pub async fn ask(&self, path: &str, body: &Value) -> (Answer, Value) {
        let answer = self.caller.post(path, body).await;
        let row = self.row_of(&answer).await;
        (answer, row)
    }

    /// The row of an answer; there must be exactly one more than before.
    pub async fn row_of(&self, answer: &Answer) -> Value {
        self.app.idle().await;
        let rows = self.app.rows().await;
        assert_eq!(rows.len(), self.rows.get() + 1, "exactly one row a request");
        self.rows.set(rows.len());
        let id = answer.header("x-request-id").expect("a request id");
        let row = rows.iter().find(|row| row["request_id"] == id).expect("a row of this request");
        row.clone()
    }

    /// A chat completion that is no stream.
    pub async fn chat(&self) -> (Answer, Value) {
        self.ask("/v1/chat/completions", &chat_body()).await
    }

    /// A streamed one.
    pub async fn stream(&self) -> (Answer, Value) {
        let mut body = chat_body();
        body["stream"] = json!(true);
        self.ask("/v1/chat/completions", &body).await
    }

    pub async fn stop(self) {
        self.app.idle().await;
        self.app.stop().await;
    }
}

/// A chat request to `m`.
pub fn chat_body() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
}

/// A step that never ends by itself.
pub fn hang() -> Step {
    Step::Wait(Arc::new(tokio::sync::Semaphore::new(0)))
}
