//! The audit: who changed what, from what to what, and nothing of a secret.

use crate::access::token;
use crate::management::{names, start, start_with};
use crate::support::{Caller, TestApp, run};
use actix_web::http::Method;
use serde_json::{Value, json};

async fn rows(app: &TestApp, query: &str) -> Vec<Value> {
    let page = app.admin().get(&format!("/api/v1/audit?limit=1000{query}")).await.expect(200).json();
    page["data"].as_array().unwrap().clone()
}

/// The latest row.
async fn last(app: &TestApp) -> Value {
    rows(app, "").await.remove(0)
}

#[test]
fn each_change_leaves_one_row_that_says_who_and_what() {
    run(async {
        let (app, admin) = start().await;
        let (ci, operator) = token(&app, "ci", "operator").await;
        let request =
            operator.request(Method::POST, "/api/v1/tenants").insert_header(("x-request-id", "mine"));
        let tenant = Caller::send(request, json!({"name": "acme"}).to_string()).await.expect(201).json();
        let made = last(&app).await;
        assert_eq!(made["actor"], json!({"id": ci, "name": "ci"}));
        assert_eq!(
            (&made["method"], &made["action"], &made["kind"]),
            (&json!("POST"), &json!("create"), &json!("tenant"))
        );
        assert_eq!((&made["object_id"], &made["object_name"]), (&tenant["id"], &json!("acme")));
        assert_eq!((&made["before"], &made["after"]), (&Value::Null, &tenant));
        assert_eq!((&made["request_id"], &made["address"]), (&json!("mine"), &json!("127.0.0.1")));

        let path = format!("/api/v1/tenants/{}", tenant["id"].as_str().unwrap());
        let answer = admin.patch(&path, &json!({"weight": 7})).await.expect(200);
        let changed = last(&app).await;
        assert_eq!((&changed["before"], &changed["after"]), (&tenant, &answer.json()));
        assert_eq!(changed["actor"], json!({"id": "root", "name": "root"}));
        assert_eq!(changed["request_id"].as_str(), answer.header("x-request-id"), "one id for one request");

        let key = admin.post(&format!("{path}/keys"), &json!({"name": "k"})).await.expect(201).json();
        let made = last(&app).await;
        assert_eq!((&made["after"]["name"], &made["action"]), (&json!("k"), &json!("create")));
        for (field, value) in made["after"].as_object().unwrap() {
            assert_eq!(value, &key["key"][field], "{field}");
        }
        let key_path = format!("/api/v1/keys/{}", key["key"]["id"].as_str().unwrap());
        admin.patch(&key_path, &json!({"disabled": true})).await.expect(200);
        admin.post(&format!("{key_path}/rotate"), &json!({})).await.expect(200);
        assert_eq!(last(&app).await["action"], "rotate");
        admin.delete(&key_path).await.expect(204);
        assert_eq!(
            (&last(&app).await["action"], &last(&app).await["after"]),
            (&json!("delete"), &Value::Null)
        );
        admin.post("/api/v1/groups", &json!({"name": "g"})).await.expect(201);
        admin.patch("/api/v1/groups/g", &json!({"weight": 3})).await.expect(200);
        admin.delete("/api/v1/groups/g").await.expect(204);
        app.model("m").await;
        admin.put("/api/v1/models/m", &json!({"description": "x"})).await.expect(200);
        admin.put("/api/v1/models/n", &json!({})).await.expect(201);
        admin.delete("/api/v1/models/m").await.expect(204);
        admin.put("/api/v1/capacity", &json!({"max_in_flight": 5})).await.expect(200);
        assert_eq!(last(&app).await["after"]["max_in_flight"], 5);
        admin.delete("/api/v1/cache?model=n").await.expect(204);
        assert_eq!(last(&app).await["before"], json!({"tenant_id": null, "model": "n"}));
        admin.delete(&path).await.expect(204);
        admin.delete(&format!("/api/v1/admin-tokens/{ci}")).await.expect(204);
        let what: Vec<_> = rows(&app, "")
            .await
            .iter()
            .rev()
            .map(|row| format!("{} {}", row["action"].as_str().unwrap(), row["kind"].as_str().unwrap()))
            .collect();
        let expected = "create admin_token, create tenant, update tenant, create key, update key, rotate key, \
             delete key, create group, update group, delete group, create model, update model, create model, \
             delete model, update capacity, delete cache, delete tenant, delete admin_token";
        assert_eq!(what.join(", "), expected);
        app.stop().await;
    });
}

#[test]
fn what_was_refused_leaves_no_row() {
    run(async {
        let (app, admin) = start().await;
        app.model_with(json!({"model_name": "m", "aliases": ["a"]})).await;
        app.tenant(json!({"name": "t"})).await;
        let before = rows(&app, "").await;
        admin.post("/api/v1/models", &json!({"model_name": "a"})).await.expect(409);
        admin.post("/api/v1/models", &json!({"model_name": "x", "colour": 1})).await.expect(400);
        admin.patch("/api/v1/models/m", &json!({"version": 9})).await.expect(409);
        admin.post("/api/v1/tenants", &json!({"name": "t"})).await.expect(409);
        admin.delete("/api/v1/groups/default").await.expect(409);
        admin.delete("/api/v1/models/none").await.expect(404);
        assert_eq!(rows(&app, "").await, before);
        for (method, path) in
            [("DELETE", "/api/v1/audit"), ("POST", "/api/v1/audit"), ("PATCH", "/api/v1/audit")]
        {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            Caller::send(admin.request(method, path), "{}").await.expect(405);
        }
        let id = before[0]["id"].as_str().unwrap();
        admin.delete(&format!("/api/v1/audit/{id}")).await.expect(404);
        app.stop().await;
    });
}

#[test]
fn the_audit_is_filtered_and_walked_by_its_cursor() {
    run(async {
        let (app, admin) = start().await;
        let (ci, operator) = token(&app, "ci", "operator").await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        for weight in 1..=25 {
            operator
                .patch(&format!("/api/v1/tenants/{tenant}"), &json!({"weight": weight}))
                .await
                .expect(200);
        }
        assert_eq!(rows(&app, "&actor=ci").await.len(), 25);
        assert_eq!(rows(&app, &format!("&actor={ci}")).await.len(), 25);
        assert_eq!(rows(&app, "&actor=root").await.len(), 2);
        assert_eq!(rows(&app, "&kind=admin_token").await.len(), 1);
        assert_eq!(rows(&app, &format!("&object_id={tenant}")).await.len(), 26);
        let all = rows(&app, "").await;
        let middle = all[10]["ts"].as_str().unwrap();
        let newer = rows(&app, &format!("&since={middle}")).await;
        let older = rows(&app, &format!("&until={middle}")).await;
        assert_eq!([newer, older].concat(), all);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/api/v1/audit?limit=4{cursor}")).await.expect(200).json();
            seen.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, all);
        for (query, field) in [
            ("colour=red", "colour"),
            ("since=yesterday", "since"),
            ("cursor=eHl6", "cursor"),
            ("limit=0", "limit"),
        ] {
            names(&admin.get(&format!("/api/v1/audit?{query}")).await, field);
        }
        app.stop().await;
    });
}

#[test]
fn no_secret_is_in_the_audit() {
    run(async {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let (app, admin) = start_with(&[("OBLETH_ENCRYPTION_KEY", key)]).await;
        let model = json!({"model_name": "m", "api_key": "sk-very-secret-1", "upstream_headers": {"x-auth": "very-secret-2"}});
        admin.post("/api/v1/models", &model).await.expect(201);
        admin.patch("/api/v1/models/m", &json!({"api_key": "very-secret-3"})).await.expect(200);
        let tenant = app.tenant(json!({"name": "t"})).await;
        let secret = app.key(&tenant, json!({"name": "k"})).await;
        let (_, viewer) = token(&app, "v", "viewer").await;
        let text = viewer.get("/api/v1/audit").await.expect(200).text();
        assert!(text.contains("api_key_set"));
        for secret in ["very-secret", secret.as_str(), viewer.credential.as_deref().unwrap(), "hash"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        app.stop().await;
    });
}

#[test]
fn what_becomes_of_tokens_is_told_to_admins_alone() {
    run(async {
        let (app, admin) = start().await;
        let (_, viewer) = token(&app, "grafana", "viewer").await;
        let (_, operator) = token(&app, "ci", "operator").await;
        let (_, second) = token(&app, "deputy", "admin").await;
        app.model("m").await;
        let kinds = async |caller: &Caller, query: &str| {
            let page = caller.get(&format!("/api/v1/audit?{query}")).await.expect(200).json();
            let kinds =
                page["data"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap().to_owned());
            kinds.collect::<Vec<_>>()
        };
        for caller in [&viewer, &operator] {
            assert_eq!(kinds(caller, "limit=2").await, ["model"]);
            assert!(kinds(caller, "kind=admin_token").await.is_empty());
        }
        for caller in [&admin, &second] {
            assert_eq!(kinds(caller, "").await, ["model", "admin_token", "admin_token", "admin_token"]);
        }
        app.stop().await;
    });
}
