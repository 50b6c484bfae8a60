//! Panics of the cores and deaths of the actors under a running gateway.

use crate::support::{Caller, Mock, TestApp, Upstream, chat_answer, run, until};
use futures_util::future::join_all;
use obleth::mock::MockOptions;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

/// The value of `obleth_actor_restarts_total` for this actor.
async fn restarts(app: &TestApp, actor: &str) -> u64 {
    let series = format!("obleth_actor_restarts_total{{actor=\"{actor}\"}} ");
    let text = app.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

#[test]
fn a_panic_of_the_scheduler_refuses_one_request_and_the_next_one_passes() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        caller.chat("m").await.expect(200);
        assert_eq!(restarts(&app, "fairshare").await, 0);
        app.running.gateway.handles.fairshare.plant_fault();
        let refused = caller.chat("m").await.expect(503);
        assert_eq!(refused.error_code(), "restarting");
        assert_eq!(refused.header("retry-after"), Some("1"));
        caller.chat("m").await.expect(200);
        app.idle().await;
        assert_eq!(app.in_flight(), 0);
        assert_eq!(restarts(&app, "fairshare").await, 1);
        let statuses: Vec<_> = app.rows().await.iter().map(|row| row["status"].as_u64().unwrap()).collect();
        assert_eq!(statuses, [200, 503, 200]);
        app.stop().await;
    });
}

#[test]
fn a_panic_of_the_ledger_loses_no_row() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let mut refused = 0;
        for _ in 0..50 {
            app.running.gateway.handles.accounting.plant_fault();
            // The actor's own tick may meet the fault first; then the request does not notice.
            let answer = caller.chat("m").await;
            match answer.status {
                200 => {}
                _ => {
                    assert_eq!(answer.expect(503).error_code(), "restarting");
                    refused += 1;
                }
            }
            caller.chat("m").await.expect(200);
        }
        assert!(refused > 0, "no request met the fault");
        assert_eq!(upstream.seen().len(), 100 - refused, "a refused request costs nothing");
        assert_eq!(app.rows().await.len(), 100);
        assert!(restarts(&app, "accounting").await >= 50);
        app.stop().await;
    });
}

/// Sends `count` requests on one connection, streams and others in turn; how many were refused.
async fn requests(caller: Caller, count: u32, done: &Cell<u32>) -> u32 {
    let mut refused = 0;
    for number in 0..count {
        let stream = number % 2 == 0;
        let body = json!({"model": "m", "stream": stream, "max_tokens": 5,
                          "messages": [{"role": "user", "content": "Hello"}]});
        let answer = caller.post("/v1/chat/completions", &body).await;
        match answer.status {
            200 => assert!(!stream || answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text()),
            503 => {
                assert_eq!(answer.error_code(), "restarting");
                refused += 1;
            }
            _ => panic!("{}", answer.text()),
        }
        done.set(done.get() + 1);
    }
    refused
}

#[test]
fn crashes_and_panics_under_load_hang_no_request_and_lose_no_row() {
    run(async {
        let token = Duration::from_millis(1);
        let mock = Mock::start(MockOptions { token, tokens: 5, ..MockOptions::default() });
        let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "8")]).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        let handles = &app.running.gateway.handles;
        let done = Cell::new(0);
        let chaos = async {
            for fault in 1..=20 {
                until("some requests pass", async || (done.get() >= fault * 40).then_some(())).await;
                // Refused while the actor is still being restarted after the last time.
                let _ = handles.fairshare.crash();
                let _ = handles.accounting.crash();
                let _ = handles.admin.crash();
                handles.accounting.plant_fault();
                if fault % 4 == 0 {
                    handles.fairshare.plant_fault();
                }
            }
        };
        let load = join_all((0..32).map(|_| requests(caller.clone(), 30, &done)));
        let (refused, ()) = futures_util::future::join(load, chaos).await;
        let refused: u32 = refused.iter().sum();
        app.idle().await;
        assert_eq!((app.in_flight(), app.queued()), (0, 0));
        println!("{refused} of 960 requests were refused");
        assert!(refused <= 20, "{refused} refused: a crash refuses nobody, a panic its own caller");
        let rows = app.all_rows().await;
        let ids: BTreeSet<_> = rows.iter().map(|row| row["request_id"].as_str().unwrap()).collect();
        assert_eq!((rows.len(), ids.len()), (960, 960));
        let failed = rows.iter().filter(|row| row["status"] != 200).count();
        assert_eq!(failed as u32, refused);
        for actor in ["fairshare", "accounting", "admin"] {
            assert!(restarts(&app, actor).await >= 1, "{actor}");
        }
        app.stop().await;
        mock.stop().await;
    });
}

#[test]
fn the_registry_is_written_again_after_its_actor_died() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        app.running.gateway.handles.admin.crash().unwrap();
        caller.chat("m").await.expect(200);
        let created = until("a write is taken", async || {
            let answer = app.admin().post("/api/v1/models", &json!({"model_name": "n"})).await;
            if answer.status == 503 {
                assert_eq!(answer.error_code(), "restarting");
                assert!(answer.header("retry-after").is_some());
                return None;
            }
            Some(answer.expect(201))
        })
        .await;
        assert_eq!(created.json()["model_name"], "n");
        caller.chat("n").await.expect(200);
        assert_eq!(restarts(&app, "admin").await, 1);
        app.stop().await;
    });
}
