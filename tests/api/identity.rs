//! Who may call: keys, tenants and models, and that each change holds from the very next request.

use crate::support::{Answer, Caller, TestApp, Upstream, chat_answer, chat_body, run, until};
use actix_web::http::Method;
use serde_json::{Value, json};

struct Stand {
    upstream: Upstream,
    app: TestApp,
    tenant: String,
    key_id: String,
    secret: String,
    client: Caller,
}

impl Stand {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(variables: &[(&str, &str)]) -> Self {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::with(&upstream, variables).await;
        app.model("m").await;
        app.model("n").await;
        let tenant = app.tenant(json!({"name": "acme"})).await;
        let path = format!("/api/v1/tenants/{tenant}/keys");
        let made = app.admin().post(&path, &json!({"name": "k"})).await.expect(201).json();
        let secret = made["secret"].as_str().unwrap().to_owned();
        let key_id = made["key"]["id"].as_str().unwrap().to_owned();
        let client = app.client(&secret);
        Self { upstream, app, tenant, key_id, secret, client }
    }

    async fn patch_key(&self, change: Value) {
        self.app.admin().patch(&format!("/api/v1/keys/{}", self.key_id), &change).await.expect(200);
    }

    async fn patch_tenant(&self, change: Value) {
        self.app.admin().patch(&format!("/api/v1/tenants/{}", self.tenant), &change).await.expect(200);
    }

    /// The next request on `m` is refused so, and reaches no upstream.
    async fn refused(&self, status: u16, code: &str) {
        let before = self.upstream.seen().len();
        let answer = self.client.chat("m").await.expect(status);
        assert_eq!(answer.error_code(), code);
        assert_eq!(self.upstream.seen().len(), before);
    }

    async fn served(&self) {
        self.client.chat("m").await.expect(200);
    }

    async fn stop(self) {
        self.app.idle().await;
        self.app.stop().await;
    }
}

async fn with_headers(app: &TestApp, headers: &[(&str, &str)]) -> Answer {
    let request = app.anonymous().request(Method::POST, "/v1/chat/completions");
    let request = headers.iter().fold(request, |request, header| request.append_header(*header));
    Caller::send(request, chat_body().to_string()).await
}

#[test]
fn a_key_is_taken_from_either_header() {
    run(async {
        let stand = Stand::new().await;
        let (key, bearer) = (stand.secret.as_str(), format!("Bearer {}", stand.secret));
        let lower = format!("bearer {key}");
        for headers in [
            vec![("authorization", bearer.as_str())],
            vec![("authorization", lower.as_str())],
            vec![("x-api-key", key)],
            vec![("authorization", bearer.as_str()), ("x-api-key", "sk_other")],
            vec![("authorization", bearer.as_str()), ("x-api-key", "")],
            vec![("authorization", "Bearer anything"), ("x-api-key", key)],
            vec![("authorization", "Basic eDp5"), ("x-api-key", key)],
        ] {
            let answer = with_headers(&stand.app, &headers).await;
            assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
        }
        stand.stop().await;
    });
}

#[test]
fn no_key_or_an_unknown_one_is_a_401_and_leaves_no_row() {
    run(async {
        let stand = Stand::new().await;
        let (key, bearer) = (stand.secret.as_str(), format!("Bearer {}", stand.secret));
        let upper = bearer.to_uppercase().replace("BEARER", "Bearer");
        let cut = &bearer[..bearer.len() - 1];
        let longer = format!("{bearer}0");
        let long = format!("Bearer sk_{}", "a".repeat(5000));
        for headers in [
            vec![],
            vec![("authorization", "")],
            vec![("authorization", "Bearer")],
            vec![("authorization", "Bearer ")],
            vec![("authorization", key)],
            vec![("authorization", "Bearer sk_unknown")],
            vec![("authorization", upper.as_str())],
            vec![("authorization", cut)],
            vec![("authorization", longer.as_str())],
            vec![("authorization", long.as_str())],
            vec![("authorization", "Bearer sk_unknown"), ("x-api-key", key)],
            vec![("authorization", "Basic eDp5")],
            vec![("x-api-key", "sk_unknown")],
            vec![("x-api-key", bearer.as_str())],
        ] {
            let answer = with_headers(&stand.app, &headers).await;
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (401, "invalid_api_key"),
                "{headers:?}"
            );
            assert!(!answer.text().contains(key), "an answer never shows a key");
        }
        assert_eq!(stand.upstream.seen().len(), 0);
        assert!(stand.app.rows().await.is_empty(), "no row before authentication");
        stand.served().await;
        assert_eq!(stand.app.rows().await.len(), 1, "one after it");
        stand.stop().await;
    });
}

#[test]
fn the_admin_token_is_no_key_and_a_key_no_admin_token() {
    run(async {
        let stand = Stand::new().await;
        let admin = Caller::new(stand.app.running.proxy, Some(crate::support::ADMIN_TOKEN));
        assert_eq!(admin.chat("m").await.expect(401).error_code(), "invalid_api_key");
        let client = Caller::new(stand.app.running.admin, Some(&stand.secret));
        assert_eq!(client.get("/api/v1/models").await.expect(401).error_code(), "unauthorized");
        stand.stop().await;
    });
}

#[test]
fn each_change_of_a_key_holds_from_the_next_request() {
    run(async {
        let stand = Stand::new().await;
        for _ in 0..20 {
            stand.served().await;
            stand.patch_key(json!({"disabled": true})).await;
            stand.refused(403, "key_disabled").await;
            stand.patch_key(json!({"disabled": false})).await;
        }
        stand.patch_key(json!({"expires_at": "2020-01-01T00:00:00Z"})).await;
        stand.refused(403, "key_expired").await;
        stand.patch_key(json!({"expires_at": "2999-01-01T00:00:00+02:00"})).await;
        stand.served().await;
        stand.patch_key(json!({"expires_at": null, "allowed_models": ["n"]})).await;
        stand.refused(403, "model_not_allowed").await;
        stand.client.chat("n").await.expect(200);
        stand.patch_key(json!({"allowed_models": []})).await;
        stand.refused(403, "model_not_allowed").await;
        stand.patch_key(json!({"allowed_models": null})).await;
        stand.served().await;
        stand.app.admin().delete(&format!("/api/v1/keys/{}", stand.key_id)).await.expect(204);
        stand.refused(401, "invalid_api_key").await;
        stand.stop().await;
    });
}

#[test]
fn each_change_of_a_tenant_holds_from_the_next_request() {
    run(async {
        let stand = Stand::new().await;
        for _ in 0..20 {
            stand.served().await;
            stand.patch_tenant(json!({"status": "suspended"})).await;
            stand.refused(403, "tenant_suspended").await;
            stand.patch_tenant(json!({"status": "active"})).await;
        }
        stand.patch_tenant(json!({"allowed_models": ["n"]})).await;
        stand.refused(403, "model_not_allowed").await;
        // A key's list narrows its tenant's; it cannot widen it.
        stand.patch_key(json!({"allowed_models": ["m", "n"]})).await;
        stand.refused(403, "model_not_allowed").await;
        stand.client.chat("n").await.expect(200);
        stand.patch_tenant(json!({"allowed_models": null})).await;
        stand.served().await;
        stand.app.admin().delete(&format!("/api/v1/tenants/{}", stand.tenant)).await.expect(204);
        stand.refused(401, "invalid_api_key").await;
        let rows = stand.app.rows().await;
        assert!(
            rows.len() > 20 && rows.iter().all(|row| row["tenant_id"] == stand.tenant.as_str()),
            "its bills stay"
        );
        stand.stop().await;
    });
}

#[test]
fn each_change_of_a_model_holds_from_the_next_request() {
    run(async {
        let stand = Stand::new().await;
        let patch = async |change: Value| {
            stand.app.admin().patch("/api/v1/models/m", &change).await.expect(200);
        };
        for _ in 0..10 {
            stand.served().await;
            patch(json!({"enabled": false})).await;
            stand.refused(403, "model_disabled").await;
            patch(json!({"enabled": true})).await;
        }
        patch(json!({"upstream_model": "other"})).await;
        stand.served().await;
        assert_eq!(stand.upstream.last().json()["model"], "other");
        patch(json!({"aliases": ["a"]})).await;
        stand.client.chat("a").await.expect(200);
        patch(json!({"aliases": []})).await;
        assert_eq!(stand.client.chat("a").await.expect(404).error_code(), "model_not_found");
        patch(json!({"api_key": "op"})).await;
        stand.served().await;
        assert_eq!(stand.upstream.last().header("authorization"), Some("Bearer op"));
        patch(json!({"output_cost_per_token": "1"})).await;
        let answer = stand.client.chat("m").await.expect(200);
        let row = stand.app.row(answer.header("x-request-id").unwrap()).await;
        assert_eq!(row["cost_usd"], "1.0000005");
        patch(json!({"context_window": 1})).await;
        let long = json!({"model": "m", "messages": [{"role": "user", "content": "a".repeat(1000)}]});
        let answer = stand.client.post("/v1/chat/completions", &long).await.expect(400);
        assert_eq!(answer.error_code(), "context_length_exceeded");
        stand.app.admin().delete("/api/v1/models/m").await.expect(204);
        stand.refused(404, "model_not_found").await;
        stand.stop().await;
    });
}

#[test]
fn refusals_after_authentication_leave_one_row_each() {
    run(async {
        let stand = Stand::new().await;
        stand.patch_tenant(json!({"allowed_models": ["n"]})).await;
        let refused = stand.client.chat("m").await.expect(403);
        let row = stand.app.row(refused.header("x-request-id").unwrap()).await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(403), &json!("model_not_allowed")));
        assert_eq!((&row["admission"], &row["model"]), (&json!("rejected"), &json!("m")));
        assert_eq!((&row["tenant_id"], &row["key_id"]), (&json!(stand.tenant), &json!(stand.key_id)));
        assert_eq!(stand.app.rows().await.len(), 1);
        stand.stop().await;
    });
}

async fn rotate(stand: &Stand, body: Value) -> Caller {
    let path = format!("/api/v1/keys/{}/rotate", stand.key_id);
    let rotated = stand.app.admin().post(&path, &body).await.expect(200).json();
    assert_eq!(rotated["key"]["id"].as_str(), Some(stand.key_id.as_str()));
    let secret = rotated["secret"].as_str().unwrap();
    assert!(secret.len() == 51 && secret.starts_with("sk_") && secret != stand.secret);
    assert!(secret.starts_with(rotated["key"]["key_prefix"].as_str().unwrap()));
    stand.app.client(secret)
}

#[test]
fn a_rotated_key_works_on_for_its_overlap() {
    run(async {
        let stand = Stand::new().await;
        let second = rotate(&stand, json!({"overlap_secs": 3600})).await;
        stand.served().await;
        second.chat("m").await.expect(200);
        let third = rotate(&stand, json!({"overlap_secs": 0})).await;
        for old in [&stand.client, &second] {
            assert_eq!(old.chat("m").await.expect(401).error_code(), "invalid_api_key");
        }
        third.chat("m").await.expect(200);
        let fourth = rotate(&stand, json!({})).await;
        third.chat("m").await.expect(401);
        let fifth = rotate(&stand, json!({"overlap_secs": 1})).await;
        fourth.chat("m").await.expect(200);
        until("the overlap is over", async || (fourth.chat("m").await.status == 401).then_some(())).await;
        fifth.chat("m").await.expect(200);
        for overlap in [json!(-1), json!("1"), json!(1.5), json!(99_999_999)] {
            let path = format!("/api/v1/keys/{}/rotate", stand.key_id);
            let answer = stand.app.admin().post(&path, &json!({"overlap_secs": overlap})).await.expect(400);
            assert_eq!(answer.json()["error"]["param"], "overlap_secs");
        }
        fifth.chat("m").await.expect(200);
        // A disabled key is disabled under both its secrets.
        let sixth = rotate(&stand, json!({"overlap_secs": 3600})).await;
        stand.patch_key(json!({"disabled": true})).await;
        for client in [&fifth, &sixth] {
            assert_eq!(client.chat("m").await.expect(403).error_code(), "key_disabled");
        }
        stand.app.admin().delete(&format!("/api/v1/keys/{}", stand.key_id)).await.expect(204);
        for client in [&fifth, &sixth] {
            client.chat("m").await.expect(401);
        }
        stand.stop().await;
    });
}

#[test]
fn keys_made_under_a_pepper_need_it() {
    run(async {
        let stand = Stand::with(&[("OBLETH_API_KEY_PEPPER", "a-pepper-of-some-length")]).await;
        stand.served().await;
        let base = stand.upstream.base();
        stand.app.idle().await;
        let directory = stand.app.stop().await;
        let app = TestApp::start_in(directory, &base, &[]).await;
        app.client(&stand.secret).chat("m").await.expect(401);
        let directory = app.stop().await;
        let app =
            TestApp::start_in(directory, &base, &[("OBLETH_API_KEY_PEPPER", "a-pepper-of-some-length")])
                .await;
        app.client(&stand.secret).chat("m").await.expect(200);
        app.stop().await;
    });
}
