//! Two that compete get service in proportion to their weights, within the bound of §3.2; and that bound
//! holds whatever forecasts are worth, so that in the long run they do not matter.

use super::backlog::{Backlog, Guess};
use super::trace::Stretch;
use super::*;

/// So large that nobody without a cap is cut: the churn floor alone may push the clock some requests ahead.
const WIDE_LAG: u32 = 200_000;

/// Groups of one to four tenants with weights of their own, one or two models without caps.
fn shape(backlog: &mut Backlog, groups: u128) {
    let pools = if groups == 1 { 1 } else { 2 };
    backlog.models = (1..=pools).map(|n| model(n, None)).collect();
    backlog.models[0].cost_factor = CostFactor::from_hundredths(backlog.dice.small(20, 400)).unwrap();
    backlog.groups = (0..groups).map(|n| group(n, backlog.dice.small(10, 300))).collect();
    backlog.slots = backlog.dice.small(1, 8);
    for group in backlog.groups.clone() {
        let members = if groups == 1 { 5 } else { backlog.dice.within(1, 4) };
        for _ in 0..members {
            let n = u128::try_from(backlog.tenants.len()).unwrap();
            backlog.tenants.push(TenantPlan { group, ..tenant(n, backlog.dice.small(10, 300)) });
            let pool = backlog.dice.index(backlog.models.len());
            backlog.uses.push(if n % 3 == 0 { (0..backlog.models.len()).collect() } else { vec![pool] });
        }
    }
}

/// The stretches of every two tenants of a group, and of every two groups.
fn stretches(backlog: &Backlog) -> Vec<Stretch> {
    let mut all = Vec::new();
    for f in 0..backlog.tenants.len() {
        let same = |g: &usize| backlog.tenants[f].group.id == backlog.tenants[*g].group.id;
        for g in (f + 1..backlog.tenants.len()).filter(same) {
            all.extend(backlog.of_tenants.compare(f, g));
        }
    }
    for f in 0..backlog.groups.len() {
        for g in f + 1..backlog.groups.len() {
            all.extend(backlog.of_groups.compare(f, g));
        }
    }
    all
}

/// Without caps everybody competes from the beginning to the end: seen from outside alone.
fn uncapped(seed: u64, steps: u32, groups: u128) {
    for guess in Guess::ALL {
        let mut backlog = Backlog::new(seed, guess, WIDE_LAG, |backlog| shape(backlog, groups));
        for _ in 0..steps {
            backlog.step();
        }
        assert_eq!(backlog.moved, 0, "{guess:?}: no tag was lifted or cut");
        assert_eq!(backlog.of_tenants.beginnings(), backlog.tenants.len(), "{guess:?}");
        let stretches = stretches(&backlog);
        for stretch in &stretches {
            assert!(stretch.grants > 0 && stretch.gap <= stretch.bound, "{guess:?}: {stretch:?}");
        }
        let widest = stretches.iter().map(|stretch| stretch.gap * 100 / stretch.bound).max().unwrap();
        println!("seed {seed}, forecasts {guess:?}: the widest gap is {widest} % of its bound");
    }
}

/// Invariant 7 on one level.
pub fn tenants_stay_within_the_bound(seed: u64, steps: u32) {
    uncapped(seed, steps, 1);
}

/// Invariant 7 on both levels.
pub fn groups_and_their_tenants_stay_within_the_bound(seed: u64, steps: u32) {
    uncapped(seed, steps, 3);
}

/// Invariant 7 over the times when both are eligible: pools and tenants have caps, weights change.
pub fn whoever_competes_stays_within_the_bound(seed: u64, steps: u32) {
    let guess = Guess::ALL[Dice(seed).index(4)];
    let mut backlog = Backlog::new(seed, guess, 4096, |backlog| {
        shape(backlog, 1 + u128::from(seed % 3));
        backlog.slots = backlog.dice.small(4, 8);
        backlog.models.push(model(9, Some(2)));
        for from in 0..backlog.tenants.len() {
            let dice = &mut backlog.dice;
            backlog.tenants[from].max_in_flight = dice.one_in(3).then(|| dice.small(1, 3));
            if dice.one_in(3) {
                backlog.uses[from].push(backlog.models.len() - 1);
            }
        }
    });
    for _ in 0..steps {
        backlog.step();
        if backlog.dice.one_in(400) {
            let from = backlog.dice.index(backlog.tenants.len());
            backlog.tenants[from].weight = share(backlog.dice.small(10, 300));
            backlog.queue.set_tenant(backlog.now, backlog.tenants[from]);
            backlog.take_grants();
        }
    }
    let grants: u32 = stretches(&backlog).iter().map(|stretch| stretch.grants).sum();
    assert!(grants > steps / 100, "{grants} grants were compared");
}

/// Invariant 15: after a long run shares are those of the weights, whatever forecasts are worth.
pub fn forecasts_do_not_change_shares(seed: u64, steps: u32) {
    let mut gaps = Vec::new();
    for guess in Guess::ALL {
        let mut backlog = Backlog::new(seed, guess, 4096, |backlog| {
            shape(backlog, 1);
            backlog.slots = 4;
            for tenant in &mut backlog.tenants {
                tenant.weight = share(backlog.dice.small(80, 120));
            }
        });
        for _ in 0..steps {
            backlog.step();
        }
        let service: Vec<i128> = (0..5).map(|from| backlog.of_tenants.service(from)).collect();
        let (least, most) = (service.iter().min().unwrap(), service.iter().max().unwrap());
        assert!(most * 100 <= least * 110, "{guess:?}: {service:?}");
        gaps.push(stretches(&backlog).into_iter().map(|stretch| stretch.gap).max().unwrap());
    }
    assert!(gaps[0] < gaps[3], "what differs is how far they drift apart: {gaps:?}");
}

#[test]
fn invariant_7_discrepancy_of_tenants() {
    for_seeds(0, 40, |seed| tenants_stay_within_the_bound(seed, 1000));
}

#[test]
fn invariant_7_discrepancy_of_groups() {
    for_seeds(0, 40, |seed| groups_and_their_tenants_stay_within_the_bound(seed, 1000));
}

#[test]
fn invariant_7_discrepancy_under_caps() {
    for_seeds(0, 40, |seed| whoever_competes_stays_within_the_bound(seed, 4000));
}

#[test]
fn invariant_15_estimator_independence() {
    for_seeds(0, 10, |seed| forecasts_do_not_change_shares(seed, 4000));
}
