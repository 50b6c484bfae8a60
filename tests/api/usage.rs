//! What the ledger says through the management API: logs by filter and page, sums by group.

use crate::support::{TestApp, Upstream, chat_answer, run};
use actix_web::http::Method;
use serde_json::{Value, json};

struct Stand {
    app: TestApp,
    tenants: Vec<String>,
}

/// Two tenants; the first asks `m` three times and `n` twice, the second `m` four times and an unknown model once.
async fn stand() -> Stand {
    let upstream = Upstream::always(chat_answer(10, 3)).await;
    let app = TestApp::start(&upstream).await;
    app.model_with(
        json!({"model_name": "m", "input_cost_per_token": "0.000000000001", "output_cost_per_token": "0.1"}),
    )
    .await;
    app.model_with(json!({"model_name": "n", "input_cost_per_token": null, "output_cost_per_token": null}))
        .await;
    let mut tenants = Vec::new();
    for (name, asked) in [("one", ["m", "m", "m", "n", "n"]), ("two", ["m", "m", "m", "m", "none"])] {
        let tenant = app.tenant(json!({"name": name})).await;
        let caller = app.client(&app.key(&tenant, json!({"name": name})).await);
        for model in asked {
            let request =
                caller.request(Method::POST, "/v1/chat/completions").insert_header(("x-session-id", name));
            let body = json!({"model": model, "messages": []}).to_string();
            crate::support::Caller::send(request, body).await;
        }
        tenants.push(tenant);
    }
    Stand { app, tenants }
}

async fn get(app: &TestApp, path: &str) -> Value {
    app.admin().get(&format!("/api/v1/usage/{path}")).await.expect(200).json()
}

#[test]
fn logs_are_filtered_and_paged() {
    run(async {
        let Stand { app, tenants } = stand().await;
        let count =
            async |query: &str| get(&app, &format!("logs?{query}")).await["data"].as_array().unwrap().len();
        assert_eq!(count("").await, 10);
        assert_eq!(count(&format!("tenant_id={}", tenants[0])).await, 5);
        assert_eq!(count("model=m").await, 7);
        assert_eq!(count("model=n").await, 2);
        assert_eq!(count("status=404").await, 1);
        assert_eq!(count("status=200").await, 9);
        assert_eq!(count("status=4xx").await, 1);
        assert_eq!(count("status=2xx").await, 9);
        assert_eq!(count("status=5xx").await, 0);
        assert_eq!(count("error_code=model_not_found").await, 1);
        assert_eq!(count("error_code=draining").await, 0);
        assert_eq!(count("admission=fast").await, 9);
        assert_eq!(count("admission=rejected").await, 1);
        assert_eq!(count("cache=off").await, 10);
        assert_eq!(count("cache=hit").await, 0);
        assert_eq!(count("usage_source=upstream").await, 9);
        assert_eq!(count("usage_source=none").await, 1);
        assert_eq!(count("session_id=two").await, 5);
        assert_eq!(count("route=/v1/chat/completions").await, 10);
        assert_eq!(count("route=/v1/embeddings").await, 0);
        assert_eq!(count(&format!("tenant_id={}&model=m&status=200", tenants[1])).await, 4);
        assert_eq!(count("since=2999-01-01T00:00:00Z").await, 0);
        assert_eq!(count("until=2000-01-01T00:00:00Z").await, 0);
        assert_eq!(count("since=2000-01-01T00:00:00Z&until=2999-01-01T00:00:00Z").await, 10);
        let all = get(&app, "logs").await["data"].clone();
        let key = all[0]["key_id"].as_str().unwrap();
        assert_eq!(count(&format!("key_id={key}")).await, 5);
        let newest_first =
            all.as_array().unwrap().windows(2).all(|pair| pair[0]["ts"].as_str() >= pair[1]["ts"].as_str());
        assert!(newest_first);
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&app, &format!("logs?limit=3{cursor}")).await;
            walked.extend(page["data"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(Value::from(walked), all);
        for (query, param) in [
            ("status=x", "status"),
            ("status=6xx", "status"),
            ("status=xx", "status"),
            ("admission=slow", "admission"),
            ("cache=full", "cache"),
            ("usage_source=me", "usage_source"),
            ("since=yesterday", "since"),
            ("until=1", "until"),
            ("x=1", "x"),
            ("cursor=YWJj", "cursor"),
            ("tenant_id=x", "tenant_id"),
            ("key_id=7", "key_id"),
        ] {
            let answer = app.admin().get(&format!("/api/v1/usage/logs?{query}")).await.expect(400);
            assert_eq!(
                (answer.error_code().as_str(), &answer.json()["error"]["param"]),
                ("invalid_request", &json!(param))
            );
        }
        for path in ["summary", "series", "export.csv"] {
            for param in ["tenant_id", "key_id"] {
                let path = format!("/api/v1/usage/{path}?{param}=acme");
                let answer = app.admin().get(&path).await.expect(400);
                assert_eq!(answer.json()["error"]["param"], param, "{path}");
            }
        }
        assert_eq!(app.admin().get("/api/v1/usage/logs/none").await.expect(404).error_code(), "not_found");
        app.stop().await;
    });
}

#[test]
fn sums_are_exact_by_each_group() {
    run(async {
        let Stand { app, tenants } = stand().await;
        let group = |summary: &Value, name: &str| {
            let lines = summary["data"].as_array().unwrap();
            let line = lines
                .iter()
                .find(|line| line["group"] == name)
                .unwrap_or_else(|| panic!("{name} in {summary}"));
            (
                line["requests"].as_i64().unwrap(),
                line["input_tokens"].as_i64().unwrap(),
                line["output_tokens"].as_i64().unwrap(),
                line["cost_usd"].as_str().unwrap().to_owned(),
            )
        };
        // One request on `m`: 10 pico-dollars and 3 × 0.1 USD.
        let by_tenant = get(&app, "summary?group_by=tenant").await;
        assert_eq!(group(&by_tenant, &tenants[0]), (5, 50, 15, "0.90000000003".to_owned()));
        assert_eq!(group(&by_tenant, &tenants[1]), (5, 40, 12, "1.20000000004".to_owned()));
        let by_model = get(&app, "summary?group_by=model").await;
        assert_eq!(group(&by_model, "m"), (7, 70, 21, "2.10000000007".to_owned()));
        assert_eq!(group(&by_model, "n"), (2, 20, 6, "0".to_owned()));
        let by_day = get(&app, "summary?group_by=day").await;
        let rows = get(&app, "logs").await;
        let days: std::collections::BTreeSet<&str> =
            rows["data"].as_array().unwrap().iter().map(|row| &row["ts"].as_str().unwrap()[..10]).collect();
        assert_eq!(by_day["data"].as_array().unwrap().len(), days.len());
        let by_key = get(&app, "summary?group_by=key").await;
        assert_eq!(by_key["data"].as_array().unwrap().len(), 2);
        for summary in [&by_tenant, &by_model, &by_day, &by_key] {
            assert_eq!(
                (&summary["total_requests"], &summary["total_cost_usd"]),
                (&json!(10), &json!("2.10000000007"))
            );
        }
        assert_eq!(get(&app, "summary").await, by_tenant);
        let one = get(&app, &format!("summary?group_by=model&tenant_id={}", tenants[0])).await;
        assert_eq!(one["total_requests"], 5);
        let only_n = get(&app, "summary?group_by=key&model=n").await;
        assert_eq!((&only_n["total_requests"], &only_n["groups_total"]), (&json!(2), &json!(1)));
        // `n` has no price; that is said, and the request to no model is none of them.
        let line = |summary: &Value, name: &str| {
            let lines = summary["data"].as_array().unwrap();
            lines.iter().find(|line| line["group"] == name).unwrap().clone()
        };
        let (m, n, none) = (line(&by_model, "m"), line(&by_model, "n"), line(&by_model, ""));
        assert_eq!([&m["unpriced"], &n["unpriced"], &none["unpriced"]], [&json!(0), &json!(2), &json!(0)]);
        assert_eq!((&none["errors"], &none["refused"], &m["errors"]), (&json!(1), &json!(1), &json!(0)));
        assert_eq!(by_tenant["total_unpriced"], 2);
        let first = get(&app, "summary?group_by=model&limit=1").await;
        assert_eq!((first["data"].as_array().unwrap().len(), &first["groups_total"]), (1, &json!(3)));
        assert_eq!((&first["data"][0]["group"], &first["total_requests"]), (&json!("m"), &json!(10)));
        let nothing = get(&app, "summary?group_by=day&since=2999-01-01T00:00:00Z").await;
        assert_eq!((&nothing["data"], &nothing["total_cost_usd"]), (&json!([]), &json!("0")));
        for (query, param) in [
            ("group_by=x", "group_by"),
            ("since=x", "since"),
            ("x=1", "x"),
            ("time_zone=Mars/Olympus", "time_zone"),
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
        ] {
            let answer = app.admin().get(&format!("/api/v1/usage/summary?{query}")).await.expect(400);
            assert_eq!(answer.json()["error"]["param"], param);
        }
        app.stop().await;
    });
}
