//! Known times of small traces.

use super::*;

const BOTH: [Algorithm; 2] = [Algorithm::HrSfq, Algorithm::Fifo];

#[test]
fn a_request_holds_its_slot_for_its_prompt_and_its_output() {
    let trace = line("0.5", "A", 20, "") + &line("1", "A", 5, "");
    for algorithm in BOTH {
        let (report, events) = simulate(algorithm, &pool(1, ""), &trace);
        let wanted =
            ["0.5 enqueue 0", "0.5 grant 0", "1 enqueue 1", "2.6 finish 0", "2.6 grant 1", "3.2 finish 1"];
        assert_eq!(told(&events), wanted, "{algorithm:?}");
        assert_eq!((report.requests, report.finished, report.served_tokens), (2, 2, 225));
        let tenant = named(&report, "A");
        assert!((tenant.wait_p99_s - 1.6).abs() < 1e-9, "{tenant:?}");
        assert!((tenant.longest_without_grant_s - 1.6).abs() < 1e-9, "{tenant:?}");
        assert!((report.slot_use - 2.7 / 3.2).abs() < 1e-6, "{report:?}");
    }
}

#[test]
fn max_tokens_cuts_the_output() {
    let (_, events) = simulate(Algorithm::HrSfq, &pool(1, ""), &line("0", "A", 20, r#","max_tokens":5"#));
    assert_eq!(told(&events), ["0 enqueue 0", "0 grant 0", "0.6 finish 0"]);
}

#[test]
fn a_light_tenant_overtakes_the_queue_of_a_heavy_one_but_not_first_in_first_out() {
    let trace: String = (0..4).map(|_| line("0", "A", 9, "")).collect();
    let trace = trace + &line("0.5", "B", 9, "");
    let order = |algorithm| -> Vec<String> {
        let (_, events) = simulate(algorithm, &pool(1, ""), &trace);
        told(&events).into_iter().filter(|event| event.contains("grant")).collect()
    };
    assert_eq!(order(Algorithm::HrSfq), ["0 grant 0", "1 grant 4", "2 grant 1", "3 grant 2", "4 grant 3"]);
    assert_eq!(order(Algorithm::Fifo), ["0 grant 0", "1 grant 1", "2 grant 2", "3 grant 3", "4 grant 4"]);
}

#[test]
fn a_sender_that_leaves_gives_back_its_place_or_its_slot() {
    let leaves = |after: &str| format!(r#","cancel_after_s":{after}"#);
    let trace = line("0", "A", 20, &leaves("0.6"))
        + &line("0", "A", 20, &leaves("0.25"))
        + &line("0", "A", 4, &leaves("9"))
        + &line("0", "A", 4, &leaves("0"));
    for algorithm in BOTH {
        let (report, events) = simulate(algorithm, &pool(1, ""), &trace);
        let after: Vec<String> = told(&events).split_off(5);
        let wanted = ["0 cancel 3", "0.25 cancel 1", "0.6 cancel 0", "0.6 grant 2", "1.1 finish 2"];
        assert_eq!(after, wanted, "{algorithm:?}");
        assert_eq!((report.cancelled, report.finished, report.served_tokens), (3, 1, 209));
    }
}

#[test]
fn a_request_that_waits_too_long_times_out() {
    let scenario = pool(1, r#""admission_timeout_s":1"#);
    let trace = line("0", "A", 20, "") + &line("0.2", "B", 1, "") + &line("1.3", "B", 1, "");
    for algorithm in BOTH {
        let (report, events) = simulate(algorithm, &scenario, &trace);
        let after: Vec<String> = told(&events).split_off(3);
        let wanted = ["1.2 timeout 1", "1.3 enqueue 2", "2.1 finish 0", "2.1 grant 2", "2.3 finish 2"];
        assert_eq!(after, wanted, "{algorithm:?}");
        assert_eq!(report.timed_out, 1);
    }
}

#[test]
fn a_full_queue_of_a_tenant_rejects() {
    let scenario = pool(1, r#""tenants":[{"name":"A","max_queued":1}]"#);
    let trace = line("0", "A", 9, "") + &line("0", "A", 9, "") + &line("0", "A", 9, "");
    for algorithm in BOTH {
        let (report, events) = simulate(algorithm, &scenario, &trace);
        assert_eq!(told(&events)[3], "0 reject 2", "{algorithm:?}");
        assert_eq!((report.rejected, report.finished), (1, 2));
    }
}

#[test]
fn a_full_model_holds_up_its_own_requests_only_except_first_in_first_out() {
    let scenario = pool(2, r#""models":[{"name":"m","max_in_flight":1}]"#);
    let other = line("0", "B", 9, "").replace("\"m\"", "\"other\"");
    let trace = line("0", "A", 9, "") + &line("0", "A", 9, "") + &other;
    let (report, events) = simulate(Algorithm::HrSfq, &scenario, &trace);
    assert!(told(&events).contains(&"0 grant 2".to_owned()), "{events}");
    assert!((report.work_conservation - 1.0).abs() < 1e-9);
    let (report, events) = simulate(Algorithm::Fifo, &scenario, &trace);
    assert!(told(&events).contains(&"1 grant 2".to_owned()), "{events}");
    assert!((report.work_conservation - 0.75).abs() < 1e-9, "{report:?}");
}

#[test]
fn a_tenant_at_its_cap_waits_while_others_go() {
    let scenario = pool(2, r#""tenants":[{"name":"A","max_in_flight":1}]"#);
    let trace = line("0", "A", 9, "") + &line("0", "A", 9, "") + &line("0", "B", 9, "");
    let (_, events) = simulate(Algorithm::HrSfq, &scenario, &trace);
    let grants: Vec<String> = told(&events).into_iter().filter(|event| event.contains("grant")).collect();
    assert_eq!(grants, ["0 grant 0", "0 grant 2", "1 grant 1"]);
}

#[test]
fn nothing_happens_after_the_duration() {
    let trace = line("0", "A", 20, "") + &line("0", "A", 20, "") + &line("5", "A", 20, "");
    let (report, events) = simulate(Algorithm::HrSfq, &pool(1, r#""duration_s":1.1"#), &trace);
    assert_eq!(told(&events), ["0 enqueue 0", "0 grant 0", "0 enqueue 1"]);
    assert_eq!((report.waiting, report.running, report.served_tokens), (1, 1, 110));
    assert!((report.slot_use - 1.0).abs() < 1e-9);
}

#[test]
fn what_runs_beyond_its_forecast_is_charged_while_it_runs() {
    // A's second request is forecast to be like its first and runs on and on. When B's ends, A has waited
    // longer and would still be in front of B if it were charged at the end only.
    let trace = line("0", "A", 10, "")
        + &line("2", "A", 10_000, "")
        + &line("5", "B", 50, "")
        + &line("6", "A", 10, "")
        + &line("7", "B", 10, "");
    let (_, events) = simulate(Algorithm::HrSfq, &pool(2, ""), &trace);
    let grants: Vec<String> = told(&events).into_iter().filter(|event| event.contains("grant")).collect();
    assert_eq!(grants, ["0 grant 0", "2 grant 1", "5 grant 2", "10.1 grant 4", "11.2 grant 3"]);
}

#[test]
fn the_same_trace_gives_the_same_bytes() {
    let trace: String = (0..400)
        .map(|n| {
            let leaves = if n % 7 == 0 { r#","cancel_after_s":1.5"# } else { "" };
            line(
                &format!("{}.{:02}", n / 20, n % 20),
                ["A", "B", "C"][n % 3],
                1 + u64::try_from(n).unwrap() * 13 % 40,
                leaves,
            )
        })
        .collect();
    for algorithm in BOTH {
        let runs = [(); 2].map(|()| simulate(algorithm, &pool(4, r#""admission_timeout_s":9"#), &trace));
        let [(first, events), (second, again)] = runs;
        assert_eq!(events, again);
        assert_eq!(first.to_string(), second.to_string());
        assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&second).unwrap());
        assert!(events.lines().count() > 500, "{}", events.lines().count());
    }
}
