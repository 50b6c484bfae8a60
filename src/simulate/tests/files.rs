//! Faults of files are named with their line.

use super::*;

fn refused(trace: &str) -> String {
    let scenario = Scenario::parse(&pool(1, "")).unwrap();
    run(Algorithm::HrSfq, scenario, trace.as_bytes(), &mut Events::nowhere()).unwrap_err().to_string()
}

#[test]
fn a_fault_of_the_trace_is_told_with_its_line() {
    let good = line("1", "A", 1, "");
    for (bad, wanted) in [
        ("{\n", "trace: 2: column"),
        (&line("0.5", "A", 1, ""), "trace: 2: at_s lies before"),
        (&line("-1", "A", 1, ""), "trace: 2: at_s must be a time"),
        (&line("1", "A", 1, r#","cancel_after_s":-1"#), "trace: 2: cancel_after_s must be a time"),
        (&line("1", "A", 2_000_000_000, ""), "trace: 2: more than 1000000000 tokens"),
        (r#"{"at_s":1}"#, "trace: 2: column 10: missing field `tenant`"),
    ] {
        let told = refused(&format!("{good}{bad}"));
        assert!(told.starts_with(wanted), "{told}");
    }
    assert!(refused(&format!("{good}\n\n[]")).starts_with("trace: 4: "), "blank lines count");
}

#[test]
fn a_fault_of_the_scenario_is_told() {
    for (bad, wanted) in [
        ("{", "1: column 1: EOF"),
        ("{\n\"slots\":0}", "2: column"),
        (&pool(1, r#""duration_s":-1"#), "duration_s must be"),
        (&pool(1, r#""tenants":[{"name":"A","group":"g"}]"#), "group \"g\" of \"A\" is not listed"),
        (&pool(1, r#""tenants":[{"name":"A"},{"name":"A"}]"#), "tenant \"A\" is listed twice"),
        (&pool(1, r#""tenants":[{"name":"A","weight":0}]"#), "whole number from 1 to 1000000"),
        (&pool(1, r#""models":[{"name":"m","admission_weight":0}]"#), "admission_weight of model \"m\""),
        (&pool(1, "").replace(":10}", ":0}"), "must be above 0"),
    ] {
        let told = Scenario::parse(bad).unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn names_met_in_the_trace_only_take_the_defaults() {
    let scenario =
        pool(1, r#""groups":[{"name":"g","weight":7}],"default_tenant":{"weight":30,"group":"g"}"#);
    let (report, _) = simulate(Algorithm::HrSfq, &scenario, &line("0", "new", 1, ""));
    let tenant = named(&report, "new");
    assert_eq!((tenant.weight, tenant.group.as_str()), (30, "g"));
}
