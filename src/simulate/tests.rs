//! Tests of the simulator: small traces with known times, faults of files, and workloads with goals.

mod engine;
mod files;
mod workloads;

use super::*;

/// A pool that reads 1000 prompt tokens and writes 10 output tokens a second.
fn pool(slots: u32, rest: &str) -> String {
    let comma = if rest.is_empty() { "" } else { "," };
    format!(r#"{{"slots":{slots},"prefill_tokens_per_s":1000,"decode_tokens_per_s":10{comma}{rest}}}"#)
}

/// A line of a trace: 100 prompt tokens (0.1 s), some output.
fn line(at: &str, tenant: &str, output: u64, rest: &str) -> String {
    format!(
        r#"{{"at_s":{at},"tenant":"{tenant}","model":"m","prompt_tokens":100,"output_tokens":{output}{rest}}}"#
    ) + "\n"
}

fn simulate(algorithm: Algorithm, scenario: &str, trace: &str) -> (Report, String) {
    let mut written = Vec::new();
    let scenario = Scenario::parse(scenario).unwrap();
    let report = run(algorithm, scenario, trace.as_bytes(), &mut Events::to(&mut written)).unwrap();
    (report, String::from_utf8(written).unwrap())
}

/// Events as `time event id`, one a line.
fn told(events: &str) -> Vec<String> {
    let short = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {} {}", event["t"], event["event"].as_str().unwrap(), event["id"])
    };
    events.lines().map(short).collect()
}

fn named<'a>(report: &'a Report, name: &str) -> &'a TenantReport {
    report.tenants.iter().find(|tenant| tenant.name == name).unwrap()
}
