//! The cost of an operation, in elementary steps.

use super::*;

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
        queue.enqueue(at(0), demand(tenant(n, 100), model(1, None))).unwrap();
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
        queue.enqueue(at(round), demand(tenant(back, 100), model(1, None))).unwrap();
        while let Some(Effect::Grant(grant)) = queue.poll_effect() {
            running.push(grant.ticket);
        }
    }
    (queue.operations() - before) / 200
}

#[test]
fn steps_per_grant_grow_no_faster_than_the_logarithm_of_the_backlog() {
    let few = steps_per_grant(1_000, 0);
    let many = steps_per_grant(100_000, 0);
    // log2 of 100 000 is 1.67 times that of 1000.
    assert!(few > 0 && many * 100 <= few * 175, "{few} {many}");
    assert!(many <= 12 * 17, "{many}");
}

#[test]
fn idle_tenants_cost_nothing() {
    assert_eq!(steps_per_grant(1_000, 0), steps_per_grant(1_000, 20_000));
}
