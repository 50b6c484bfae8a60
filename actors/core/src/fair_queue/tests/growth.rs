//! Invariant 13: the cost of an operation, in elementary steps, by the number of tenants that wait.

use super::*;

/// Steps a grant may take for each doubling of the tenants that wait: a release, a grant and an arrival
/// move a tenant out of and into a line three times, and its group likewise.
const STEPS_A_DOUBLING: u64 = 12;

/// Tenants of eight groups, so that both levels are walked.
fn spread(n: u128) -> TenantPlan {
    TenantPlan { group: group(1 + n % 8, 100), ..tenant(n, 100) }
}

/// A queue where `backlogged` tenants wait, and as many more are idle as asked.
fn crowded(backlogged: u128, idle: u128) -> (FairQueue, Vec<TicketId>) {
    let settings = Settings { slots: 4, max_queued: u32::MAX, ..Settings::default() };
    let mut queue = FairQueue::new(settings);
    queue.remember_idle(usize::MAX);
    for n in 0..idle {
        let ticket =
            queue.try_seat(at(0), &demand(tenant(1_000_000 + n, 100), model(1, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    for n in 0..backlogged {
        queue.enqueue(at(0), demand(spread(n), model(1, None))).unwrap();
    }
    let mut running = Vec::new();
    while let Some(Effect::Grant(grant)) = queue.poll_effect() {
        running.push(grant.ticket);
    }
    (queue, running)
}

/// Steps of one release, the grant it sets free and the arrival that replaces it.
fn steps_per_grant(backlogged: u128, idle: u128) -> u64 {
    let (mut queue, mut running) = crowded(backlogged, idle);
    let before = queue.operations();
    for round in 0..200_u64 {
        let ticket = running.remove(0);
        queue.release(at(round), ticket, Spent::Tokens { prompt: 100, output: round });
        let back = u128::from(round * 7919) % backlogged;
        queue.enqueue(at(round), demand(spread(back), model(1, None))).unwrap();
        while let Some(Effect::Grant(grant)) = queue.poll_effect() {
            running.push(grant.ticket);
        }
    }
    (queue.operations() - before) / 200
}

#[test]
fn invariant_13_steps_per_grant_are_bounded_by_the_logarithm_of_the_backlog() {
    let mut last = 0;
    for backlogged in [1_000, 3_000, 10_000, 30_000, 100_000] {
        let steps = steps_per_grant(backlogged, 0);
        println!("{backlogged} backlogged: {steps} steps a grant");
        assert!(steps > 0 && steps <= STEPS_A_DOUBLING * u64::from(backlogged.ilog2()), "{steps}");
        // A hundred times the tenants are 1.67 times the logarithm.
        assert!(last == 0 || steps * 100 <= last * 125, "{last} {steps}");
        last = steps;
    }
}

#[test]
fn invariant_13_idle_tenants_cost_nothing() {
    assert_eq!(steps_per_grant(1_000, 0), steps_per_grant(1_000, 100_000));
}
