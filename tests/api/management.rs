//! The management API: what each resource stores, refuses and keeps to itself.

use crate::support::{Answer, Caller, TestApp, Upstream, run};
use serde_json::{Value, json};

pub async fn start() -> (TestApp, Caller) {
    start_with(&[]).await
}

pub async fn start_with(variables: &[(&str, &str)]) -> (TestApp, Caller) {
    let app = TestApp::at("http://127.0.0.1:9/v1", variables).await;
    let admin = app.admin();
    (app, admin)
}

/// A 400 whose `param` is `field`.
pub fn names(answer: &Answer, field: &str) {
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (400, "invalid_request"),
        "{field}: {}",
        answer.text()
    );
    let param = &answer.json()["error"]["param"];
    assert_eq!(param.as_str().unwrap_or_default(), field, "{}", answer.text());
}

/// Every field of `sent` is in `got`.
fn holds(got: &Value, sent: &Value) {
    for (field, value) in sent.as_object().unwrap() {
        assert_eq!(&got[field], value, "{field} of {got}");
    }
    for field in ["id", "created_at", "updated_at"] {
        assert!(got[field].is_string(), "{field} of {got}");
    }
    assert!(got["version"].is_i64(), "{got}");
}

#[test]
fn a_model_keeps_every_field() {
    run(async {
        let (app, admin) = start().await;
        let mut model = json!({
            "model_name": "org/m 1", "upstream_model": "up", "api_base": "https://gw.example:8443/v1",
            "input_cost_per_token": "0.0000005", "cached_input_cost_per_token": "0.000000000001",
            "output_cost_per_token": "1000", "context_window": 8192, "max_output_tokens": 1024,
            "admission_weight": 2.25, "max_in_flight": 7, "enabled": false, "aliases": ["a", "b/c"],
            "cache_enabled": true, "cache_ttl_secs": 60, "request_timeout_secs": 9,
            "fallback_models": ["other"], "description": "ü"
        });
        let made = admin.post("/api/v1/models", &model).await.expect(201).json();
        holds(&made, &model);
        assert_eq!((&made["api_key_set"], &made["upstream_headers"]), (&json!(false), &json!({})));
        assert_eq!(admin.get("/api/v1/models/org/m%201").await.expect(200).json(), made);
        assert_eq!(admin.get("/api/v1/models/org%2Fm%201").await.expect(200).json(), made);
        assert_eq!(admin.get("/api/v1/models").await.expect(200).json()["data"], json!([made]));
        for (field, value) in [
            ("upstream_model", json!("up2")),
            ("api_base", json!(null)),
            ("input_cost_per_token", json!(null)),
            ("cached_input_cost_per_token", json!("0")),
            ("output_cost_per_token", json!("0.1")),
            ("context_window", json!(null)),
            ("max_output_tokens", json!(1)),
            ("admission_weight", json!(0.01)),
            ("max_in_flight", json!(null)),
            ("enabled", json!(true)),
            ("aliases", json!([])),
            ("cache_enabled", json!(false)),
            ("cache_ttl_secs", json!(0)),
            ("request_timeout_secs", json!(null)),
            ("fallback_models", json!([])),
            ("description", json!(null)),
            ("model_name", json!("renamed")),
        ] {
            let name = model["model_name"].as_str().unwrap().replace('/', "%2F").replace(' ', "%20");
            let changed =
                admin.patch(&format!("/api/v1/models/{name}"), &json!({field: value})).await.expect(200);
            model[field] = value;
            holds(&changed.json(), &model);
        }
        admin.get("/api/v1/models/org/m%201").await.expect(404);
        let last = admin.get("/api/v1/models/renamed").await.expect(200).json();
        assert_eq!((&last["id"], &last["version"]), (&made["id"], &json!(18)));
        admin.post("/api/v1/models", &json!({"model_name": "org/m 1"})).await.expect(201);
        let gone = admin.delete("/api/v1/models/renamed").await.expect(204);
        assert!(gone.body.is_empty());
        assert_eq!(admin.delete("/api/v1/models/renamed").await.expect(404).error_code(), "not_found");
        app.stop().await;
    });
}

#[test]
fn defaults_are_those_of_the_contract() {
    run(async {
        let (app, admin) = start().await;
        let model = admin.post("/api/v1/models", &json!({"model_name": "m"})).await.expect(201).json();
        holds(
            &model,
            &json!({
                "model_name": "m", "upstream_model": "m", "api_base": null, "input_cost_per_token": null,
                "cached_input_cost_per_token": null, "output_cost_per_token": null, "context_window": null,
                "max_output_tokens": null, "admission_weight": 1, "max_in_flight": null, "enabled": true, "aliases": [],
                "cache_enabled": false, "cache_ttl_secs": null, "request_timeout_secs": null, "fallback_models": [],
                "upstream_headers": {}, "description": null, "api_key_set": false, "version": 1
            }),
        );
        let tenant = admin.post("/api/v1/tenants", &json!({"name": "t"})).await.expect(201).json();
        holds(
            &tenant,
            &json!({
                "name": "t", "weight": 100, "group": "default", "tokens_per_minute": null, "requests_per_minute": null,
                "max_in_flight": null, "max_queued": null, "status": "active", "allowed_models": null,
                "allowed_tools": null, "budgets": [], "metadata": {}, "version": 1
            }),
        );
        let path = format!("/api/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
        let key = admin.post(&path, &json!({"name": "k"})).await.expect(201).json();
        let secret = key["secret"].as_str().unwrap();
        assert!(secret.len() == 51 && secret[3..].bytes().all(|byte| byte.is_ascii_hexdigit()));
        holds(
            &key["key"],
            &json!({"name": "k", "tenant_id": tenant["id"], "disabled": false, "expires_at": null, "key_prefix": &secret[..11]}),
        );
        let group = admin.post("/api/v1/groups", &json!({"name": "g"})).await.expect(201).json();
        holds(&group, &json!({"name": "g", "weight": 100, "version": 1}));
        app.stop().await;
    });
}

#[test]
fn tenants_keys_and_groups_keep_every_field() {
    run(async {
        let (app, admin) = start().await;
        admin.post("/api/v1/groups", &json!({"name": "g/1", "weight": 1_000_000})).await.expect(201);
        let tenant = json!({
            "name": "t", "weight": 7, "group": "g/1", "tokens_per_minute": 1000, "requests_per_minute": 10,
            "max_in_flight": 3, "max_queued": 0, "status": "suspended", "allowed_models": ["m"], "allowed_tools": ["s/*"],
            "budgets": [{"period": "month", "max_cost_usd": "12.5", "hard": true}, {"period": "day", "max_tokens": 5, "hard": false}],
            "brownout": {"enabled": true, "wait_ms": 100}, "metadata": {"a": [1, {"b": null}]}
        });
        let made = admin.post("/api/v1/tenants", &tenant).await.expect(201).json();
        holds(&made, &tenant);
        let id = made["id"].as_str().unwrap();
        let path = format!("/api/v1/tenants/{id}");
        assert_eq!(admin.get(&path).await.expect(200).json(), made);
        let nulls = json!({"tokens_per_minute": null, "requests_per_minute": null, "max_in_flight": null, "max_queued": null, "allowed_models": null, "allowed_tools": null, "brownout": null, "budgets": [], "group": "default", "status": "active"});
        holds(&admin.patch(&path, &nulls).await.expect(200).json(), &nulls);

        let key = json!({
            "name": "k", "expires_at": "2999-01-02T03:04:05Z", "allowed_models": ["m"], "allowed_tools": [],
            "tokens_per_minute": 5, "requests_per_minute": 6, "max_in_flight": 7, "budgets": [{"period": "total", "max_tokens": 1, "hard": true}]
        });
        let made = admin.post(&format!("{path}/keys"), &key).await.expect(201).json();
        holds(&made["key"], &key);
        let key_path = format!("/api/v1/keys/{}", made["key"]["id"].as_str().unwrap());
        assert_eq!(admin.get(&key_path).await.expect(200).json(), made["key"]);
        for list in [format!("{path}/keys"), "/api/v1/keys".to_owned()] {
            let listed = admin.get(&list).await.expect(200);
            assert_eq!(listed.json()["data"], json!([made["key"]]));
            assert!(!listed.text().contains(made["secret"].as_str().unwrap()));
        }
        let nulls = json!({"expires_at": null, "allowed_models": null, "allowed_tools": null, "tokens_per_minute": null, "requests_per_minute": null, "max_in_flight": null, "disabled": true});
        holds(&admin.patch(&key_path, &nulls).await.expect(200).json(), &nulls);
        admin.delete(&key_path).await.expect(204);
        admin.get(&key_path).await.expect(404);
        admin.delete(&path).await.expect(204);
        for path in [path.clone(), format!("{path}/keys"), "/api/v1/tenants/not-a-uuid".to_owned()] {
            assert_eq!(admin.get(&path).await.expect(404).error_code(), "not_found");
        }
        holds(&admin.get("/api/v1/groups/g%2F1").await.expect(200).json(), &json!({"name": "g/1"}));
        admin.delete("/api/v1/groups/g%2F1").await.expect(204);
        app.stop().await;
    });
}

#[test]
fn put_creates_and_replaces() {
    run(async {
        let (app, admin) = start().await;
        let path = "/api/v1/models/org/m";
        let made =
            admin.put(path, &json!({"description": "one", "max_in_flight": 3})).await.expect(201).json();
        assert_eq!((&made["model_name"], &made["max_in_flight"]), (&json!("org/m"), &json!(3)));
        let again =
            admin.put(path, &json!({"model_name": "org/m", "description": "two"})).await.expect(200).json();
        assert_eq!((&again["id"], &again["description"]), (&made["id"], &json!("two")));
        assert_eq!(again["max_in_flight"], json!(null), "what the document does not name has its default");
        let renamed = admin.put(path, &json!({"model_name": "new"})).await.expect(200).json();
        assert_eq!(renamed["id"], made["id"]);
        admin.get(path).await.expect(404);
        assert_eq!(
            admin.put("/api/v1/models/new", &json!({"version": 1})).await.expect(409).error_code(),
            "stale_version"
        );
        names(&admin.put("/api/v1/models/new", &json!({"x": 1})).await, "x");
        app.stop().await;
    });
}

#[test]
fn a_restart_keeps_everything() {
    run(async {
        let upstream = Upstream::always(crate::support::chat_answer(3, 4)).await;
        let app = TestApp::start(&upstream).await;
        app.model_with(json!({"model_name": "m", "aliases": ["a"], "api_key": "op"})).await;
        app.admin().post("/api/v1/groups", &json!({"name": "g", "weight": 5})).await.expect(201);
        let tenant = app.tenant(json!({"name": "t", "group": "g", "allowed_models": ["m"]})).await;
        let key = app.key(&tenant, json!({"name": "k"})).await;
        app.client(&key).chat("a").await.expect(200);
        let lists = ["models", "tenants", "keys", "groups", "usage/logs", "usage/summary?group_by=model"];
        let read = async |app: &TestApp| {
            let mut all = Vec::new();
            for list in lists {
                all.push(app.admin().get(&format!("/api/v1/{list}")).await.expect(200).json());
            }
            all
        };
        let before = read(&app).await;
        let directory = app.stop().await;
        let app = TestApp::start_in(directory, &upstream.base(), &[]).await;
        assert_eq!(read(&app).await, before);
        app.client(&key).chat("a").await.expect(200);
        assert_eq!(upstream.last().header("authorization"), Some("Bearer op"));
        app.stop().await;
    });
}
