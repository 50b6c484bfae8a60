//! A gateway in front of an upstream that answers when the test lets it: requests run and wait as long as
//! it wants.

use super::{Answer, Caller, Gate, Step, TestApp, Upstream, chat_answer, until};
use actix_rt::task::JoinHandle;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// The gateway, its upstream, and the requests that were sent.
pub struct Room {
    pub app: TestApp,
    pub upstream: Upstream,
    pub gate: Gate,
    asked: RefCell<Vec<JoinHandle<Answer>>>,
}

impl Room {
    /// With so many slots.
    pub async fn new(slots: u32) -> Self {
        Self::with(&[("OBLETH_GLOBAL_MAX_IN_FLIGHT", &slots.to_string())]).await
    }

    pub async fn with(variables: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), variables).await
    }

    /// On the database in `directory`.
    pub async fn start_in(directory: TempDir, variables: &[(&str, &str)]) -> Self {
        let gate: Gate = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&gate);
        let script = move |_: &_| vec![Step::Wait(Arc::clone(&held)), Step::Send(chat_answer(1, 1))];
        let upstream = Upstream::start(script).await;
        let app = TestApp::start_in(directory, &upstream.base(), variables).await;
        Self { app, upstream, gate, asked: RefCell::default() }
    }

    /// Sends a chat request under this id, and waits until it runs or waits.
    pub async fn ask(&self, caller: &Caller, id: &str) {
        let before = self.here();
        let request = caller.request(actix_web::http::Method::POST, "/v1/chat/completions");
        let request = request.insert_header(("content-type", "application/json"));
        let request = request.insert_header(("x-request-id", id));
        let body =
            json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]});
        let sent = actix_rt::spawn(async move { Caller::send(request, body.to_string()).await });
        self.asked.borrow_mut().push(sent);
        until("the request runs or waits", async || (self.here() > before).then_some(())).await;
    }

    /// Requests upstream so far, and requests that wait.
    fn here(&self) -> usize {
        self.upstream.seen().len() + self.app.queued() as usize
    }

    /// Lets so many requests end, one after the other, each once the one before it has been answered.
    pub async fn release(&self, count: usize) {
        for _ in 0..count {
            let rows = self.app.running.gateway.handles.accounting.counts().received;
            self.gate.add_permits(1);
            let counts = || self.app.running.gateway.handles.accounting.counts().received;
            until("a request ends", async || (counts() > rows).then_some(())).await;
            self.settled().await;
        }
    }

    /// Waits until whoever holds a seat has been sent upstream.
    pub async fn settled(&self) {
        let ended = || self.app.running.gateway.handles.accounting.counts().received as usize;
        until("those with a seat are upstream", async || {
            (self.upstream.seen().len() >= ended() + self.app.in_flight() as usize).then_some(())
        })
        .await;
    }

    /// The first letters of the ids of what went upstream, in its order.
    pub fn order(&self) -> String {
        let first = |seen: &super::Seen| seen.header("x-request-id").unwrap().chars().next().unwrap();
        self.upstream.seen().iter().map(first).collect()
    }

    /// Lets everything end, with 200 each; how many there were.
    pub async fn finish(&self) -> usize {
        self.gate.add_permits(10_000);
        let asked = self.asked.take();
        let count = asked.len();
        for answer in asked {
            answer.await.unwrap().expect(200);
        }
        self.app.idle().await;
        count
    }

    /// `GET /api/v1/{path}`.
    pub async fn get(&self, path: &str) -> Value {
        self.app.admin().get(&format!("/api/v1/{path}")).await.expect(200).json()
    }
}
