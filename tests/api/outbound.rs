//! Where upstreams may be: checked when a model is written, and at each connect.

use crate::support::{Caller, Stage, TestApp, Upstream, chat_answer, run};
use serde_json::json;
use std::net::Ipv4Addr;
use tempfile::TempDir;

const NEVER: [&str; 12] = [
    "http://169.254.169.254/v1",
    "http://169.254.1.1:8000",
    "http://2852039166/v1",
    "http://0xA9FEA9FE/",
    "http://0251.0376.0251.0376/",
    "http://[fe80::1]:8000/v1",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:169.254.169.254]/",
    "http://100.100.100.200/",
    "http://0.0.0.0:8000/v1",
    "http://[::]:8000",
    "https://224.0.0.1/",
];

async fn refused(app: &TestApp, base: &str) {
    let refused =
        app.admin().post("/api/v1/models", &json!({"model_name": "x", "api_base": base})).await.expect(400);
    assert_eq!(
        (refused.error_code().as_str(), &refused.json()["error"]["param"]),
        ("invalid_request", &json!("api_base")),
        "{base}"
    );
}

async fn chat(caller: &Caller, model: &str) -> (u16, String) {
    let answer = caller.chat(model).await;
    if answer.status == 200 { (200, String::new()) } else { (answer.status, answer.error_code()) }
}

#[test]
fn addresses_that_are_never_connected_to_are_refused_in_every_notation() {
    run(async {
        let stage = Stage::new().await;
        for base in NEVER {
            refused(&stage.app, base).await;
            for call in [
                stage.app.admin().patch("/api/v1/models/m", &json!({"api_base": base})).await,
                stage.app.admin().put("/api/v1/models/m", &json!({"api_base": base})).await,
            ] {
                assert_eq!(call.expect(400).json()["error"]["param"], "api_base", "{base}");
            }
        }
        let models = stage.app.admin().get("/api/v1/models").await.expect(200).json();
        assert_eq!(
            (models["data"].as_array().unwrap().len(), &models["data"][0]["api_base"]),
            (1, &json!(null))
        );
        for base in
            ["http://10.0.0.1:8000/v1", "http://[::1]:8000", "http://192.168.1.1", "http://vllm.internal/v1"]
        {
            stage.app.admin().patch("/api/v1/models/m", &json!({"api_base": base})).await.expect(200);
        }
        stage.stop().await;
    });
}

#[test]
fn strict_mode_takes_private_networks_only_from_its_list() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let port = upstream.address.port();
        let strict = [
            ("OBLETH_BLOCK_PRIVATE_NETWORKS", "true"),
            ("OBLETH_ALLOWED_NETWORKS", "10.1.0.0/16, 127.0.0.1"),
        ];
        let app = TestApp::with(&upstream, &strict).await;
        for base in [
            "http://10.2.0.1",
            "http://127.0.0.2:1",
            "http://[::1]:1",
            "http://192.168.0.1",
            "http://[fd00::1]",
        ] {
            refused(&app, base).await;
        }
        app.model_with(json!({"model_name": "far", "api_base": "http://10.1.2.3:1/v1"})).await;
        app.model("m").await;
        app.model_with(json!({"model_name": "named", "api_base": format!("http://localhost:{port}/v1")}))
            .await;
        let caller = app.caller("acme").await;
        assert_eq!(chat(&caller, "m").await, (200, String::new()));
        assert_eq!(chat(&caller, "named").await, (200, String::new()), "what the name resolves to is listed");
        app.idle().await;
        app.stop().await;
    });
}

#[test]
fn a_name_is_judged_by_what_it_resolves_to_when_it_is_connected_to() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let named = format!("http://localhost:{}/v1", upstream.address.port());
        let strict = [("OBLETH_BLOCK_PRIVATE_NETWORKS", "true")];
        let app = TestApp::at("http://public.example/v1", &strict).await;
        app.model_with(json!({"model_name": "m", "api_base": named})).await;
        let caller = app.caller("acme").await;
        let (status, code) = chat(&caller, "m").await;
        assert_eq!((status, code.as_str()), (502, "upstream_unreachable"));
        let checked = app.admin().post("/api/v1/models/m/check", &json!({})).await.expect(200).json();
        assert_eq!((&checked["ok"], &checked["error_code"]), (&json!(false), &json!("upstream_unreachable")));
        assert_eq!(upstream.connections(), 0);
        app.idle().await;
        app.stop().await;
    });
}

#[test]
fn what_was_stored_before_the_strict_mode_is_not_connected_to_either() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start_in(TempDir::new().unwrap(), "http://public.example/v1", &[]).await;
        app.model_with(json!({"model_name": "m", "api_base": upstream.base()})).await;
        let tenant = app.tenant(json!({"name": "acme"})).await;
        let key = app.key(&tenant, json!({"name": "k"})).await;
        assert_eq!(chat(&app.client(&key), "m").await.0, 200);
        app.idle().await;
        let directory = app.stop().await;
        let before = upstream.connections();
        let strict = [("OBLETH_BLOCK_PRIVATE_NETWORKS", "true")];
        let app = TestApp::start_in(directory, "http://public.example/v1", &strict).await;
        let (status, code) = chat(&app.client(&key), "m").await;
        assert_eq!((status, code.as_str(), upstream.connections()), (502, "upstream_unreachable", before));
        // Other fields can only be changed together with it.
        app.admin().patch("/api/v1/models/m", &json!({"description": "x"})).await.expect(400);
        app.admin()
            .patch("/api/v1/models/m", &json!({"description": "x", "api_base": null}))
            .await
            .expect(200);
        app.idle().await;
        app.stop().await;
    });
}

#[test]
fn a_redirect_leads_nowhere() {
    run(async {
        let hidden = Upstream::always(chat_answer(1, 1)).await;
        let stage = Stage::new().await;
        let location = format!("http://{}:{}/v1", Ipv4Addr::LOCALHOST, hidden.address.port());
        for status in [301, 302, 303, 307, 308] {
            stage.answer(format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"));
            assert_eq!(chat(&stage.caller, "m").await, (502, "upstream_error".to_owned()));
            let checked =
                stage.app.admin().post("/api/v1/models/m/check", &json!({})).await.expect(200).json();
            assert_eq!(
                (&checked["status"], &checked["error_code"]),
                (&json!(status), &json!("upstream_error"))
            );
        }
        assert_eq!(hidden.connections(), 0);
        stage.stop().await;
    });
}
