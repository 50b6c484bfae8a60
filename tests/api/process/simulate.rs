//! `obleth simulate` from outside.

use super::Obleth;
use crate::support::run;
use std::path::Path;
use tempfile::TempDir;

const SCENARIO: &str = r#"{"slots":1,"prefill_tokens_per_s":1000,"decode_tokens_per_s":10,"duration_s":60}"#;
const TRACE: &str = concat!(
    r#"{"at_s":0,"tenant":"A","model":"m","prompt_tokens":100,"output_tokens":9,"max_tokens":64,"cancel_after_s":null}"#,
    "\n",
    r#"{"at_s":0.25,"tenant":"B","model":"m","prompt_tokens":100,"output_tokens":9,"max_tokens":64,"cancel_after_s":null}"#,
    "\n",
);

/// Simulates with these files; exit code, stdout, stderr.
async fn simulate(scenario: &str, trace: &str, rest: &[&str]) -> (Option<i32>, String, String) {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("scenario.json"), scenario).unwrap();
    std::fs::write(at("trace.jsonl"), trace).unwrap();
    let (scenario, trace) = (at("scenario.json"), at("trace.jsonl"));
    let mut arguments = vec!["simulate", "--scenario", &scenario, "--trace", &trace];
    arguments.extend(rest);
    let mut process = Obleth::spawn(directory.path(), &arguments, &[]);
    let code = process.exit().await;
    (code, process.stdout(), process.stderr())
}

#[test]
fn simulate_prints_a_report_and_writes_events() {
    run(async {
        let directory = TempDir::new().unwrap();
        let events = directory.path().join("events.jsonl").display().to_string();
        let (code, told, errors) = simulate(SCENARIO, TRACE, &["--events", &events, "--json"]).await;
        assert_eq!(code, Some(0), "{errors}");
        let report: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&report["algorithm"], &report["finished"]), (&"hr-sfq".into(), &2.into()), "{told}");
        assert_eq!(report["tenants"][1]["wait_p99_s"], 0.75, "{told}");
        let first = std::fs::read_to_string(Path::new(&events)).unwrap();
        assert_eq!(
            first.lines().collect::<Vec<_>>(),
            [
                r#"{"t":0,"event":"enqueue","id":0,"tenant":"A"}"#,
                r#"{"t":0,"event":"grant","id":0,"tenant":"A"}"#,
                r#"{"t":0.25,"event":"enqueue","id":1,"tenant":"B"}"#,
                r#"{"t":1,"event":"finish","id":0,"tenant":"A"}"#,
                r#"{"t":1,"event":"grant","id":1,"tenant":"B"}"#,
                r#"{"t":2,"event":"finish","id":1,"tenant":"B"}"#,
            ]
        );
        let (code, told, _) = simulate(SCENARIO, TRACE, &["--algorithm", "fifo"]).await;
        assert_eq!(code, Some(0));
        assert!(told.starts_with("fifo: 2 requests in 60 s") && told.contains("work conservation"), "{told}");
    });
}

#[test]
fn simulate_names_the_file_and_the_line_of_a_fault_and_ends_with_2() {
    run(async {
        let bad = format!("{TRACE}{{\"at_s\":0.1}}\n");
        for (scenario, trace, rest, wanted) in [
            (SCENARIO, bad.as_str(), &[][..], "trace.jsonl:3: "),
            ("{\n\"slots\":0}", TRACE, &[], "scenario.json:2: "),
            (SCENARIO, TRACE, &["--algorithm", "lifo"], "lifo"),
            (SCENARIO, TRACE, &["--trace", "/nonexistent"], "--trace"),
        ] {
            let (code, _, told) = simulate(scenario, trace, rest).await;
            assert_eq!(code, Some(2), "{told}");
            assert!(told.contains(wanted) && !told.contains("panicked"), "{told}");
        }
        let directory = TempDir::new().unwrap();
        let mut process = Obleth::spawn(
            directory.path(),
            &["simulate", "--scenario", "/nonexistent/s", "--trace", "t"],
            &[],
        );
        assert_eq!(process.exit().await, Some(2));
        assert!(process.stderr().contains("/nonexistent/s: "), "{}", process.stderr());
    });
}

#[test]
fn simulate_ends_with_1_when_events_cannot_be_written() {
    run(async {
        let (code, _, told) = simulate(SCENARIO, TRACE, &["--events", "/nonexistent/events"]).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("/nonexistent/events: "), "{told}");
    });
}
