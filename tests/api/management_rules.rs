//! The management API: names, versions, secrets, access and pages.

use crate::access::token;
use crate::management::{names, start, start_with};
use crate::support::{Answer, Caller, Raw, TestApp, exchange, run};
use actix_web::http::Method;
use serde_json::json;

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
        let folders = [directory.path().to_owned(), directory.path().join("journal")];
        let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        for path in files.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
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

/// A list is emptied with `[]`; `null` is for what may be absent, and never passes for "no change".
#[test]
fn null_empties_no_list_and_says_so() {
    run(async {
        let (app, admin) = start().await;
        app.model_with(json!({"model_name": "m", "aliases": ["a"], "fallback_models": ["b"]})).await;
        let budgets = json!([{"period": "day", "max_tokens": 9}]);
        let id = app.tenant(json!({"name": "t", "budgets": budgets, "metadata": {"a": 1}})).await;
        let tenant = format!("/api/v1/tenants/{id}");
        for (path, field, empty) in [
            ("/api/v1/models/m", "aliases", json!([])),
            ("/api/v1/models/m", "fallback_models", json!([])),
            (tenant.as_str(), "budgets", json!([])),
            (tenant.as_str(), "metadata", json!({})),
        ] {
            let before = admin.get(path).await.expect(200).json();
            names(&admin.patch(path, &json!({field: null})).await, field);
            assert_eq!(admin.get(path).await.expect(200).json(), before);
            let emptied = admin.patch(path, &json!({field: empty})).await.expect(200).json();
            assert_eq!(emptied[field], empty);
        }
        app.stop().await;
    });
}

#[test]
fn access_methods_and_sizes_are_checked() {
    run(async {
        let (app, admin) = start().await;
        let address = app.running.admin;
        let longer = format!("{}x", crate::support::ADMIN_TOKEN);
        let paths = ["/api/v1/models", "/api/v1/nowhere", "/api/v1/usage/logs", "/api/v1/version"];
        let tokens = [None, Some("wrong"), Some(""), Some(longer.as_str()), Some("Bearer")];
        for (token, path) in tokens.into_iter().zip(paths.into_iter().cycle()) {
            let caller = Caller::new(address, token);
            let answer = caller.get(path).await.expect(401);
            assert_eq!(answer.error_code(), "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
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
fn a_version_is_of_something_that_is_there() {
    run(async {
        let (app, admin) = start().await;
        let stale = |answer: Answer| assert_eq!(answer.expect(409).error_code(), "stale_version");
        stale(admin.put("/api/v1/models/m", &json!({"version": 1})).await);
        app.model("m").await;
        admin.delete("/api/v1/models/m").await.expect(204);
        stale(admin.put("/api/v1/models/m", &json!({"version": 1})).await);
        admin.get("/api/v1/models/m").await.expect(404);
        admin.put("/api/v1/models/m", &json!({})).await.expect(201);
        app.stop().await;
    });
}

#[test]
fn an_operator_sends_no_stored_secret_to_another_origin() {
    run(async {
        let (app, root) = start().await;
        let admin = token(&app, "operator", "operator").await.1;
        let headers = json!({"x-team": "of-the-team"});
        let model = json!({"model_name": "m", "api_base": "http://gpu:8000/v1", "api_key": "of-the-gpu"});
        app.model_with(model).await;
        let model = "/api/v1/models/m";
        admin.patch(model, &json!({"api_base": "http://gpu:8000/other/v1"})).await.expect(200);
        for elsewhere in
            [json!("http://gpu:8001/v1"), json!("https://gpu:8000"), json!("http://mine:8000"), json!(null)]
        {
            names(&admin.patch(model, &json!({"api_base": elsewhere})).await, "api_key");
            names(&admin.put(model, &json!({"api_base": elsewhere})).await, "api_key");
        }
        let moved = json!({"api_base": "http://mine:8000", "api_key": "another"});
        admin.patch(model, &moved).await.expect(200);
        let cleared = json!({"api_base": "http://gpu:8000", "api_key": null, "upstream_headers": headers});
        assert_eq!(admin.patch(model, &cleared).await.expect(200).json()["api_key_set"], false);
        names(&admin.patch(model, &json!({"api_base": "http://mine"})).await, "upstream_headers.x-team");
        let moved = json!({"api_base": "http://mine", "upstream_headers": headers});
        admin.patch(model, &moved).await.expect(200);

        let server =
            json!({"name": "s", "upstream_url": "http://tools/mcp", "auth_header": "Bearer of-the-tools"});
        admin.post("/api/v1/mcp-servers", &server).await.expect(201);
        let server = "/api/v1/mcp-servers/s";
        admin.patch(server, &json!({"upstream_url": "http://tools:80/mcp2"})).await.expect(200);
        names(&admin.patch(server, &json!({"upstream_url": "http://mine/mcp"})).await, "auth_header");
        let moved = json!({"upstream_url": "http://mine/mcp", "auth_header": null});
        admin.patch(server, &moved).await.expect(200);

        // An import is no way round, and one that brings the secret with it may move.
        let model = |key: serde_json::Value| json!({"models": [{"model_name": "i", "api_base": "http://gpu", "api_key": key}]});
        admin.post("/api/v1/config/import", &model(json!("of-the-gpu"))).await.expect(200);
        let mut moved = model(json!(null));
        moved["models"][0]["api_base"] = json!("http://mine");
        moved["models"][0].as_object_mut().unwrap().remove("api_key");
        let refused = admin.post("/api/v1/config/import", &moved).await.expect(400);
        assert!(refused.text().contains("api_key"), "{}", refused.text());
        root.post("/api/v1/config/import", &moved).await.expect(200);
        moved["models"][0]["api_base"] = json!("http://other");
        moved["models"][0]["api_key"] = json!("of-the-gpu");
        admin.post("/api/v1/config/import", &moved).await.expect(200);
        let model =
            root.patch("/api/v1/models/i", &json!({"api_base": "http://gpu"})).await.expect(200).json();
        assert_eq!((&model["api_base"], &model["api_key_set"]), (&json!("http://gpu"), &json!(true)));
        app.stop().await;
    });
}

#[test]
fn a_cursor_is_of_its_own_list() {
    run(async {
        let (app, admin) = start().await;
        for name in ["a", "b", "c"] {
            app.model(name).await;
            app.tenant(json!({"name": name})).await;
        }
        let page = admin.get("/api/v1/models?limit=1").await.expect(200).json();
        let cursor = page["next_cursor"].as_str().unwrap();
        assert_eq!(
            admin.get(&format!("/api/v1/models?cursor={cursor}")).await.expect(200).json()["data"][0]["model_name"],
            "b"
        );
        for list in ["tenants", "keys", "groups", "mcp-servers", "audit", "usage/logs"] {
            names(&admin.get(&format!("/api/v1/{list}?cursor={cursor}")).await, "cursor");
        }
        app.stop().await;
    });
}

#[test]
fn a_key_ends_within_the_years_that_can_be_written() {
    run(async {
        let (app, admin) = start().await;
        let tenant = app.tenant(json!({"name": "t"})).await;
        let keys = format!("/api/v1/tenants/{tenant}/keys");
        for beyond in ["9999-12-31T23:59:60Z", "9999-12-31T23:59:59-01:00", "+10000-01-01T00:00:00Z"] {
            names(&admin.post(&keys, &json!({"name": "k", "expires_at": beyond})).await, "expires_at");
        }
        for (given, kept) in [
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
            ("2027-06-30T23:59:60Z", "2027-07-01T00:00:00.000000Z"),
        ] {
            let made = admin.post(&keys, &json!({"name": "k", "expires_at": given})).await.expect(201).json();
            let end =
                made["key"]["expires_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
            assert_eq!(end, kept.parse::<chrono::DateTime<chrono::Utc>>().unwrap(), "{given}");
        }
        app.stop().await;
    });
}

#[test]
fn a_model_does_not_stand_in_for_itself() {
    run(async {
        let (app, admin) = start().await;
        for own in ["m", "a"] {
            let model = json!({"model_name": "m", "aliases": ["a"], "fallback_models": ["b", own]});
            names(&admin.post("/api/v1/models", &model).await, "fallback_models");
        }
        let model = json!({"model_name": "m", "aliases": ["a"], "fallback_models": ["b"]});
        admin.post("/api/v1/models", &model).await.expect(201);
        names(&admin.patch("/api/v1/models/m", &json!({"aliases": ["b"]})).await, "fallback_models");
        app.stop().await;
    });
}
