//! The capacity through the management API, and the gauges of fairness.

use crate::support::{Room, run, until};
use serde_json::json;

#[test]
fn the_capacity_is_shown_checked_and_kept() {
    run(async {
        let room = Room::new(3).await;
        let admin = room.app.admin();
        let first = room.get("capacity").await;
        assert_eq!(
            first,
            json!({"version": 1, "max_in_flight": 3, "configured_max_in_flight": 3, "source": "configuration",
                   "in_flight": 0, "queued": 0, "updated_at": null})
        );
        for (body, field) in [
            (json!({}), "max_in_flight"),
            (json!({"max_in_flight": 0}), "max_in_flight"),
            (json!({"max_in_flight": -1}), "max_in_flight"),
            (json!({"max_in_flight": 1_000_001}), "max_in_flight"),
            (json!({"max_in_flight": 1.5}), "max_in_flight"),
            (json!({"max_in_flight": "5"}), "max_in_flight"),
            (json!({"max_in_flight": 5, "version": "x"}), "version"),
            (json!({"max_in_flight": 5, "slots": 5}), "slots"),
        ] {
            let refused = admin.put("/api/v1/capacity", &body).await.expect(400);
            assert_eq!(refused.json()["error"]["param"], field, "{body}");
        }
        assert_eq!(room.get("capacity").await, first, "nothing of that did anything");
        let set = admin.put("/api/v1/capacity", &json!({"max_in_flight": 5, "version": 1})).await.expect(200);
        let set = set.json();
        assert_eq!(
            (&set["version"], &set["max_in_flight"], &set["source"]),
            (&json!(2), &json!(5), &json!("api"))
        );
        let stale =
            admin.put("/api/v1/capacity", &json!({"max_in_flight": 6, "version": 1})).await.expect(409);
        assert_eq!(stale.error_code(), "stale_version");
        let most = admin.put("/api/v1/capacity", &json!({"max_in_flight": 1_000_000})).await.expect(200);
        assert_eq!(most.json()["max_in_flight"], 1_000_000);
        admin.put("/api/v1/capacity", &json!({"max_in_flight": 1})).await.expect(200);
        let room = restarted(room).await;
        let kept = room.get("capacity").await;
        assert_eq!((&kept["max_in_flight"], &kept["configured_max_in_flight"]), (&json!(1), &json!(3)));
        assert_eq!(kept["version"], 4);
        room.app.model("m").await;
        let caller = room.app.caller("acme").await;
        room.ask(&caller, "a").await;
        room.ask(&caller, "b").await;
        assert_eq!((room.app.in_flight(), room.app.queued()), (1, 1), "it is in force");
        let back =
            room.app.admin().put("/api/v1/capacity", &json!({"max_in_flight": null})).await.expect(200);
        assert_eq!(
            (&back.json()["max_in_flight"], &back.json()["source"]),
            (&json!(3), &json!("configuration"))
        );
        assert_eq!((room.app.in_flight(), room.app.queued()), (2, 0));
        room.finish().await;
        let room = restarted(room).await;
        assert_eq!(room.get("capacity").await["max_in_flight"], 3);
        room.app.stop().await;
    });
}

async fn restarted(room: Room) -> Room {
    let directory = room.app.stop().await;
    Room::start_in(directory, &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "3")]).await
}

#[test]
fn the_gauges_are_there_from_the_start_and_follow_the_queue() {
    run(async {
        let room = Room::new(1).await;
        let gauge = async |name: &str| -> f64 {
            let text = room.app.metrics().await;
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
        };
        for (name, value) in [
            ("obleth_fairshare_jain_index", 1.0),
            ("obleth_fairshare_max_lag_tokens", 0.0),
            ("obleth_fairshare_oldest_wait_seconds", 0.0),
            ("obleth_fairshare_backlogged_tenants", 0.0),
            ("obleth_fairshare_blocked_tenants", 0.0),
            ("obleth_fairshare_forecast_error_ratio", 0.0),
        ] {
            assert_eq!(gauge(name).await, value, "{name}");
        }
        room.app.model("m").await;
        let capped = room.app.tenant(json!({"name": "capped", "max_in_flight": 1})).await;
        let capped = room.app.client(&room.app.key(&capped, json!({"name": "k"})).await);
        room.ask(&capped, "a").await;
        room.ask(&capped, "b").await;
        until("the gauges are computed anew", async || {
            (gauge("obleth_fairshare_blocked_tenants").await == 1.0).then_some(())
        })
        .await;
        assert_eq!(gauge("obleth_fairshare_backlogged_tenants").await, 1.0);
        assert!(gauge("obleth_fairshare_oldest_wait_seconds").await > 0.0);
        room.finish().await;
        until("the forecast's error is seen", async || {
            (gauge("obleth_fairshare_forecast_error_ratio").await > 1.0).then_some(())
        })
        .await;
        let text = room.app.metrics().await;
        assert!(
            text.lines().all(|line| !line.starts_with("obleth_fairshare_") || !line.contains('{')),
            "labels"
        );
        room.app.stop().await;
    });
}
