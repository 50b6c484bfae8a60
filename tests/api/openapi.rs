//! The OpenAPI document: that it describes every route, and that its examples are true. That the answers are what it
//! says is looked at in every test (`support::described`).

use crate::access::token;
use crate::management::start;
use crate::support::{Caller, fits, run};
use actix_web::http::Method;
use obleth::http::admin::{TABLE, describe};
use obleth_actors::admin::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn every_route_is_described_with_its_role_and_its_refusals() {
    let document = describe();
    let mut ids = BTreeSet::new();
    for place in TABLE {
        let path = place.path.replace(":.+}", "}");
        let described = document["paths"][&path].as_object().unwrap_or_else(|| panic!("{path}"));
        assert_eq!(described.len(), place.entries.len(), "{path}");
        for entry in place.entries {
            let what = format!("{} {path}", entry.method);
            let operation = &described[&entry.method.to_lowercase()];
            assert_eq!(operation["x-role"], entry.role.as_str(), "{what}");
            assert_eq!(operation["summary"], entry.about, "{what}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{what}");
            let statuses: BTreeSet<u16> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .map(|status| status.parse().unwrap())
                .collect();
            let mut expected = BTreeSet::from([400, 401, 429, 500, 503]);
            expected.extend((entry.role > Role::Viewer).then_some(403));
            expected.extend(path.contains('{').then_some(404));
            expected.extend(operation.get("requestBody").map(|_| 413));
            assert!(expected.is_subset(&statuses), "{what}: {statuses:?}");
            assert!(statuses.iter().any(|status| (200..300).contains(status)), "{what}: {statuses:?}");
            // A check is a call that takes no body.
            let takes = ["POST", "PUT", "PATCH"].contains(&entry.method) && !path.ends_with("/check");
            assert_eq!(operation.get("requestBody").is_some(), takes, "{what}");
        }
    }
    assert_eq!(document["paths"].as_object().unwrap().len(), TABLE.len());
    no_reference_is_dangling(&document, &document);
}

fn no_reference_is_dangling(document: &Value, value: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get("$ref") {
                assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
            object.values().for_each(|value| no_reference_is_dangling(document, value));
        }
        Value::Array(values) => values.iter().for_each(|value| no_reference_is_dangling(document, value)),
        _ => {}
    }
}

#[test]
fn whoever_may_read_may_read_the_description() {
    run(async {
        let (app, _) = start().await;
        let (_, viewer) = token(&app, "v", "viewer").await;
        let answer = viewer.get("/api/v1/openapi.json").await.expect(200);
        assert_eq!(answer.json(), describe());
        let text = answer.text();
        for never in ["writeOnly\":true,\"default", "inputs/"] {
            assert!(!text.contains(never), "{never}");
        }
        Caller::new(app.running.admin, None).get("/api/v1/openapi.json").await.expect(401);
        app.stop().await;
    });
}

#[test]
fn no_schema_of_an_answer_has_a_secret() {
    let schemas = &describe()["components"]["schemas"];
    for (answer, field) in [
        ("Model", "api_key"),
        ("Key", "secret"),
        ("AdminToken", "secret"),
        ("ExportedModelSpec", "api_key"),
        ("McpServer", "auth_header"),
        ("ExportedMcpServerSpec", "auth_header"),
    ] {
        assert!(schemas[answer]["properties"].is_object(), "{answer}");
        assert!(schemas[answer]["properties"].get(field).is_none(), "{answer}.{field}");
    }
    assert!(schemas["ModelSpec"]["properties"]["api_key"].is_object());
}

/// The same shape: objects with the same fields, and values of the same kind.
fn alike(at: &str, example: &Value, real: &Value) {
    match (example, real) {
        (Value::Object(example), Value::Object(real)) => {
            let names =
                |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            assert_eq!(names(example), names(real), "{at}");
            for (name, value) in example {
                alike(&format!("{at}.{name}"), value, &real[name]);
            }
        }
        (Value::Array(example), Value::Array(real)) => {
            assert_eq!(example.len(), real.len(), "{at}");
            example.iter().zip(real).for_each(|(example, real)| alike(at, example, real));
        }
        (Value::String(example), Value::String(real)) => {
            assert_eq!(example.len(), real.len(), "{at}: {example}, {real}")
        }
        (example, real) => assert_eq!(example, real, "{at}"),
    }
}

#[test]
fn each_example_of_a_request_works_and_is_answered_like_the_example_of_an_answer() {
    run(async {
        let (app, admin) = start().await;
        let document = describe();
        let (mut tenant, mut key) = (String::new(), String::new());
        let mut tried = 0;
        for (path, method) in [
            ("/models", "post"),
            ("/models/{name}", "patch"),
            ("/models/{name}", "put"),
            ("/groups", "post"),
            ("/groups/{name}", "patch"),
            ("/tenants", "post"),
            ("/tenants/{id}/keys", "post"),
            ("/keys/{id}", "patch"),
            ("/keys/{id}/rotate", "post"),
            ("/tenants/{id}", "patch"),
            ("/mcp-servers", "post"),
            ("/mcp-servers/{name}", "patch"),
            ("/capacity", "put"),
            ("/admin-tokens", "post"),
            ("/groups/{name}", "delete"),
            ("/config/import", "post"),
            ("/version", "get"),
        ] {
            let operation = &document["paths"][path][method];
            let body = &operation["requestBody"]["content"]["application/json"];
            let named = match path.split('/').nth(1).unwrap() {
                "models" => "llama-70b",
                "groups" => "batch",
                "mcp-servers" => "git-tools",
                "keys" => &key,
                _ => &tenant,
            };
            let target = path.replace("{name}", named).replace("{id}", named);
            let request = admin.request(
                Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                &format!("/api/v1{target}"),
            );
            let text = match body.get("example") {
                Some(example) => {
                    fits(&body["schema"], example).unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
                    tried += 1;
                    example.to_string()
                }
                None => String::new(),
            };
            let answer = Caller::send(request, text).await;
            assert!(
                (200..300).contains(&answer.status),
                "{method} {path}: {} {}",
                answer.status,
                answer.text()
            );
            let made = if answer.body.is_empty() { json!(null) } else { answer.json() };
            let described = &operation["responses"][answer.status.to_string()]["content"]["application/json"];
            if let Some(example) = described.get("example") {
                fits(&described["schema"], example)
                    .unwrap_or_else(|fault| panic!("{method} {path}: {fault}"));
                alike(path, example, &made);
                tried += 1;
            }
            match path {
                "/tenants" => tenant = made["id"].as_str().unwrap().to_owned(),
                "/tenants/{id}/keys" => key = made["key"]["id"].as_str().unwrap().to_owned(),
                _ => {}
            }
        }
        let examples = document["paths"].to_string().matches("\"example\":").count();
        assert_eq!(tried, examples, "every example was tried");
        app.stop().await;
    });
}
