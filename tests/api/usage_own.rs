//! `GET /v1/usage`: what the calling key and its tenant used.

use crate::support::{TestApp, Upstream, chat_answer, run, until};
use serde_json::{Value, json};

const PATH: &str = "/v1/usage";

fn used(period: &Value) -> (i64, i64, i64, String) {
    let number = |field: &str| period[field].as_i64().unwrap();
    (
        number("requests"),
        number("input_tokens"),
        number("output_tokens"),
        period["cost_usd"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_key_sees_its_own_usage_and_that_of_its_tenant() {
    run(async {
        let upstream = Upstream::always(chat_answer(10, 3)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let tenant = app.tenant(json!({"name": "acme"})).await;
        let one = app.client(&app.key(&tenant, json!({"name": "one"})).await);
        let two = app.client(&app.key(&tenant, json!({"name": "two"})).await);
        let other = app.caller("other").await;
        let nothing = one.get(PATH).await.expect(200);
        assert!(nothing.header("x-request-id").is_some());
        assert_eq!(used(&nothing.json()["month"]["tenant"]), (0, 0, 0, "0".to_owned()));
        for caller in [&one, &one, &two, &other] {
            caller.chat("m").await.expect(200);
        }
        // What was told is told again for two seconds.
        let usage = until("the usage is told", async || {
            let usage = one.get(PATH).await.expect(200).json();
            (usage["today"]["tenant"]["requests"] == 3).then_some(usage)
        })
        .await;
        // 10 × 0.0000005 and 3 × 0.0000015.
        assert_eq!(used(&usage["today"]["key"]), (2, 20, 6, "0.000019".to_owned()));
        assert_eq!(used(&usage["today"]["tenant"]), (3, 30, 9, "0.0000285".to_owned()));
        assert_eq!(usage["month"]["key"], usage["today"]["key"]);
        assert_eq!(usage["tenant"], json!({"id": tenant, "name": "acme"}));
        assert!(usage["month"]["since"].as_str().unwrap().ends_with("-01T00:00:00Z"));
        assert!(usage["today"]["since"].as_str().unwrap().ends_with("T00:00:00Z"));
        assert_eq!(used(&other.get(PATH).await.expect(200).json()["today"]["tenant"]).0, 1);
        app.stop().await;
    });
}

#[test]
fn asking_costs_nothing_and_is_told_again_rather_than_read() {
    run(async {
        let upstream = Upstream::always(chat_answer(10, 3)).await;
        let app = TestApp::start(&upstream).await;
        let caller = app.caller("acme").await;
        assert_eq!(app.anonymous().get(PATH).await.expect(401).error_code(), "invalid_api_key");
        let wrong = caller.post(PATH, &json!({})).await.expect(405);
        assert_eq!((wrong.error_code().as_str(), wrong.header("allow")), ("method_not_allowed", Some("GET")));
        let first = caller.get(PATH).await.expect(200).json();
        let again = caller.get(PATH).await.expect(200).json();
        assert_eq!(again["as_of"], first["as_of"], "the same reading");
        let later = until("it is read anew", async || {
            let usage = caller.get(PATH).await.expect(200).json();
            (usage["as_of"] != first["as_of"]).then_some(usage)
        })
        .await;
        assert_eq!(later["month"], first["month"]);
        assert_eq!(app.rows().await.len(), 0);
        assert_eq!(upstream.seen().len(), 0);
        app.stop().await;
    });
}
