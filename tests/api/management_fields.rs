//! The management API: fields that are wrong, and money.

use crate::management::{names, start};
use crate::support::{Caller, run};
use actix_web::http::Method;
use serde_json::json;

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
            ("brownout.steps", json!({"steps": ["shed", "cap_tokens", "shed"]})),
            ("brownout.steps[0]", json!({"steps": ["doze"]})),
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
