//! A gateway whose one slot is taken: whatever is sent next waits until the test lets the slot go.

use super::{Answer, Socket};
use super::{Caller, Gate, Seen, Step, TestApp, Upstream, chat_answer, post, until};
use actix_rt::task::JoinHandle;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// See the module head.
pub struct Queue {
    pub app: TestApp,
    pub upstream: Upstream,
    /// A caller of tenant `acme`, whose id is `tenant`.
    pub caller: Caller,
    pub tenant: String,
    slot: Gate,
    holder: JoinHandle<Answer>,
}

impl Queue {
    /// Other requests than the one that holds the slot are answered by `script`.
    pub async fn with(
        variables: &[(&str, &str)],
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let slot: Gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&slot);
        let upstream = Upstream::start(move |seen| match seen.json()["model"] == "holder" {
            true => vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))],
            false => script(seen),
        })
        .await;
        let one_slot = [("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")];
        let variables: Vec<_> = one_slot.iter().chain(variables).copied().collect();
        let app = TestApp::with(&upstream, &variables).await;
        app.model("holder").await;
        app.model("m").await;
        let other = app.caller("holder").await;
        let holder = actix_rt::spawn(async move { other.chat("holder").await });
        until("the slot is taken", async || (upstream.seen().len() == 1).then_some(())).await;
        let tenant = app.tenant(json!({"name": "acme"})).await;
        let key = app.key(&tenant, json!({"name": "k"})).await;
        let caller = app.client(&key);
        Self { app, upstream, caller, tenant, slot, holder }
    }

    /// Sends a request on a socket of its own and waits until it stands in the queue.
    pub async fn join(&self, path: &str, id: &str, body: &Value) -> Socket {
        let before = self.app.queued();
        let key = self.caller.credential.clone().unwrap();
        let socket = Socket::sent(self.app.running.proxy, &post(path, &key, id, body)).await;
        until("it stands in the queue", async || (self.app.queued() == before + 1).then_some(())).await;
        socket
    }

    /// Lets the slot go.
    pub fn release(&self) {
        self.slot.add_permits(1);
    }

    /// Lets the slot go if it is still held, and stops everything.
    pub async fn stop(self) {
        self.release();
        self.holder.await.unwrap().expect(200);
        self.app.idle().await;
        self.app.stop().await;
    }
}

/// A request to `m` that asks for a stream, in the shape of any of the generating routes.
pub fn stream_body() -> Value {
    json!({"model": "m", "stream": true, "max_tokens": 8, "prompt": "Hello", "input": "Hello",
        "messages": [{"role": "user", "content": "Hello"}]})
}
