//! `GET /v1/limits`: what the calling key may do, and where its tenant stands. Nothing of the others.

use crate::support::{Queue, TestApp, Upstream, chat_answer, run, stream_body};
use actix_web::http::Method;
use serde_json::json;

const PATH: &str = "/v1/limits";

#[test]
fn an_idle_tenant_has_all_there_is() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::with(&upstream, &[("OBLETH_TENANT_MAX_QUEUED", "77")]).await;
        app.admin().post("/api/v1/groups", &json!({"name": "lab", "weight": 20})).await.expect(201);
        let fields = json!({"name": "acme", "weight": 250, "group": "lab", "max_in_flight": 4});
        let id = app.tenant(fields).await;
        let plain = app.client(&app.key(&id, json!({"name": "k"})).await);
        let answer = plain.get(PATH).await.expect(200);
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let mut limits = answer.json();
        let key = limits["key"].as_object_mut().unwrap().remove("id").unwrap();
        // See `budgets::views`.
        let budget = limits.as_object_mut().unwrap().remove("budget").unwrap();
        assert_eq!(budget["tenant"]["budgets"], json!([]));
        let tenant = json!({"id": id, "name": "acme", "weight": 250, "group": "lab"});
        let wanted = json!({"tenant": tenant, "entitled_share": 1, "actual_share": 0, "in_flight": 0,
            "max_in_flight": 4, "queued": 0, "max_queued": 77, "oldest_wait_ms": null, "estimated_wait_ms": 0,
            "key": {"max_in_flight": null, "in_flight": null, "queued": null}, "models": [],
            "brownout": null});
        assert_eq!(limits, wanted);
        let capped = app.client(&app.key(&id, json!({"name": "c", "max_in_flight": 2})).await);
        let limits = capped.get(PATH).await.expect(200).json();
        assert_ne!(limits["key"]["id"], key);
        let counts = [&limits["key"]["max_in_flight"], &limits["key"]["in_flight"], &limits["key"]["queued"]];
        assert_eq!(counts, [&json!(2), &json!(0), &json!(0)]);
        app.stop().await;
    });
}

#[test]
fn a_tenant_that_waits_sees_where_it_stands_and_nothing_of_the_others() {
    run(async {
        let queue = Queue::with(&[], |_| vec![]).await;
        let fields = json!({"weight": 300, "max_queued": 5});
        let path = format!("/api/v1/tenants/{}", queue.tenant);
        queue.app.admin().patch(&path, &fields).await.expect(200);
        let _first = queue.join("/v1/chat/completions", "a", &stream_body()).await;
        let _second = queue.join("/v1/chat/completions", "b", &stream_body()).await;
        let answer = queue.caller.get(PATH).await.expect(200);
        let limits = answer.json();
        assert_eq!(
            (&limits["in_flight"], &limits["queued"], &limits["max_queued"]),
            (&json!(0), &json!(2), &json!(5))
        );
        assert_eq!((&limits["entitled_share"], &limits["actual_share"]), (&json!(0.75), &json!(0)));
        assert!(limits["oldest_wait_ms"].as_u64().unwrap() < 5000, "{limits}");
        assert_eq!(limits["estimated_wait_ms"], json!(null), "nothing has finished yet");
        let on = json!([{"model": "m", "in_flight": 0, "queued": 2, "estimated_wait_ms": null}]);
        assert_eq!(limits["models"], on);
        // The other tenant, its model and its key have the name `holder`.
        assert!(!answer.text().contains("holder"), "{}", answer.text());
        drop((_first, _second));
        queue.stop().await;
    });
}

#[test]
fn it_is_no_model_request() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        let id = app.tenant(json!({"name": "acme"})).await;
        let caller = app.client(&app.key(&id, json!({"name": "k"})).await);
        assert_eq!(app.anonymous().get(PATH).await.expect(401).error_code(), "invalid_api_key");
        assert_eq!(app.client("sk_none").get(PATH).await.expect(401).error_code(), "invalid_api_key");
        let wrong = caller.post(PATH, &json!({})).await.expect(405);
        assert_eq!((wrong.error_code().as_str(), wrong.header("allow")), ("method_not_allowed", Some("GET")));
        assert_eq!(caller.get("/v1/limits/").await.expect(404).error_code(), "not_found");
        let request = caller.request(Method::GET, PATH).insert_header(("x-request-id", "mine"));
        let answer = crate::support::Caller::send(request, "").await.expect(200);
        assert_eq!(answer.header("x-request-id"), Some("mine"));
        let path = format!("/api/v1/tenants/{id}");
        app.admin().patch(&path, &json!({"status": "suspended"})).await.expect(200);
        assert_eq!(caller.get(PATH).await.expect(403).error_code(), "tenant_suspended");
        assert_eq!(app.rows().await.len(), 0);
        let metrics = app.metrics().await;
        let mut counts = metrics.lines().filter(|line| line.starts_with("obleth_requests_total{"));
        assert!(counts.all(|line| line.ends_with(" 0")), "{metrics}");
        assert_eq!(upstream.seen().len(), 0);
        app.stop().await;
    });
}
