//! The management API: what each resource stores, refuses and keeps to itself.

use crate::support::{Answer, Caller, Raw, TestApp, Upstream, exchange, run};
use actix_web::http::Method;
use serde_json::{Value, json};

async fn start() -> (TestApp, Caller) {
    start_with(&[]).await
}

async fn start_with(variables: &[(&str, &str)]) -> (TestApp, Caller) {
    let app = TestApp::at("http://127.0.0.1:9/v1", variables).await;
    let admin = app.admin();
    (app, admin)
}

/// A 400 whose `param` is `field`.
fn names(answer: &Answer, field: &str) {
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
fn a_wrong_field_is_a_400_that_names_it() {
    run(async {
        let (app, admin) = start().await;
        let long = "a".repeat(257);
        for (field, value) in [
            ("modelname", json!("x")),
            ("model_name", json!("")),
            ("model_name", json!(long)),
            ("model_name", json!("a\nb")),
            ("model_name", json!(null)),
            ("model_name", json!(1)),
            ("upstream_model", json!("")),
            ("api_base", json!("gw:8080")),
            ("api_base", json!("ftp://gw")),
            ("api_base", json!(1)),
            ("api_key", json!(1)),
            ("api_key", json!("a\nb")),
            ("api_key", json!("")),
            ("input_cost_per_token", json!(-1)),
            ("input_cost_per_token", json!("abc")),
            ("input_cost_per_token", json!(true)),
            ("input_cost_per_token", json!(1001)),
            ("output_cost_per_token", json!("0.0000000000001")),
            ("output_cost_per_token", json!("")),
            ("output_cost_per_token", json!("1e-13")),
            ("cached_input_cost_per_token", json!("NaN")),
            ("context_window", json!(0)),
            ("context_window", json!("1")),
            ("context_window", json!(1.5)),
            ("max_output_tokens", json!(-1)),
            ("max_output_tokens", json!(1_000_000_001)),
            ("admission_weight", json!(0)),
            ("admission_weight", json!(0.001)),
            ("admission_weight", json!(100.01)),
            ("admission_weight", json!(null)),
            ("max_in_flight", json!(0)),
            ("enabled", json!("true")),
            ("enabled", json!(null)),
            ("aliases", json!("a")),
            ("aliases[1]", json!(["a", "a"])),
            ("aliases[0]", json!([""])),
            ("aliases[0]", json!([1])),
            ("cache_enabled", json!(1)),
            ("cache_ttl_secs", json!(-1)),
            ("request_timeout_secs", json!(0)),
            ("fallback_models", json!({})),
            ("upstream_headers", json!([])),
            ("upstream_headers.host", json!({"host": "x"})),
            ("upstream_headers.a b", json!({"a b": "x"})),
            ("upstream_headers.x", json!({"x": "a\r\nb"})),
            ("description", json!(1)),
            ("id", json!("x")),
        ] {
            let body_field = field.split(['[', '.']).next().unwrap();
            let mut body = json!({"model_name": "m"});
            body[body_field] = value.clone();
            names(&admin.post("/api/v1/models", &body).await, field);
        }
        assert_eq!(admin.get("/api/v1/models").await.json()["data"], json!([]));
        names(&admin.post("/api/v1/models", &json!({})).await, "model_name");
        names(&admin.post("/api/v1/models", &json!({"model_name": "m", "aliases": ["m"]})).await, "aliases");

        let tenant = app.tenant(json!({"name": "t"})).await;
        for (field, value) in [
            ("nmae", json!("x")),
            ("name", json!("")),
            ("weight", json!(0)),
            ("weight", json!(1_000_001)),
            ("weight", json!(1.5)),
            ("weight", json!("100")),
            ("group", json!("none")),
            ("group", json!("")),
            ("tokens_per_minute", json!(0)),
            ("requests_per_minute", json!(-1)),
            ("max_in_flight", json!(0)),
            ("max_queued", json!(-1)),
            ("status", json!("gone")),
            ("allowed_models", json!("m")),
            ("allowed_models[0]", json!([""])),
            ("allowed_tools[1]", json!(["a", "a"])),
            ("budgets[0].period", json!([{"period": "week", "max_tokens": 1}])),
            ("budgets[0]", json!([{"period": "day"}])),
            ("budgets[0].max_tokens", json!([{"period": "day", "max_tokens": -1}])),
            ("budgets[0].max_cost_usd", json!([{"period": "day", "max_cost_usd": "x"}])),
            ("budgets[0].max_cost_usd", json!([{"period": "day", "max_cost_usd": -1}])),
            ("budgets[1].max", json!([{"period": "day", "max_tokens": 1}, {"period": "day", "max": 1}])),
            ("brownout.wait", json!({"wait": 1})),
            ("brownout.wait_ms", json!({"wait_ms": 0})),
            ("metadata", json!([])),
            ("metadata", json!({"a": "x".repeat(20_000)})),
        ] {
            let body_field = field.split(['[', '.']).next().unwrap();
            let mut body = json!({"name": "new"});
            body[body_field] = value.clone();
            names(&admin.post("/api/v1/tenants", &body).await, field);
            let patch = json!({body_field: value});
            names(&admin.patch(&format!("/api/v1/tenants/{tenant}"), &patch).await, field);
        }
        for (field, value) in [
            ("nmae", json!("x")),
            ("name", json!(null)),
            ("expires_at", json!("tomorrow")),
            ("expires_at", json!(5)),
            ("allowed_models", json!(5)),
            ("tokens_per_minute", json!("5")),
            ("max_in_flight", json!(0)),
            ("budgets[0].period", json!([{"max_tokens": 1}])),
        ] {
            let body_field = field.split(['[', '.']).next().unwrap();
            let mut body = json!({"name": "new"});
            body[body_field] = value;
            names(&admin.post(&format!("/api/v1/tenants/{tenant}/keys"), &body).await, field);
        }
        for (field, body) in [
            ("name", json!({})),
            ("weight", json!({"name": "g", "weight": 0})),
            ("x", json!({"name": "g", "x": 1})),
        ] {
            names(&admin.post("/api/v1/groups", &body).await, field);
        }
        names(&admin.patch("/api/v1/groups/default", &json!({"name": "other"})).await, "name");
        app.stop().await;
    });
}

#[test]
fn a_body_that_is_no_document_is_a_400() {
    run(async {
        let (app, admin) = start().await;
        app.model("m").await;
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{",
            "[]",
            "null",
            "\"m\"",
            "{\"model_name\":\"x\"}{",
            "\u{0}",
            "{\"model_name\":\"x\",}",
            deep.as_str(),
        ] {
            for (method, path) in [
                (Method::POST, "/api/v1/models"),
                (Method::PATCH, "/api/v1/models/m"),
                (Method::PUT, "/api/v1/models/m"),
            ] {
                let answer = Caller::send(admin.request(method.clone(), path), body.to_owned()).await;
                assert_eq!(answer.status, 400, "{method} {} {}", &body[..body.len().min(40)], answer.text());
                assert_eq!(answer.error_code(), "invalid_request");
            }
        }
        let invalid =
            Caller::send(admin.request(Method::POST, "/api/v1/models"), &b"{\"model_name\":\"\xff\"}"[..])
                .await;
        assert_eq!(invalid.expect(400).error_code(), "invalid_request");
        for (method, path) in [
            (Method::POST, "/api/v1/models"),
            (Method::PATCH, "/api/v1/models/m"),
            (Method::PUT, "/api/v1/models/m"),
        ] {
            let twice = Caller::send(
                admin.request(method.clone(), path),
                r#"{"enabled":true,"enabled":false,"model_name":"m2"}"#,
            )
            .await;
            assert_eq!(twice.status, 400, "{method}: a repeated field is one too many: {}", twice.text());
            names(&twice, "enabled");
        }
        app.stop().await;
    });
}

#[test]
fn money_is_a_decimal_exact_to_twelve_places() {
    run(async {
        let (app, admin) = start().await;
        for (number, (text, stored)) in [
            ("5e-7", "0.0000005"),
            ("\"5e-7\"", "0.0000005"),
            ("5E-07", "0.0000005"),
            ("0.0000005", "0.0000005"),
            ("\"0.000000500000000000\"", "0.0000005"),
            ("0.1", "0.1"),
            ("0.123456789012", "0.123456789012"),
            ("\"0.000000000001\"", "0.000000000001"),
            ("1e-12", "0.000000000001"),
            ("0", "0"),
            ("0.0", "0"),
            ("1000", "1000"),
            ("1e3", "1000"),
            ("2.500", "2.5"),
        ]
        .into_iter()
        .enumerate()
        {
            let body = format!("{{\"model_name\":\"m{number}\",\"input_cost_per_token\":{text}}}");
            let made = admin.post_text("/api/v1/models", body).await.expect(201).json();
            assert_eq!(made["input_cost_per_token"], stored, "{text}");
            let path = format!("/api/v1/models/m{number}");
            admin.patch(&path, &json!({"description": "x"})).await.expect(200);
            assert_eq!(
                admin.get(&path).await.json()["input_cost_per_token"],
                stored,
                "{text} after another change"
            );
        }
        for text in [
            "1e-13",
            "0.1234567890123",
            "\"0.0000000000005\"",
            "-0.1",
            "1e400",
            "\"1,5\"",
            "\" 1\"",
            "\"0x1\"",
            "\".5\"",
            "\"+1\"",
            "[]",
            "{}",
        ] {
            let body = format!("{{\"model_name\":\"x\",\"input_cost_per_token\":{text}}}");
            let answer = admin.post_text("/api/v1/models", body).await;
            names(&answer, "input_cost_per_token");
        }
        app.stop().await;
    });
}

#[test]
fn a_name_belongs_to_one_and_a_stale_version_to_none() {
    run(async {
        let (app, admin) = start().await;
        app.model_with(json!({"model_name": "m", "aliases": ["a"]})).await;
        let conflict = |answer: Answer| assert_eq!(answer.expect(409).error_code(), "conflict");
        for body in [
            json!({"model_name": "m"}),
            json!({"model_name": "a"}),
            json!({"model_name": "n", "aliases": ["m"]}),
            json!({"model_name": "n", "aliases": ["a"]}),
        ] {
            conflict(admin.post("/api/v1/models", &body).await);
        }
        app.model("n").await;
        conflict(admin.patch("/api/v1/models/n", &json!({"model_name": "m"})).await);
        conflict(admin.patch("/api/v1/models/n", &json!({"aliases": ["a"]})).await);
        conflict(admin.put("/api/v1/models/a", &json!({})).await);
        admin.delete("/api/v1/models/m").await.expect(204);
        admin.patch("/api/v1/models/n", &json!({"aliases": ["a", "m"]})).await.expect(200);

        let tenant = app.tenant(json!({"name": "t"})).await;
        conflict(admin.post("/api/v1/tenants", &json!({"name": "t"})).await);
        app.tenant(json!({"name": "u"})).await;
        conflict(admin.patch(&format!("/api/v1/tenants/{tenant}"), &json!({"name": "u"})).await);
        admin.post("/api/v1/groups", &json!({"name": "g"})).await.expect(201);
        conflict(admin.post("/api/v1/groups", &json!({"name": "g"})).await);
        conflict(admin.post("/api/v1/groups", &json!({"name": "default"})).await);
        conflict(admin.delete("/api/v1/groups/default").await);
        admin.patch(&format!("/api/v1/tenants/{tenant}"), &json!({"group": "g"})).await.expect(200);
        conflict(admin.delete("/api/v1/groups/g").await);
        admin.delete(&format!("/api/v1/tenants/{tenant}")).await.expect(204);
        admin.delete("/api/v1/groups/g").await.expect(204);

        let other = app.tenant(json!({"name": "v"})).await;
        let key = admin
            .post(&format!("/api/v1/tenants/{other}/keys"), &json!({"name": "k"}))
            .await
            .expect(201)
            .json();
        let key = key["key"]["id"].as_str().unwrap().to_owned();
        for path in [
            "/api/v1/models/n".to_owned(),
            format!("/api/v1/tenants/{other}"),
            format!("/api/v1/keys/{key}"),
            "/api/v1/groups/default".to_owned(),
        ] {
            let version = admin.get(&path).await.expect(200).json()["version"].as_i64().unwrap();
            let changed = admin.patch(&path, &json!({"version": version})).await.expect(200).json();
            assert_eq!(changed["version"], version + 1, "{path}");
            let stale = admin.patch(&path, &json!({"version": version})).await.expect(409);
            assert_eq!(stale.error_code(), "stale_version", "{path}");
            names(&admin.patch(&path, &json!({"version": "1"})).await, "version");
        }
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
fn secrets_are_written_and_never_read() {
    run(async {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let (app, admin) = start_with(&[("OBLETH_ENCRYPTION_KEY", key)]).await;
        let model = json!({"model_name": "m", "api_key": "sk-very-secret-1", "upstream_headers": {"x-auth": "very-secret-2"}});
        let made = admin.post("/api/v1/models", &model).await.expect(201);
        assert_eq!(
            (&made.json()["api_key_set"], &made.json()["upstream_headers"]),
            (&json!(true), &json!({"x-auth": null}))
        );
        let tenant = app.tenant(json!({"name": "t"})).await;
        let secret = app.key(&tenant, json!({"name": "k"})).await;
        let patched = admin.patch("/api/v1/models/m", &json!({"description": "x"})).await.expect(200);
        assert_eq!(patched.json()["api_key_set"], true, "another change keeps it");
        for path in ["/api/v1/models", "/api/v1/models/m", "/api/v1/keys", "/api/v1/tenants"] {
            let text = admin.get(path).await.expect(200).text();
            assert!(!text.contains("very-secret") && !text.contains(&secret), "{path}: {text}");
        }
        let long = admin
            .post("/api/v1/models", &json!({"model_name": "n", "api_key": "very-secret\n"}))
            .await
            .expect(400);
        assert!(!long.text().contains("very-secret"), "{}", long.text());
        let directory = app.stop().await;
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            for secret in ["very-secret-1", "very-secret-2", secret.as_str()] {
                assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{path:?}");
            }
        }
        let app =
            TestApp::start_in(directory, "http://127.0.0.1:9/v1", &[("OBLETH_ENCRYPTION_KEY", key)]).await;
        let cleared = app
            .admin()
            .patch("/api/v1/models/m", &json!({"api_key": null, "upstream_headers": {}}))
            .await
            .expect(200)
            .json();
        assert_eq!((&cleared["api_key_set"], &cleared["upstream_headers"]), (&json!(false), &json!({})));
        app.stop().await;
    });
}

#[test]
fn access_methods_and_sizes_are_checked() {
    run(async {
        let (app, admin) = start().await;
        let address = app.running.admin;
        let longer = format!("{}x", crate::support::ADMIN_TOKEN);
        for token in [None, Some("wrong"), Some(""), Some(longer.as_str()), Some("Bearer")] {
            let caller = Caller::new(address, token);
            for path in ["/api/v1/models", "/api/v1/nowhere", "/api/v1/usage/logs", "/api/v1/version"] {
                let answer = caller.get(path).await.expect(401);
                assert_eq!(answer.error_code(), "unauthorized");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            }
            caller.post("/api/v1/models", &json!({"model_name": "m"})).await.expect(401);
        }
        for path in [
            "/api/v1/nowhere",
            "/api/v1",
            "/api/v1/",
            "/api/v1/models/",
            "/api/v2/models",
            "/",
            "/api/v1/tenants/x/y",
            "//api/v1/models",
        ] {
            assert_eq!(admin.get(path).await.expect(404).error_code(), "not_found", "{path}");
        }
        for (method, path, allow) in [
            (Method::PUT, "/api/v1/models", "GET, POST"),
            (Method::POST, "/api/v1/models/m", "GET, PATCH, PUT, DELETE"),
            (Method::PUT, "/api/v1/tenants/x", "GET, PATCH, DELETE"),
            (Method::DELETE, "/api/v1/keys", "GET"),
            (Method::GET, "/api/v1/keys/x/rotate", "POST"),
            (Method::POST, "/api/v1/usage/logs", "GET"),
        ] {
            let answer = Caller::send(admin.request(method, path), "").await.expect(405);
            assert_eq!(
                (answer.error_code().as_str(), answer.header("allow")),
                ("method_not_allowed", Some(allow)),
                "{path}"
            );
        }
        let head = format!(
            "POST /api/v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            crate::support::ADMIN_TOKEN,
            2 << 20
        );
        let answer = exchange(address, &head).await.expect("a refusal before the body");
        assert_eq!((answer.status, answer.error_code().as_str()), (413, "body_too_large"));
        let mut raw = Raw::open(address).await;
        raw.send(head.replace(&format!("content-length: {}", 2 << 20), "transfer-encoding: chunked")).await;
        for _ in 0..20 {
            raw.send(format!("10000\r\n{}\r\n", " ".repeat(65_536))).await;
        }
        assert_eq!(raw.answer().await.unwrap().status, 413);
        assert_eq!(admin.get("/api/v1/models").await.expect(200).json()["data"], json!([]));
        app.stop().await;
    });
}

#[test]
fn odd_model_names_are_reached_by_their_encoded_path() {
    run(async {
        let (app, admin) = start().await;
        for (name, path) in [
            ("a/b/c", "a/b/c"),
            ("a/b/c2", "a%2Fb%2Fc2"),
            ("100%", "100%25"),
            ("%2F", "%252F"),
            ("a b", "a%20b"),
            ("q?x#y", "q%3Fx%23y"),
            ("ключ", "%D0%BA%D0%BB%D1%8E%D1%87"),
            ("a:b@c,d;e=f+g&h", "a:b@c,d;e=f+g&h"),
            ("..", "%2E%2E"),
            ("/lead", "%2Flead"),
            ("trail/", "trail%2F"),
            ("\"quoted\"\\", "%22quoted%22%5C"),
        ] {
            app.model(name).await;
            let path = format!("/api/v1/models/{path}");
            assert_eq!(admin.get(&path).await.expect(200).json()["model_name"], name);
            admin.patch(&path, &json!({"description": "x"})).await.expect(200);
            admin.delete(&path).await.expect(204);
        }
        app.stop().await;
    });
}

#[test]
fn a_list_is_walked_by_its_cursor_without_gaps() {
    run(async {
        let (app, admin) = start().await;
        let tenant = app.tenant(json!({"name": "the first"})).await;
        for number in 0..250 {
            app.key(&tenant, json!({"name": format!("k{number}")})).await;
        }
        let keys = format!("/api/v1/tenants/{tenant}/keys");
        for limit in ["", "limit=7&", "limit=100&", "limit=249&", "limit=250&", "limit=1000&"] {
            let mut seen = std::collections::BTreeSet::new();
            let mut cursor = String::new();
            let mut pages = 0;
            loop {
                let page = admin.get(&format!("{keys}?{limit}{cursor}")).await.expect(200).json();
                pages += 1;
                for key in page["data"].as_array().unwrap() {
                    assert!(seen.insert(key["id"].as_str().unwrap().to_owned()), "shown twice");
                }
                match page["next_cursor"].as_str() {
                    Some(next) => cursor = format!("cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(seen.len(), 250, "{limit} {pages}");
        }
        for list in ["models", "tenants", "keys", "groups", "usage/logs"] {
            for (query, param) in [
                ("limit=0", "limit"),
                ("limit=1001", "limit"),
                ("limit=-1", "limit"),
                ("limit=x", "limit"),
                ("limit=", "limit"),
                ("cursor=%21", "cursor"),
                ("cursor=_w", "cursor"),
                ("limt=1", "limt"),
                ("limit=1&limit=2", "limit"),
            ] {
                let answer = admin.get(&format!("/api/v1/{list}?{query}")).await;
                assert_eq!(answer.status, 400, "{list} {query}");
                names(&answer, param);
            }
        }
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
