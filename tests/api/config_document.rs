//! Configuration as code: export, import, the document at the start.

use crate::access::token;
use crate::management::{names, start, start_with};
use crate::support::{Caller, TestApp, run};
use serde_json::{Value, json};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn export(app: &TestApp) -> Value {
    app.admin().get("/api/v1/config/export").await.expect(200).json()
}

async fn import(app: &TestApp, query: &str, document: &Value) -> Value {
    app.admin().post(&format!("/api/v1/config/import{query}"), document).await.expect(200).json()
}

async fn audits(app: &TestApp) -> Vec<Value> {
    let page = app.admin().get("/api/v1/audit?limit=1000").await.expect(200).json();
    page["data"].as_array().unwrap().clone()
}

/// Creates, updates, deletes, unchanged.
fn counts(plan: &Value) -> [usize; 4] {
    let count = |list: &str| plan[list].as_array().unwrap().len();
    let unchanged = usize::try_from(plan["unchanged"].as_u64().unwrap()).unwrap();
    [count("creates"), count("updates"), count("deletes"), unchanged]
}

/// A registry with one of everything. Answers the secrets of its keys.
async fn furnish(app: &TestApp) -> Vec<String> {
    let admin = app.admin();
    admin.post("/api/v1/groups", &json!({"name": "prod", "weight": 300})).await.expect(201);
    let model = json!({
        "model_name": "org/m 1", "upstream_model": "up", "api_base": "https://gw.example:8443/v1",
        "api_key": "sk-very-secret-1", "input_cost_per_token": 5e-7, "cached_input_cost_per_token": "0.000000000001",
        "context_window": 8192, "admission_weight": 2.25, "max_in_flight": 7, "aliases": ["a", "b/c"],
        "cache_enabled": true, "fallback_models": ["n"], "upstream_headers": {"x-auth": "very-secret-2"},
        "description": "ü"
    });
    admin.post("/api/v1/models", &model).await.expect(201);
    app.model("n").await;
    let tenant = app.tenant(json!({
        "name": "acme", "group": "prod", "weight": 7, "tokens_per_minute": 1000, "status": "suspended",
        "allowed_models": ["n"], "budgets": [{"period": "day", "max_cost_usd": "1.5"}], "brownout": {"enabled": true},
        "metadata": {"owner": {"name": "x"}}
    })).await;
    let other = app.tenant(json!({"name": "other"})).await;
    let first = app
        .key(&tenant, json!({"name": "k", "expires_at": "2030-01-01T00:00:00.123456Z", "max_in_flight": 3}))
        .await;
    let second = app.key(&other, json!({"name": "k", "allowed_models": ["n"]})).await;
    let keys = admin.get(&format!("/api/v1/tenants/{other}/keys")).await.expect(200).json();
    let id = keys["data"][0]["id"].as_str().unwrap();
    let rotated = admin.post(&format!("/api/v1/keys/{id}/rotate"), &json!({"overlap_secs": 3600})).await;
    let third = rotated.expect(200).json()["secret"].as_str().unwrap().to_owned();
    vec![first, second, third]
}

#[test]
fn an_export_makes_the_same_registry_in_an_empty_database() {
    run(async {
        let (app, _) = start_with(&[("OBLETH_ENCRYPTION_KEY", KEY)]).await;
        let secrets = furnish(&app).await;
        let text = app.admin().get("/api/v1/config/export").await.expect(200).text();
        for secret in ["very-secret"].into_iter().chain(secrets.iter().map(String::as_str)) {
            assert!(!text.contains(secret), "{text}");
        }
        let document = export(&app).await;
        let before = audits(&app).await;
        assert_eq!(counts(&import(&app, "?prune=true", &document).await), [0, 0, 0, 8], "its own export");
        assert_eq!(audits(&app).await, before, "nothing changed, nothing told");
        assert_eq!(app.admin().get("/api/v1/models/org/m%201").await.expect(200).json()["api_key_set"], true);
        let model = app.admin().get("/api/v1/models/n").await.expect(200).json();

        let (fresh, _) = start().await;
        let dry = import(&fresh, "?dry_run=true", &document).await;
        assert_eq!(counts(&dry), [7, 0, 0, 1], "{dry}");
        assert_eq!(counts(&import(&fresh, "?dry_run=true", &document).await), [7, 0, 0, 1], "it was dry");
        let mut done = import(&fresh, "", &document).await;
        assert_eq!((&dry["dry_run"], &done["dry_run"]), (&json!(true), &json!(false)));
        done["dry_run"] = json!(true);
        assert_eq!(done, dry, "the plan was the deed");
        assert_eq!(done["warnings"], json!(["models[1].upstream_headers.x-auth has no value: left out"]));
        let mut bare = document.clone();
        bare["models"][1]["upstream_headers"] = json!({});
        assert_eq!(export(&fresh).await, bare, "identical but for secrets, ids included");
        let told = audits(&fresh).await;
        assert_eq!(told.len(), 7, "one row for each change");
        assert!(told.iter().all(|row| row["action"] == "create" && row["method"] == "POST"));
        assert_eq!(
            counts(&import(&fresh, "", &document).await),
            [0, 0, 0, 8],
            "a second time changes nothing"
        );

        let made = fresh.admin().get("/api/v1/models/n").await.expect(200).json();
        assert_eq!(
            (&made["id"], &made["input_cost_per_token"]),
            (&model["id"], &model["input_cost_per_token"])
        );
        // In force: the keys work, the suspended tenant's is refused for it.
        assert_eq!(fresh.client(&secrets[0]).chat("n").await.expect(403).error_code(), "tenant_suspended");
        for secret in &secrets[1..] {
            fresh.client(secret).get("/v1/models").await.expect(200);
        }
        let directory = fresh.stop().await;
        let fresh = TestApp::start_in(directory, "http://127.0.0.1:9/v1", &[]).await;
        assert_eq!(export(&fresh).await, bare);
        fresh.stop().await;
        app.stop().await;
    });
}

#[test]
fn a_document_that_fails_changes_nothing() {
    run(async {
        let (app, admin) = start().await;
        furnish(&app).await;
        let (before, told) = (export(&app).await, audits(&app).await);
        let hash = "ab".repeat(32);
        for (document, param) in [
            (json!({"groups": [{"name": "x"}], "colour": 1}), "colour"),
            (json!({"groups": [{"name": "x"}, {"name": "y", "wieght": 3}]}), "groups[1].wieght"),
            (json!({"groups": [{"name": "x"}, {"name": "x"}]}), "groups[1]"),
            (json!({"groups": [{"name": "x"}, {"weight": 1}]}), "groups[1].name"),
            (json!({"groups": [{"name": "x", "id": "7"}]}), "groups[0].id"),
            (json!({"groups": [{"name": "x", "version": 1}]}), "groups[0].version"),
            (json!({"groups": {"name": "x"}}), "groups"),
            (
                json!({"groups": [{"name": "x"}], "models": [{"model_name": "m", "context_window": 0}]}),
                "models[0].context_window",
            ),
            (
                json!({"models": [{"model_name": "m", "input_cost_per_token": -1}]}),
                "models[0].input_cost_per_token",
            ),
            (
                json!({"models": [{"model_name": "m", "api_key": {"env": "NO_SUCH_VARIABLE_AT_ALL"}}]}),
                "models[0].api_key",
            ),
            (
                json!({"models": [{"model_name": "m", "api_key": {"env": "OBLETH_ADMIN_TOKEN"}}]}),
                "models[0].api_key",
            ),
            (json!({"models": [{"model_name": "m", "api_key": {"file": "x"}}]}), "models[0].api_key"),
            (
                json!({"models": [{"model_name": "m", "upstream_headers": {"x": {"env": "OBLETH_X"}}}]}),
                "models[0].upstream_headers.x",
            ),
            (json!({"tenants": [{"name": "t"}, {"name": "u", "group": "none"}]}), "tenants[1].group"),
            (
                json!({"tenants": [{"name": "t"}], "keys": [{"name": "k", "tenant": "none", "key_hash": hash}]}),
                "keys[0].tenant",
            ),
            (
                json!({"tenants": [{"name": "t"}], "keys": [{"name": "k", "tenant": "t", "key_hash": "sk_1"}]}),
                "keys[0].key_hash",
            ),
            (json!({"keys": [{"name": "k", "tenant": "acme"}]}), "keys[0].key_hash"),
            (
                json!({"keys": [{"name": "k", "tenant": "acme", "key_hash": hash, "budgets": [{"period": "day"}]}]}),
                "keys[0].budgets[0]",
            ),
            (
                json!({"groups": [{"name": "x"}], "mcp_servers": [{"name": "s"}]}),
                "mcp_servers[0].upstream_url",
            ),
        ] {
            for query in ["", "?dry_run=true"] {
                names(&admin.post(&format!("/api/v1/config/import{query}"), &document).await, param);
            }
        }
        // What only the database knows.
        for (document, param) in [
            (
                json!({"groups": [{"name": "x"}], "models": [{"model_name": "m"}, {"model_name": "q", "aliases": ["n"]}]}),
                "models[1]",
            ),
            (json!({"groups": [{"name": "x"}, {"name": "default"}], "prune": 1}), "prune"),
        ] {
            for query in ["", "?dry_run=true"] {
                let answer = admin.post(&format!("/api/v1/config/import{query}"), &document).await;
                assert!([400, 409].contains(&answer.status), "{}", answer.text());
                assert_eq!(answer.json()["error"]["param"], param, "{}", answer.text());
            }
        }
        // The group of a tenant that stays.
        let orphan = json!({"groups": [{"name": "default"}]});
        assert_eq!(
            admin.post("/api/v1/config/import?prune=true", &orphan).await.expect(409).error_code(),
            "conflict"
        );
        names(&admin.post("/api/v1/config/import?prune=yes", &json!({})).await, "prune");
        names(&admin.post("/api/v1/config/import?dryrun=true", &json!({})).await, "dryrun");
        names(&admin.post_text("/api/v1/config/import", r#"{"groups":[],"groups":[]}"#).await, "groups");
        assert_eq!((export(&app).await, audits(&app).await), (before, told));
        app.stop().await;
    });
}

#[test]
fn an_import_updates_and_deletes_only_what_it_is_told_to() {
    run(async {
        let (app, admin) = start().await;
        furnish(&app).await;
        let mut document = export(&app).await;
        assert_eq!(
            counts(&import(&app, "?prune=true", &json!({})).await),
            [0, 0, 0, 0],
            "no section, no change"
        );
        let kept = json!({"tenants": [{"name": "other", "weight": 9}]});
        let plan = import(&app, "", &kept).await;
        assert_eq!(counts(&plan), [0, 1, 0, 0], "no prune, no delete");
        assert_eq!(plan["updates"], json!([{"kind": "tenant", "name": "other", "fields": ["weight"]}]));
        assert_eq!(export(&app).await["models"], document["models"], "an absent section is untouched");
        let pruned = import(&app, "?prune=true", &kept).await;
        assert_eq!(counts(&pruned), [0, 0, 2, 1], "{pruned}");
        assert_eq!(pruned["deletes"][0]["kind"], "tenant");
        assert_eq!(pruned["deletes"][1]["kind"], "key", "a tenant's keys go with it, and it is said");
        let left = export(&app).await;
        assert_eq!(
            (left["tenants"].as_array().unwrap().len(), left["keys"].as_array().unwrap().len()),
            (1, 1)
        );

        // Back to where it was, with a renamed model and a key that changes hands.
        document["models"][0]["model_name"] = json!("renamed");
        for key in document["keys"].as_array_mut().unwrap() {
            key["tenant"] = json!("other");
        }
        let plan = import(&app, "?prune=true", &document).await;
        assert_eq!(counts(&plan), [2, 2, 0, 4], "{plan}");
        assert_eq!(export(&app).await["keys"], document["keys"]);
        admin.get("/api/v1/models/renamed").await.expect(200);
        admin.get("/api/v1/models/n").await.expect(404);
        app.stop().await;
    });
}

#[test]
fn a_reference_takes_a_secret_from_the_environment() {
    run(async {
        let (app, admin) = start_with(&[("OBLETH_ENCRYPTION_KEY", KEY)]).await;
        // The test runner sets it.
        let document = json!({"models": [{"model_name": "m", "api_key": {"env": "CARGO_PKG_NAME"},
            "upstream_headers": {"x-auth": {"env": "CARGO_PKG_NAME"}}}],
            "mcp_servers": [{"name": "s", "upstream_url": "http://s/mcp", "auth_header": {"env": "CARGO_PKG_NAME"}}]});
        assert_eq!(counts(&import(&app, "?dry_run=true", &document).await), [2, 0, 0, 0]);
        admin.get("/api/v1/mcp-servers/s").await.expect(404);
        assert_eq!(counts(&import(&app, "", &document).await), [2, 0, 0, 0]);
        let server = admin.get("/api/v1/mcp-servers/s").await.expect(200).json();
        assert_eq!(server["auth_header_set"], true);
        let made = admin.get("/api/v1/models/m").await.expect(200).json();
        assert_eq!(
            (&made["api_key_set"], &made["upstream_headers"]),
            (&json!(true), &json!({"x-auth": null}))
        );
        assert_eq!(counts(&import(&app, "", &document).await), [0, 0, 0, 2], "the same values again");
        let kept = json!({"mcp_servers": [{"name": "s", "upstream_url": "http://s/mcp"}]});
        assert_eq!(counts(&import(&app, "", &kept).await), [0, 0, 0, 1], "left out: what is stored is kept");
        let other = json!({"models": [{"model_name": "m", "api_key": "another", "upstream_headers": {"x-auth": null}}]});
        let plan = import(&app, "", &other).await;
        assert_eq!(plan["updates"], json!([{"kind": "model", "name": "m", "fields": ["api_key"]}]));
        let (_, operator) = token(&app, "ci", "operator").await;
        let refused = operator.post("/api/v1/config/import", &document).await;
        names(&refused, "models[0].api_key");
        let (_, viewer) = token(&app, "v", "viewer").await;
        viewer.post("/api/v1/config/import?dry_run=true", &document).await.expect(403);
        viewer.get("/api/v1/config/export").await.expect(200);
        app.stop().await;
    });
}

#[test]
fn the_document_at_the_start_is_applied_each_time() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("obleth.json");
        let write = |document: Value| std::fs::write(&path, document.to_string()).unwrap();
        let server = json!({"name": "s", "upstream_url": "http://s/mcp"});
        write(json!({"tenants": [{"name": "acme", "weight": 3, "allowed_tools": ["s/echo"]}],
            "models": [{"model_name": "m"}], "mcp_servers": [server]}));
        let file = [("OBLETH_CONFIG_FILE", path.to_str().unwrap())];
        let (app, admin) = start_with(&file).await;
        let tenant = admin.get("/api/v1/tenants").await.expect(200).json()["data"][0].clone();
        assert_eq!((&tenant["name"], &tenant["weight"]), (&json!("acme"), &json!(3)));
        assert_eq!(tenant["allowed_tools"], json!(["s/echo"]));
        assert_eq!(export(&app).await["tenants"][0]["allowed_tools"], json!(["s/echo"]));
        admin.get("/api/v1/mcp-servers/s").await.expect(200);
        assert!(audits(&app).await.iter().all(|row| row["actor"]["id"] == "config-file"));
        admin.post("/api/v1/tenants", &json!({"name": "by hand"})).await.expect(201);
        let told = audits(&app).await.len();
        let directory = app.stop().await;
        let app = TestApp::start_in(directory, "http://127.0.0.1:9/v1", &file).await;
        assert_eq!(audits(&app).await.len(), told, "nothing to do");
        let directory = app.stop().await;
        write(json!({"tenants": [{"name": "acme", "weight": 4}]}));
        let app = TestApp::start_in(directory, "http://127.0.0.1:9/v1", &file).await;
        let tenants = app.admin().get("/api/v1/tenants").await.expect(200).json();
        assert_eq!(
            (&tenants["data"][0]["weight"], tenants["data"].as_array().unwrap().len()),
            (&json!(4), 2)
        );
        app.stop().await;
    });
}

#[test]
fn a_bad_document_stops_the_start_with_one_message() {
    use obleth::config::{Config, Env};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("obleth.json");
    let path = path.to_str().unwrap();
    let read = || {
        let set = [("OBLETH_ADMIN_TOKEN", "an-admin-token-for-tests"), ("OBLETH_CONFIG_FILE", path)];
        Config::read(Env::of(set)).map(|_| ()).map_err(|faults| faults.to_string())
    };
    assert!(read().unwrap_err().contains("OBLETH_CONFIG_FILE"), "no such file");
    for (document, words) in [
        ("{", "EOF"),
        (r#"{"tenants":[{"name":"a"},{"name":"b","wieght":1}]}"#, "tenants[1].wieght"),
        (r#"{"models":[{"model_name":"m","api_key":{"env":"OBLETH_ADMIN_TOKEN"}}]}"#, "models[0].api_key"),
    ] {
        std::fs::write(path, document).unwrap();
        let message = read().unwrap_err();
        assert!(message.contains(words) && message.contains("1 fault"), "{message}");
        assert!(!message.contains("an-admin-token"), "{message}");
    }
    std::fs::write(path, r#"{"tenants":[{"name":"a","group":"prod"}]}"#).unwrap();
    read().unwrap();
    run(async {
        let set = [
            ("OBLETH_ADMIN_TOKEN", "an-admin-token-for-tests"),
            ("OBLETH_CONFIG_FILE", path),
            ("OBLETH_PROXY_LISTEN", "127.0.0.1:0"),
            ("OBLETH_ADMIN_LISTEN", "127.0.0.1:0"),
            ("OBLETH_METRICS_LISTEN", "127.0.0.1:0"),
        ];
        let database = format!("sqlite://{}", folder.path().join("x.db").display());
        let set = set.into_iter().chain([("OBLETH_DATABASE_URL", database.as_str())]);
        let config = Config::read(Env::of(set)).unwrap();
        let error = obleth::server::Running::start(config).await.unwrap_err().to_string();
        assert!(error.contains("OBLETH_CONFIG_FILE") && error.contains("tenants[0].group"), "{error}");
    });
}

#[test]
fn an_empty_hand_makes_nothing() {
    run(async {
        let (app, _) = start().await;
        let stranger = Caller::new(app.running.admin, None);
        stranger.get("/api/v1/config/export").await.expect(401);
        stranger.post("/api/v1/config/import", &json!({"groups": [{"name": "x"}]})).await.expect(401);
        assert_eq!(export(&app).await["groups"].as_array().unwrap().len(), 1);
        app.stop().await;
    });
}
