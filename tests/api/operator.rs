//! What the operator sees of the scheduler: the live view, single requests.

use crate::support::{ADMIN_TOKEN, Caller, Room, run, until};
use serde_json::{Value, json};

async fn live(room: &Room, query: &str) -> Value {
    room.get(&format!("fairshare/live{query}")).await
}

async fn explain(room: &Room, id: &str) -> Value {
    room.get(&format!("fairshare/explain/{id}")).await
}

/// Two slots; tenant `big` has both and three waiting, `small` one.
async fn scene() -> (Room, Caller, Caller) {
    let room = Room::new(2).await;
    room.app.model_with(json!({"model_name": "m", "admission_weight": "2.25"})).await;
    room.app.admin().post("/api/v1/groups", &json!({"name": "prod", "weight": 300})).await.expect(201);
    let big = room.app.tenant(json!({"name": "big", "weight": 40, "group": "prod"})).await;
    let big = room.app.client(&room.app.key(&big, json!({"name": "k"})).await);
    let small = room.app.caller("small").await;
    for number in 0..5 {
        room.ask(&big, &format!("big{number}")).await;
    }
    room.ask(&small, "small0").await;
    (room, big, small)
}

#[test]
fn the_live_view_shows_who_runs_waits_and_is_entitled_to_what() {
    run(async {
        let (room, ..) = scene().await;
        let view = live(&room, "").await;
        assert_eq!(
            (&view["capacity"], &view["in_flight"], &view["queued"], &view["tenants_total"]),
            (&json!(2), &json!(2), &json!(4), &json!(2))
        );
        assert_eq!((&view["jain_index"], &view["groups_total"]), (&json!(1), &json!(2)));
        let [big, small] = view["tenants"].as_array().unwrap().as_slice() else { panic!("{view}") };
        for (tenant, name, group, weight, running, waiting) in
            [(big, "big", "prod", 40, 2, 3), (small, "small", "default", 100, 0, 1)]
        {
            assert_eq!((&tenant["name"], &tenant["group"]), (&json!(name), &json!(group)));
            assert_eq!(tenant["weight"], weight);
            assert_eq!((&tenant["in_flight"], &tenant["queued"]), (&json!(running), &json!(waiting)));
            assert_eq!(tenant["blocked"], false);
            assert!(tenant["oldest_wait_seconds"].as_f64().unwrap() >= 0.0);
            assert!(tenant["lag_tokens"].is_i64());
        }
        assert_eq!((&big["entitled_share"], &small["entitled_share"]), (&json!(0.75), &json!(0.25)));
        assert_eq!((&big["actual_share"], &small["actual_share"]), (&json!(1), &json!(0)));
        assert_eq!(big["effective_weight"], json!({"m": 90}));
        assert_eq!(small["effective_weight"], json!({"m": 225}));
        // Two forecasts of a prompt and 50 tokens, times 2.25.
        let served = big["served_tokens"].as_i64().unwrap();
        assert!(served > 225 && served < 400, "{served}");
        let score: f64 = big["share_score"].as_str().unwrap().parse().unwrap();
        assert!((score - served as f64 / 40.0).abs() < 0.1, "{score}");
        let time: f64 = big["virtual_time"].as_str().unwrap().parse().unwrap();
        assert!((time - score).abs() < 0.1, "{time}");
        assert_eq!((&small["served_tokens"], &small["virtual_time"]), (&json!(0), &json!("0")));
        let model = &view["models"][0];
        assert_eq!((&model["model"], &model["admission_weight"]), (&json!("m"), &json!(2.25)));
        assert_eq!(
            (&model["in_flight"], &model["queued"], &model["cap"]),
            (&json!(2), &json!(4), &json!(null))
        );
        let group = &view["groups"][0];
        assert_eq!((&group["group"], &group["weight"]), (&json!("prod"), &json!(300)));
        assert_eq!((&group["in_flight"], &group["queued"]), (&json!(2), &json!(3)));
        assert_eq!((&group["entitled_share"], &group["actual_share"]), (&json!(0.75), &json!(1)));
        room.finish().await;
        let after = live(&room, "").await;
        assert_eq!((&after["in_flight"], &after["queued"]), (&json!(0), &json!(0)));
        let small = after["tenants"].as_array().unwrap().iter().find(|row| row["name"] == "small").unwrap();
        assert_eq!((&small["entitled_share"], &small["oldest_wait_seconds"]), (&json!(0), &json!(null)));
        room.app.stop().await;
    });
}

#[test]
fn the_live_view_is_bounded_and_refuses_what_it_does_not_know() {
    run(async {
        let (room, ..) = scene().await;
        let view = live(&room, "?limit=1").await;
        assert_eq!((view["tenants"].as_array().unwrap().len(), &view["tenants_total"]), (1, &json!(2)));
        assert_eq!((view["groups"].as_array().unwrap().len(), &view["groups_total"]), (1, &json!(2)));
        assert_eq!(view["tenants"][0]["name"], "big", "the busiest first");
        let all = live(&room, "").await;
        let small = all["tenants"][1]["tenant_id"].as_str().unwrap();
        let one = live(&room, &format!("?limit=1&tenant_id={small}")).await;
        assert_eq!(one["tenants"][0]["name"], "small");
        assert_eq!(one["tenants"][0]["entitled_share"], 0.25);
        let admin = room.app.admin();
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("tenant_id=x", "tenant_id"),
            ("colour=red", "colour"),
            ("limit=1&limit=2", "limit"),
        ] {
            let refused = admin.get(&format!("/api/v1/fairshare/live?{query}")).await.expect(400);
            assert_eq!(refused.error_code(), "invalid_request");
            assert_eq!(refused.json()["error"]["param"], field, "{query}");
        }
        for path in ["fairshare/live", "fairshare/explain/big0", "capacity"] {
            let path = format!("/api/v1/{path}");
            for stranger in [None, Some("wrong")] {
                let stranger = Caller::new(room.app.running.admin, stranger);
                assert_eq!(stranger.get(&path).await.expect(401).error_code(), "unauthorized");
            }
            assert_eq!(admin.post(&path, &json!({})).await.expect(405).error_code(), "method_not_allowed");
            assert_eq!(admin.get(&format!("{path}?x=1")).await.expect(400).error_code(), "invalid_request");
        }
        let outside = Caller::new(room.app.running.proxy, Some(ADMIN_TOKEN));
        outside.get("/api/v1/fairshare/live").await.expect(404);
        room.finish().await;
        room.app.stop().await;
    });
}

#[test]
fn a_request_is_explained_while_it_waits_runs_and_after_its_end() {
    run(async {
        let (room, ..) = scene().await;
        let running = explain(&room, "big0").await;
        assert_eq!((&running["state"], &running["tenant"]), (&json!("running"), &json!("big")));
        assert_eq!((&running["group"], &running["model"]), (&json!("prod"), &json!("m")));
        assert_eq!((&running["at_arrival"], &running["waited_ms"]), (&json!(null), &json!(0)), "at once");
        assert_eq!(running["forecast"]["output_tokens"], 50);
        assert_eq!((&running["actual"], &running["end"]), (&json!(null), &json!(null)));
        let waiting = explain(&room, "big4").await;
        assert_eq!((&waiting["state"], &waiting["forecast"]), (&json!("waiting"), &json!(null)));
        let at = &waiting["at_arrival"];
        assert_eq!((&at["ahead_of_tenant"], &at["others_waiting"]), (&json!(2), &json!(2)));
        assert_eq!((&at["bound_by"], &at["entitled_share"]), (&json!("slots"), &json!(1)));
        assert_eq!(at["actual_share"], 1);
        let now = &waiting["now"];
        assert_eq!((&now["ahead_of_tenant"], &now["others_waiting"]), (&json!(2), &json!(3)));
        assert_eq!((&now["entitled_share"], &now["bound_by"]), (&json!(0.75), &json!("slots")));
        let small = explain(&room, "small0").await;
        assert_eq!(small["at_arrival"]["entitled_share"], 0.25);
        assert_eq!(
            (&small["at_arrival"]["actual_share"], &small["at_arrival"]["ahead_of_tenant"]),
            (&json!(0), &json!(0))
        );
        room.finish().await;
        let ended = explain(&room, "big4").await;
        assert_eq!((&ended["state"], &ended["now"]), (&json!("finished"), &json!(null)));
        assert_eq!(ended["at_arrival"], *at);
        assert_eq!(ended["actual"], json!({"input_tokens": 1, "output_tokens": 1}));
        assert!(ended["forecast"]["output_tokens"].as_u64().unwrap() <= 50);
        assert_eq!(ended["end"], json!({"status": 200, "error_code": null}));
        let row = room.app.row("big4").await;
        let waited = ended["waited_ms"].as_u64().unwrap();
        assert_eq!((Some(waited), &row["admission"]), (row["queue_ms"].as_u64(), &json!("queued")));
        room.app.stop().await;
    });
}

#[test]
fn the_limit_that_holds_a_request_back_is_named() {
    run(async {
        let room = Room::new(8).await;
        room.app.model_with(json!({"model_name": "m", "max_in_flight": 3})).await;
        let capped = room.app.tenant(json!({"name": "capped", "max_in_flight": 2})).await;
        let wide = room.app.client(&room.app.key(&capped, json!({"name": "a"})).await);
        let narrow = room.app.client(&room.app.key(&capped, json!({"name": "b", "max_in_flight": 1})).await);
        let other = room.app.caller("other").await;
        for (caller, id, bound) in [
            (&narrow, "a", None),
            (&narrow, "b", Some("key_cap")),
            (&wide, "c", None),
            (&wide, "d", Some("tenant_cap")),
            (&other, "e", None),
            (&other, "f", Some("model_cap")),
        ] {
            room.ask(caller, id).await;
            let told = explain(&room, id).await;
            assert_eq!(told["at_arrival"]["bound_by"].as_str(), bound, "{id}: {told}");
            assert_eq!(told["now"]["bound_by"].as_str(), bound, "{id}: {told}");
        }
        let view = live(&room, "").await;
        let capped = view["tenants"].as_array().unwrap().iter().find(|row| row["name"] == "capped").unwrap();
        assert_eq!(capped["blocked"], true);
        assert_eq!(view["models"][0]["cap"], 3);
        room.finish().await;
        room.app.stop().await;
    });
}

#[test]
fn a_refused_request_and_one_that_left_are_explained() {
    run(async {
        let limits = [("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1"), ("OBLETH_TENANT_MAX_QUEUED", "1")];
        let room = Room::with(&limits).await;
        room.app.model("m").await;
        let caller = room.app.caller("acme").await;
        room.ask(&caller, "runs").await;
        let body = json!({"model": "m", "messages": []}).to_string();
        let post = |id: &str| {
            let request = caller.request(actix_web::http::Method::POST, "/v1/chat/completions");
            request.insert_header(("content-type", "application/json")).insert_header(("x-request-id", id))
        };
        let (own, text) = (post("leaves"), body.clone());
        let leaving = actix_rt::spawn(async move { Caller::send(own, text).await });
        until("it waits", async || (room.app.queued() == 1).then_some(())).await;
        Caller::send(post("refused"), body.clone()).await.expect(429);
        let refused = explain(&room, "refused").await;
        assert_eq!(refused["state"], "refused");
        assert_eq!(refused["end"], json!({"status": 429, "error_code": "tenant_queue_full"}));
        assert_eq!(refused["at_arrival"]["ahead_of_tenant"], 1);
        assert_eq!(refused["actual"], json!(null));
        leaving.abort();
        let left = until("it has left", async || {
            let told = explain(&room, "leaves").await;
            (told["state"] != "waiting").then_some(told)
        })
        .await;
        assert_eq!((&left["state"], &left["end"]["status"]), (&json!("left"), &json!(499)));
        // The same id again: the latest is told of.
        room.ask(&caller, "leaves").await;
        assert_eq!(explain(&room, "leaves").await["state"], "waiting");
        room.finish().await;
        assert_eq!(explain(&room, "leaves").await["state"], "finished");
        // Refused before it came to the scheduler.
        let unknown = json!({"model": "none", "messages": []}).to_string();
        Caller::send(post("nowhere"), unknown).await.expect(404);
        for id in ["nowhere", "never", "a%2Fb", "leaves/x"] {
            let untold = room.app.admin().get(&format!("/api/v1/fairshare/explain/{id}")).await.expect(404);
            assert_eq!(untold.error_code(), "not_found");
            let text = untold.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(text.contains("/usage/logs/") && text.contains("since the start"), "{text}");
        }
        room.app.stop().await;
    });
}
