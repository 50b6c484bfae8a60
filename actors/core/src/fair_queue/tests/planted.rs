//! Every fault of `planted` is noticed by some property, and without a fault none complains.
//!
//! Prints a table: the fault, and the properties that caught it.

use super::{discrepancy, oracle, random, relations, starvation};
use crate::fair_queue::planted::{Fault, plant};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

/// A property of a seed and a number of steps.
struct Property {
    name: &'static str,
    holds: fn(u64, u32),
}

const fn property(name: &'static str, holds: fn(u64, u32)) -> Property {
    Property { name, holds }
}

/// Each panics when it does not hold. The tests beside them run them at full length.
const ALL: &[Property] = &[
    property("oracle", oracle::grants_are_those_of_the_specification),
    property("1-6, 9, 11: invariants", random::invariants_hold),
    property("the same while forgetting", random::invariants_hold_while_forgetting),
    property("7: tenants' discrepancy", discrepancy::tenants_stay_within_the_bound),
    property("7: groups' discrepancy", discrepancy::groups_and_their_tenants_stay_within_the_bound),
    property("7: discrepancy under caps", discrepancy::whoever_competes_stays_within_the_bound),
    property("8: no tenant starves", starvation::no_tenant_starves),
    property("8: no group starves", starvation::no_group_starves),
    property("10: independence", relations::a_flooded_pool_changes_nothing_elsewhere),
    property("12: weight scale", relations::multiplying_all_weights_changes_nothing),
    property("12: factor scale", relations::a_common_factor_changes_nothing),
    property("14: forgetting", relations::forgetting_idle_tenants_changes_nothing),
    property("15: estimators", discrepancy::forecasts_do_not_change_shares),
];

/// Runs of each property with each fault.
const RUNS: u64 = 2;
/// Long enough for every fault to strike.
const STEPS: u32 = 800;

/// The properties that do not hold with this fault in the queue.
fn caught_by(fault: Option<Fault>) -> Vec<&'static str> {
    plant(fault);
    let fails = |property: &&Property| {
        (0..RUNS).any(|seed| catch_unwind(AssertUnwindSafe(|| (property.holds)(seed, STEPS))).is_err())
    };
    let caught = ALL.iter().filter(fails).map(|property| property.name).collect();
    plant(None);
    caught
}

/// The threads of this test expect panics and need no report of each.
fn keep_quiet() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some("planted") {
            report(info);
        }
    }));
}

#[test]
fn every_planted_fault_is_caught() {
    keep_quiet();
    let cases: Vec<Option<Fault>> =
        std::iter::once(None).chain(Fault::ALL.iter().copied().map(Some)).collect();
    let left = Mutex::new(cases.into_iter());
    let results: Mutex<Vec<(Option<Fault>, Vec<&str>)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let work = || {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(fault) = next else { return };
                    let caught = caught_by(fault);
                    results.lock().unwrap().push((fault, caught));
                }
            };
            thread::Builder::new().name("planted".into()).spawn_scoped(scope, work).unwrap();
        }
    });
    let results = results.into_inner().unwrap();
    for (fault, caught) in &results {
        let name = fault.map_or("no fault".into(), |fault| format!("{fault:?}"));
        println!("{name:22} {}", caught.join(" | "));
    }
    for (fault, caught) in results {
        assert_eq!(fault.is_none(), caught.is_empty(), "{fault:?} was caught by {caught:?}");
    }
}
