//! Budgets and limits a minute: who is refused and why, what a request is charged, what is said of it.

use crate::support::{Answer, Caller, TestApp, Upstream};
use serde_json::{Value, json};

mod bounds;
mod changed;
mod charges;
mod kept;
mod minutes;
mod overshoot;
mod restart;
mod views;

/// A gateway with model `m` and a tenant that has these limits.
struct Limited {
    app: TestApp,
    tenant: String,
    caller: Caller,
}

impl Limited {
    async fn new(upstream: &Upstream, fields: Value) -> Self {
        Self::with(upstream, json!({}), fields, json!({}), &[]).await
    }

    /// With further fields of model, tenant and key, and further variables.
    async fn with(
        upstream: &Upstream,
        model: Value,
        tenant: Value,
        key: Value,
        variables: &[(&str, &str)],
    ) -> Self {
        let app = TestApp::with(upstream, variables).await;
        let named = |name: &str, fields: Value| {
            let mut named = json!({ "name": name });
            named.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            named
        };
        let mut fields = json!({"model_name": "m"});
        fields.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
        app.model_with(fields).await;
        let tenant = app.tenant(named("acme", tenant)).await;
        let caller = app.client(&app.key(&tenant, named("k", key)).await);
        Self { app, tenant, caller }
    }

    /// `GET /tenants/{id}/budget`.
    async fn budget(&self) -> Value {
        self.app.admin().get(&format!("/api/v1/tenants/{}/budget", self.tenant)).await.expect(200).json()
    }

    /// Used and reserved tokens in total.
    async fn tokens(&self) -> (u64, u64) {
        let total = &self.budget().await["usage"]["total"];
        (total["tokens"].as_u64().unwrap(), total["reserved_tokens"].as_u64().unwrap())
    }

    /// A chat with this output bound.
    async fn chat(&self, max_tokens: u64) -> Answer {
        self.caller.post("/v1/chat/completions", &chat(max_tokens)).await
    }

    async fn stop(self) {
        self.app.idle().await;
        assert_eq!(self.tokens().await.1, 0, "nothing is reserved when nothing runs");
        assert_eq!(self.app.running.gateway.handles.budget.holds(), 0);
        self.app.stop().await;
    }
}

fn chat(max_tokens: u64) -> Value {
    json!({"model": "m", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello"}]})
}

/// What a hard budget reserves for the prompt of `chat`: its bytes and a frame.
fn prompt_bound(body: &Value) -> u64 {
    u64::try_from(body.to_string().len()).unwrap() + 64
}

/// A hard budget of tokens in total.
fn total(tokens: u64) -> Value {
    json!({"budgets": [{"period": "total", "max_tokens": tokens}]})
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header}")).parse().unwrap()
}
