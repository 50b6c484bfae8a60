//! `/metrics` and `/api/v1/stats`.

use crate::support::{Caller, Room, TestApp, Upstream, chat_answer, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Contract §5.
const NAMES: [&str; 21] = [
    "obleth_requests_total",
    "obleth_tokens_total",
    "obleth_in_flight",
    "obleth_queue_depth",
    "obleth_queue_wait_seconds",
    "obleth_ttft_seconds",
    "obleth_request_seconds",
    "obleth_upstream_seconds",
    "obleth_gateway_overhead_seconds",
    "obleth_cache_lookups_total",
    "obleth_cache_tokens_saved_total",
    "obleth_budget_rejections_total",
    "obleth_brownout_total",
    "obleth_mcp_requests_total",
    "obleth_fairshare_jain_index",
    "obleth_fairshare_max_lag_tokens",
    "obleth_ledger_rows_total",
    "obleth_ledger_backlog",
    "obleth_actor_restarts_total",
    "obleth_mailbox_depth",
    "obleth_build_info",
];

/// Names of families, each with a help text, a type and a series.
fn families(text: &str) -> BTreeSet<&str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    for name in &names {
        let help = format!("# HELP {name} ");
        assert_eq!(text.matches(&*help).count(), 1, "{help}");
        let suffixes = ["{", " ", "_bucket{"];
        let series = |line: &str| suffixes.iter().any(|suffix| line.starts_with(&format!("{name}{suffix}")));
        assert!(text.lines().any(series), "{name} has no series");
    }
    let set: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(set.len(), names.len(), "a family twice");
    set
}

#[test]
fn every_series_is_there_from_the_start_and_in_the_manual() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::with(&upstream, &[("OBLETH_METRICS_TENANT_LABELS", "true")]).await;
        let text = app.metrics().await;
        let found = families(&text);
        for name in NAMES {
            assert!(found.contains(name), "{name}");
        }
        let manual = include_str!("../../docs/OPERATIONS.md");
        for name in found {
            assert!(
                manual.contains(&format!("| `{name}")) || manual.contains(&format!(", `{name}`")),
                "{name}"
            );
        }
        for series in [
            "obleth_cache_lookups_total{result=\"hit\"} 0",
            "obleth_budget_rejections_total{reason=\"budget_exhausted\"} 0",
            "obleth_brownout_total{step=\"shed\"} 0",
            "obleth_tokens_total{direction=\"input\",model=\"\"} 0",
            "obleth_requests_total{route=\"/v1/chat/completions\",status=\"200\",admission=\"fast\"} 0",
            "obleth_store_up 1",
            "obleth_ready 1",
            "obleth_slots 256",
            "obleth_queue_max 16384",
            "obleth_ledger_journal_max_bytes 1073741824",
        ] {
            assert!(text.lines().any(|line| line == series), "{series} in {text}");
        }
        app.stop().await;
    });
}

/// Values of a label in the lines of a family.
fn labels(text: &str, family: &str, label: &str) -> BTreeSet<String> {
    let start = format!("{label}=\"");
    let lines = text.lines().filter(|line| line.starts_with(family));
    let value = |line: &str| Some(line.split_once(&*start)?.1.split_once('"')?.0.to_owned());
    lines.filter_map(value).collect()
}

#[test]
fn tenants_and_models_are_labels_only_as_far_as_they_may() {
    run(async {
        let upstream = Upstream::always(chat_answer(3, 2)).await;
        for (wanted, series) in [("true", 1), ("false", 0)] {
            let app = TestApp::with(&upstream, &[("OBLETH_METRICS_TENANT_LABELS", wanted)]).await;
            app.model("m").await;
            let caller = app.caller("acme \"&\" co").await;
            caller.chat("m").await.expect(200);
            caller.chat("no-such-model").await.expect(404);
            app.idle().await;
            let text = app.metrics().await;
            assert_eq!(labels(&text, "obleth_", "model"), BTreeSet::from(["m".to_owned()]));
            let cost = "obleth_tenant_cost_usd_total{tenant=\"acme \\\"&\\\" co\"} 0.0000045";
            assert_eq!(text.lines().filter(|line| *line == cost).count(), series, "{text}");
            assert_eq!(
                text.matches("obleth_tenant_requests_total{tenant=\"acme \\\"&\\\" co\"} 2").count(),
                series
            );
            families(&text);
            app.stop().await;
        }
    });
}

async fn stats(room: &Room) -> Value {
    room.get("stats").await
}

#[test]
fn a_request_is_in_the_percentiles_when_it_has_ended() {
    run(async {
        let room = Room::new(1).await;
        room.app.model("m").await;
        let caller = room.app.caller("acme").await;
        let empty = stats(&room).await;
        for (window, seconds) in [60, 300, 900].into_iter().enumerate() {
            let window = &empty["windows"][window];
            assert_eq!(window["seconds"], seconds);
            let none = json!({"count": 0, "p50_us": null, "p90_us": null, "p99_us": null, "p99_9_us": null,
                              "max_us": null});
            for kind in ["overhead", "queue_wait", "ttft", "total"] {
                assert_eq!(window[kind], none, "{kind}");
            }
            assert_eq!(window["models"], json!([]));
        }
        room.ask(&caller, "a").await;
        room.ask(&caller, "b").await;
        assert_eq!(stats(&room).await["windows"][0]["total"]["count"], 0, "both run or wait");
        room.finish().await;
        let view = stats(&room).await;
        for window in view["windows"].as_array().unwrap() {
            for kind in ["overhead", "queue_wait", "ttft", "total"] {
                assert_eq!(window[kind]["count"], 2, "{kind}");
                let of = |name: &str| window[kind][name].as_u64().unwrap();
                assert!(of("p50_us") <= of("p90_us") && of("p90_us") <= of("p99_us"), "{kind}");
                assert!(of("p99_us") <= of("p99_9_us") && of("p99_9_us") <= of("max_us"), "{kind}");
            }
            let waited = room.app.row("b").await["queue_ms"].as_u64().unwrap();
            let told = window["queue_wait"]["max_us"].as_u64().unwrap();
            assert_eq!(told / 1000, waited);
            let [model] = window["models"].as_array().unwrap().as_slice() else { panic!("{window}") };
            assert_eq!((&model["model"], &model["total"]), (&json!("m"), &window["total"]));
            assert_eq!(model["ttft"], window["ttft"]);
        }
        assert_eq!(view["missed"], 0);
        assert!(view["memory_bytes"].as_u64().unwrap() < 1 << 20);
        room.app.stop().await;
    });
}

#[test]
fn percentiles_are_for_who_may_and_take_no_parameters() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        let path = "/api/v1/stats";
        Caller::new(app.running.admin, None).get(path).await.expect(401);
        app.admin().get(&format!("{path}?window=1m")).await.expect(400);
        assert_eq!(app.admin().post(path, &json!({})).await.expect(405).error_code(), "method_not_allowed");
        app.stop().await;
    });
}

#[test]
fn more_requests_than_a_buffer_holds_are_all_counted() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        // Of two workers at least one hands its buffer of 256 over; what is left in them is counted too.
        for _ in 0..600 {
            caller.chat("m").await.expect(200);
        }
        app.idle().await;
        let view = app.admin().get("/api/v1/stats").await.expect(200).json();
        assert_eq!((&view["windows"][1]["total"]["count"], &view["missed"]), (&json!(600), &json!(0)));
        app.stop().await;
    });
}
