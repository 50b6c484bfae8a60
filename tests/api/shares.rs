//! Who gets how much of eight slots that are never free, judged by the ledger.

use crate::support::{Caller, Dice, Flood, Load, Mock, Served, TestApp, jain, run, until};
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const SLOTS: u64 = 8;
/// Answers before the window opens.
const RAMP: usize = 100;

/// Eight slots in front of a mock that takes so long for a token.
async fn saturable(token_millis: u64) -> (Mock, TestApp) {
    let token = Duration::from_millis(token_millis);
    let mock = Mock::start(MockOptions { token, tokens: 1000, workers: 1, ..MockOptions::default() });
    let slots = SLOTS.to_string();
    let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", &slots)]).await;
    (mock, app)
}

async fn tenant(app: &TestApp, name: &str, weight: u32, group: &str) -> (String, Caller) {
    let id = app.tenant(json!({"name": name, "weight": weight, "group": group})).await;
    let key = app.key(&id, json!({"name": name})).await;
    (id, app.client(&key))
}

/// Lets the floods run until there are so many rows, and reads the ledger.
async fn served(app: &TestApp, floods: Vec<Flood>, rows: usize) -> Served {
    let accounting = &app.running.gateway.handles.accounting;
    for part in (0..rows).step_by(100) {
        let rows = u64::try_from(part + 100).unwrap();
        until("requests are served", async || (accounting.counts().received >= rows).then_some(())).await;
    }
    Served::after(app, floods, RAMP).await
}

async fn stop(app: TestApp, mock: Mock) {
    app.stop().await;
    mock.stop().await;
}

/// Prints a line of the table of `scripts/fairness.sh`.
fn report(what: &str, measured: &str, limit: &str) {
    println!("SHARE {what}|{measured}|{limit}");
}

/// `value` lies within `percent` of `goal`.
#[track_caller]
fn assert_near(what: &str, value: f64, goal: f64, percent: f64) {
    report(what, &format!("{value:.3}"), &format!("{goal} ± {percent} %"));
    assert!((value / goal - 1.0).abs() <= percent / 100.0, "{value:.3} is not within {percent} % of {goal}");
}

#[test]
fn equal_tenants_share_evenly_however_many_connections_and_a_light_one_hardly_waits() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model("m").await;
        let (modest, its) = tenant(&app, "modest", 100, "default").await;
        let (greedy, theirs) = tenant(&app, "greedy", 100, "default").await;
        // Answers of different length, too: shares are of tokens, not of requests.
        let mut floods = vec![Load::of(&its, 80).start(8), Load::of(&theirs, 60).start(64)];
        let mut lights = Vec::new();
        for number in 0..3 {
            let (light, its) = tenant(&app, &format!("light {number}"), 100, "default").await;
            floods.push(Load::of(&its, 8).every(Duration::from_millis(50)).start(1));
            lights.push(light);
        }
        let served = served(&app, floods, 1800).await;
        let tokens = served.by_tenant();
        let (modest, greedy) = (tokens[&modest], tokens[&greedy]);
        assert_near("equal weights, 8 and 64 connections: share", modest / (modest + greedy), 0.5, 1.0);
        assert!(jain(&[modest, greedy]) >= 0.998);
        let waits = served.waits(&lights);
        let (mean, p99) = (served.mean_service(), waits[waits.len() * 99 / 100]);
        let what = format!("p99 of {} waits of light tenants in mean service times", waits.len());
        report(&what, &format!("{:.2}", p99 / mean), "≤ 1.5");
        assert!(waits.len() >= 200 && p99 <= 1.5 * mean, "{p99} ms of {mean} ms");
        stop(app, mock).await;
    });
}

#[test]
fn weights_of_ten_to_one_share_tokens_ten_to_one() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model("m").await;
        let (heavy, its) = tenant(&app, "heavy", 1000, "default").await;
        let (light, theirs) = tenant(&app, "light", 100, "default").await;
        let floods = vec![Load::of(&its, 30).start(24), Load::of(&theirs, 30).start(24)];
        let tokens = served(&app, floods, 1500).await.by_tenant();
        assert_near("weights 10:1", tokens[&heavy] / tokens[&light], 10.0, 3.0);
        stop(app, mock).await;
    });
}

#[test]
fn service_per_weight_is_level_among_many_weights() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model("m").await;
        let (mut tenants, mut floods) = (Vec::new(), Vec::new());
        for (weight, connections, tokens) in [(100, 40, 20), (200, 8, 40), (300, 12, 30), (400, 16, 25)] {
            let (id, its) = tenant(&app, &weight.to_string(), weight, "default").await;
            floods.push(Load::of(&its, tokens).start(connections));
            tenants.push((id, f64::from(weight)));
        }
        let tokens = served(&app, floods, 1500).await.by_tenant();
        let levels: Vec<f64> = tenants.iter().map(|(id, weight)| tokens[id] / weight).collect();
        report("weights 1:2:3:4: weighted Jain", &format!("{:.5}", jain(&levels)), "≥ 0.998");
        assert!(jain(&levels) >= 0.998, "{levels:?}");
        stop(app, mock).await;
    });
}

#[test]
fn a_model_four_times_as_dear_yields_a_quarter_of_the_tokens() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model_with(json!({"model_name": "large", "admission_weight": 4})).await;
        app.model_with(json!({"model_name": "small", "admission_weight": 1})).await;
        let (_, its) = tenant(&app, "on large", 100, "default").await;
        let (_, theirs) = tenant(&app, "on small", 100, "default").await;
        let floods =
            vec![Load::of(&its, 30).on("large").start(24), Load::of(&theirs, 30).on("small").start(24)];
        let tokens = served(&app, floods, 1500).await.tokens(|service| &service.model);
        assert_near("admission_weight 1 and 4: raw tokens", tokens["small"] / tokens["large"], 4.0, 5.0);
        stop(app, mock).await;
    });
}

#[test]
fn groups_share_three_to_one_whatever_their_numbers_of_tenants() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model("m").await;
        for (name, weight) in [("prod", 300), ("lab", 100)] {
            app.admin().post("/api/v1/groups", &json!({"name": name, "weight": weight})).await.expect(201);
        }
        let (prod, its) = tenant(&app, "prod", 100, "prod").await;
        let mut floods = vec![Load::of(&its, 30).start(24)];
        for number in 0..20 {
            let (_, its) = tenant(&app, &format!("lab {number}"), 100, "lab").await;
            floods.push(Load::of(&its, 30).start(2));
        }
        let tokens = served(&app, floods, 1500).await.by_tenant();
        let lab: f64 = tokens.iter().filter(|(tenant, _)| **tenant != prod).map(|(_, tokens)| tokens).sum();
        assert_near("groups 3:1 of 1 and 20 tenants", tokens[&prod] / lab, 3.0, 5.0);
        stop(app, mock).await;
    });
}

#[test]
fn a_full_pool_holds_nobody_else_up_and_is_shared_by_weight() {
    run(async {
        let (mock, app) = saturable(1).await;
        app.model_with(json!({"model_name": "full", "max_in_flight": 3})).await;
        app.model("free").await;
        let (heavy, its) = tenant(&app, "heavy", 1000, "default").await;
        let (light, theirs) = tenant(&app, "light", 100, "default").await;
        let floods =
            vec![Load::of(&its, 16).on("full").start(12), Load::of(&theirs, 16).on("full").start(12)];
        let other = Load::of(&tenant(&app, "other", 100, "default").await.1, 20).on("free");
        let aside = actix_rt::spawn(async move {
            let mut dice = Dice::new(7);
            let mut answers = Vec::new();
            for _ in 0..150 {
                let answer = other.send(&mut dice).await;
                let header = |name: &str| answer.header(name).unwrap().to_owned();
                answers.push((header("x-obleth-admission"), header("x-obleth-queue-ms")));
            }
            answers
        });
        let served = served(&app, floods, 1300).await;
        let mut answers = aside.await.unwrap();
        answers.retain(|(admission, millis)| (admission.as_str(), millis.as_str()) != ("fast", "0"));
        report("beside a full pool: requests held up", &answers.len().to_string(), "0");
        assert!(answers.is_empty(), "held up: {answers:?}");
        let tokens = served.by_tenant();
        assert_near("in a full pool, weights 10:1", tokens[&heavy] / tokens[&light], 10.0, 10.0);
        assert!(served.waits(&[heavy, light]).iter().all(|wait| *wait > 0.0), "the pool was full all along");
        stop(app, mock).await;
    });
}

#[test]
fn a_returning_tenant_reaches_its_share_at_once_and_the_incumbent_is_never_starved() {
    run(async {
        let (mock, app) = saturable(5).await;
        app.model("m").await;
        let (incumbent, its) = tenant(&app, "incumbent", 100, "default").await;
        let (returning, theirs) = tenant(&app, "returning", 100, "default").await;
        let (all_along, now_and_then) = (Load::of(&its, 100), Load::of(&theirs, 100));
        let incumbents = all_along.start(16);
        let first = now_and_then.start(16);
        sleep(Duration::from_secs(2)).await;
        drop(first);
        sleep(Duration::from_secs(3)).await;
        let back = chrono::Utc::now().timestamp_micros() as f64 / 1000.0;
        let again = now_and_then.start(16);
        sleep(Duration::from_secs(11)).await;
        let mut served = Served::after(&app, vec![incumbents, again], 0).await;

        let mean = served.mean_service();
        let grants = served.services.iter().filter(|service| service.tenant == incumbent);
        let mut grants: Vec<f64> = grants.map(|service| service.granted).collect();
        grants.sort_by(f64::total_cmp);
        let gap = grants.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        let what = format!("incumbent's longest time without a grant, s (service {:.2} s)", mean / 1000.0);
        report(&what, &format!("{:.2}", gap / 1000.0), "≤ 2");
        assert!((400.0..=600.0).contains(&mean) && gap <= 2000.0, "{gap} ms, service {mean} ms");

        // Every four seconds from two seconds after the return on.
        let end = served.to;
        let passed = |at: f64| (at - back) / 1000.0;
        let mut from = back + 2000.0;
        while from + 4000.0 <= end {
            (served.from, served.to) = (from, from + 4000.0);
            let tokens = served.by_tenant();
            let share = tokens[&returning] / (tokens[&returning] + tokens[&incumbent]);
            let what = format!("share {:.1} s to {:.1} s after the return", passed(from), passed(served.to));
            assert_near(&what, share, 0.5, 15.0);
            from += 1000.0;
        }
        assert!(from >= back + 5000.0, "several windows were judged");
        stop(app, mock).await;
    });
}
