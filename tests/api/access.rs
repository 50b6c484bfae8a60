//! Who may call the management API: roles, tokens, and callers that guess.

use crate::management::start;
use crate::support::{ADMIN_TOKEN, Caller, TestApp, run};
use actix_web::http::Method;
use obleth::http::admin::{Entry, Place, TABLE};
use obleth_actors::admin::Role;
use serde_json::json;

/// A token of this role: its id and a caller with it.
pub async fn token(app: &TestApp, name: &str, role: &str) -> (String, Caller) {
    let made = app.admin().post("/api/v1/admin-tokens", &json!({"name": name, "role": role})).await;
    let made = made.expect(201).json();
    assert_eq!((&made["name"], &made["role"]), (&json!(name), &json!(role)));
    let caller = Caller::new(app.running.admin, made["secret"].as_str());
    (made["id"].as_str().unwrap().to_owned(), caller)
}

/// A path at this place that names nothing that exists.
fn nowhere(place: &Place) -> String {
    let mut path = format!("/api/v1{}", place.path);
    while let (Some(open), Some(close)) = (path.find('{'), path.find('}')) {
        path.replace_range(open..=close, "no-such-thing");
    }
    path
}

async fn status(caller: &Caller, place: &Place, entry: &Entry) -> u16 {
    let method = Method::from_bytes(entry.method.as_bytes()).unwrap();
    // No document of any route: what is let through is refused for this field, and changes nothing.
    Caller::send(caller.request(method, &nowhere(place)), r#"{"no_such_field":1}"#).await.status
}

#[test]
fn no_route_takes_a_parameter_that_it_does_not_know() {
    run(async {
        let (app, admin) = start().await;
        for place in TABLE {
            for entry in place.entries {
                let method = Method::from_bytes(entry.method.as_bytes()).unwrap();
                let path = format!("{}?no_such_parameter=1", nowhere(place));
                let answer = Caller::send(admin.request(method, &path), "{}").await;
                let what = format!("{} {path}: {}", entry.method, answer.text());
                assert_eq!(answer.expect(400).json()["error"]["param"], "no_such_parameter", "{what}");
            }
        }
        app.stop().await;
    });
}

#[test]
fn every_route_takes_its_role_and_those_above_it_alone() {
    run(async {
        let (app, admin) = start().await;
        let mut callers = vec![(Role::Admin, admin)];
        for role in Role::ALL {
            callers.push((role, token(&app, role.as_str(), role.as_str()).await.1));
        }
        let (mut allowed, mut refused) = (0, 0);
        for place in TABLE {
            for entry in place.entries {
                for (role, caller) in &callers {
                    let status = status(caller, place, entry).await;
                    let what = format!("{} {} as {role:?}: {status}", entry.method, place.path);
                    if *role >= entry.role {
                        assert!(![401, 403, 405, 429].contains(&status) && status < 500, "{what}");
                        allowed += 1;
                    } else {
                        assert_eq!(status, 403, "{what}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(allowed > 100 && refused > 20, "{allowed} {refused}");
        app.stop().await;
    });
}

#[test]
fn reading_is_for_viewers_and_tokens_are_for_admins() {
    for place in TABLE {
        for entry in place.entries {
            let least = match (place.path.starts_with("/admin-tokens"), entry.method) {
                (true, _) => Role::Admin,
                (false, "GET") => Role::Viewer,
                (false, _) => Role::Operator,
            };
            assert_eq!(entry.role, least, "{} {}", entry.method, place.path);
        }
    }
}

#[test]
fn a_token_works_until_it_is_deleted_and_is_kept_as_a_digest() {
    run(async {
        let (app, admin) = start().await;
        let (id, viewer) = token(&app, "grafana", "viewer").await;
        let secret = viewer.credential.clone().unwrap();
        assert!(secret.starts_with("adm_") && secret.len() == 52, "{secret}");
        viewer.get("/api/v1/models").await.expect(200);
        let refused = viewer.post("/api/v1/models", &json!({"model_name": "m"})).await.expect(403);
        assert_eq!(refused.error_code(), "role_forbidden");
        assert_eq!(viewer.get("/api/v1/nowhere").await.expect(404).error_code(), "not_found");
        assert_eq!(
            viewer.put("/api/v1/models", &json!({})).await.expect(405).error_code(),
            "method_not_allowed"
        );
        for (body, field) in [
            (json!({"name": "x", "role": "king"}), "role"),
            (json!({"name": "x"}), "role"),
            (json!({"name": "", "role": "viewer"}), "name"),
            (json!({"name": "x", "role": "viewer", "secret": "mine"}), "secret"),
        ] {
            crate::management::names(&admin.post("/api/v1/admin-tokens", &body).await, field);
        }
        let twice = admin.post("/api/v1/admin-tokens", &json!({"name": "grafana", "role": "admin"})).await;
        assert_eq!(twice.expect(409).error_code(), "conflict");
        let list = admin.get("/api/v1/admin-tokens").await.expect(200);
        assert_eq!(list.json()["data"].as_array().unwrap().len(), 1);
        assert!(!list.text().contains(&secret) && list.json()["data"][0].get("secret").is_none());

        let directory = app.stop().await;
        let app = TestApp::start_in(directory, "http://127.0.0.1:9/v1", &[]).await;
        let viewer = Caller::new(app.running.admin, Some(&secret));
        viewer.get("/api/v1/models").await.expect(200);
        // No key of a tenant, and the root token, no credential of the other listener.
        app.client(&secret).get("/v1/models").await.expect(401);
        app.client(ADMIN_TOKEN).get("/v1/models").await.expect(401);
        app.admin().delete(&format!("/api/v1/admin-tokens/{id}")).await.expect(204);
        viewer.get("/api/v1/models").await.expect(401);
        app.admin().delete(&format!("/api/v1/admin-tokens/{id}")).await.expect(404);
        app.stop().await;
    });
}

#[test]
fn a_caller_that_guesses_is_slowed_down_and_a_valid_token_is_not() {
    run(async {
        let (app, admin) = start().await;
        let (_, operator) = token(&app, "ci", "operator").await;
        let stranger = Caller::new(app.running.admin, Some("adm_guess"));
        for _ in 0..10 {
            assert_eq!(stranger.get("/api/v1/models").await.expect(401).error_code(), "unauthorized");
        }
        for _ in 0..3 {
            let answer = stranger.get("/api/v1/models").await.expect(429);
            assert_eq!(answer.error_code(), "too_many_failures");
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            operator.get("/api/v1/models").await.expect(200);
            admin.get("/api/v1/models").await.expect(200);
        }
        app.stop().await;
    });
}
