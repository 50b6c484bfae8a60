//! What a brownout refuses: whose, how many, and which.

use super::*;
use crate::brownout::Pool;

const WAIT: Duration = Duration::from_secs(7);

/// Refuses by `judge` until all are looked at, in pieces of `most`.
fn shed(queue: &mut FairQueue, most: usize, judge: impl Fn(&Claim) -> u32) -> Vec<TicketId> {
    let mut next = 0;
    for _ in 0..1000 {
        let done = queue.shed(at(9), &mut next, most, |claim| match judge(claim) {
            0 => Keep::All,
            refused => Keep::AllBut { refused, retry_after: WAIT },
        });
        if done {
            let refused = refused(queue);
            assert!(refused.iter().all(|(_, refusal)| *refusal == Refusal::Shed { retry_after: WAIT }));
            return refused.into_iter().map(|(ticket, _)| ticket).collect();
        }
    }
    panic!("it goes on for ever");
}

/// Two slots, both with tenant 1, and so many of each tenant waiting.
fn scene(waiting: &[(TenantPlan, u32)]) -> (FairQueue, Vec<Vec<TicketId>>) {
    let mut queue = with_slots(2);
    for _ in 0..2 {
        queue.try_seat(at(0), &demand(waiting[0].0, model(1, None))).unwrap();
    }
    let mut enqueue = |(plan, count): &(TenantPlan, u32)| {
        let one = |_| queue.enqueue(at(1), demand(*plan, model(1, None))).unwrap();
        (0..*count).map(one).collect()
    };
    let tickets = waiting.iter().map(&mut enqueue).collect();
    (queue, tickets)
}

fn only(n: u128, refused: impl Fn(&Claim) -> u32) -> impl Fn(&Claim) -> u32 {
    move |claim| if claim.tenant == TenantId(Uuid::from_u128(n)) { refused(claim) } else { 0 }
}

#[test]
fn what_is_beyond_a_share_is_refused_the_newest_first() {
    let over = |claim: &Claim| claim.over(0);
    for (weights, waiting, left) in [
        // 11 claims, half of them each: 2 run and 4 may wait.
        ((100, 100), (8, 1), (4, 1)),
        ((300, 100), (8, 1), (7, 1)),
        // 15 claims: the second one is over its share although nothing of it runs.
        ((100, 100), (3, 10), (3, 8)),
        ((100, 100), (8, 9), (8, 9)),
        // Alone it has no share to be over.
        ((100, 100), (50, 0), (50, 0)),
    ] {
        let plans = [(tenant(1, weights.0), waiting.0), (tenant(2, weights.1), waiting.1)];
        let (mut queue, tickets) = scene(&plans);
        let refused = shed(&mut queue, 64, over);
        let newest = |tickets: &[TicketId], left: u32| -> Vec<TicketId> {
            tickets.iter().rev().take(tickets.len() - usize::try_from(left).unwrap()).copied().collect()
        };
        let wanted: Vec<TicketId> = [newest(&tickets[0], left.0), newest(&tickets[1], left.1)].concat();
        assert_eq!(refused, wanted, "{weights:?} {waiting:?}");
        assert_eq!(queue.queued(), left.0 + left.1);
    }
}

#[test]
fn only_those_that_are_judged_lose_anything_and_all_of_it_in_pieces() {
    for most in [1, 3, 64, 1000] {
        let (mut queue, tickets) = scene(&[(tenant(1, 100), 200), (tenant(2, 100), 5), (tenant(3, 100), 70)]);
        let mut refused = shed(&mut queue, most, only(1, |claim| claim.waiting));
        refused.sort();
        assert_eq!(refused, tickets[0], "in pieces of {most}");
        assert_eq!(queue.queued(), 75);
    }
}

#[test]
fn what_stands_behind_a_cap_of_its_own_is_not_refused() {
    let capped = TenantPlan { max_in_flight: Some(2), ..tenant(1, 100) };
    let (mut queue, tickets) = scene(&[(capped, 5), (tenant(2, 100), 3)]);
    let refused = shed(&mut queue, 64, |claim| claim.waiting);
    assert_eq!(refused, tickets[1].iter().rev().copied().collect::<Vec<_>>());
    // Nor counted, if the shell says how many there are: 2 run, 3 of the other tenant wait.
    let (mut queue, _) = scene(&[(capped, 50), (tenant(2, 100), 3)]);
    assert_eq!(shed(&mut queue, 64, |claim| claim.over(50)), []);
    assert_eq!(shed(&mut queue, 64, |claim| claim.over(51)).len(), 1);
}

#[test]
fn a_full_model_loses_only_what_waits_for_it() {
    let mut queue = with_slots(2);
    let small = model(1, Some(1));
    occupy(&mut queue, small);
    occupy(&mut queue, model(2, None));
    let here = queue.enqueue(at(1), demand(tenant(1, 100), small)).unwrap();
    let there = queue.enqueue(at(1), demand(tenant(1, 100), model(2, None))).unwrap();
    let pool = Pool::Model(small.id);
    assert_eq!(shed(&mut queue, 64, |claim| u32::from(claim.pool == pool)), [here]);
    assert_eq!(shed(&mut queue, 64, |claim| u32::from(claim.pool == Pool::Slots)), [there]);
}

#[test]
fn a_newcomer_claims_what_it_would_wait_for() {
    let claims = |queue: &FairQueue, demand: &Demand| -> Vec<(Pool, u32, u32, u32)> {
        let told = |claim: Claim| (claim.pool, claim.running, claim.waiting, claim.all);
        queue.claims_of(demand).map(told).collect()
    };
    let mut queue = with_slots(2);
    let small = model(1, Some(1));
    let pool = Pool::Model(small.id);
    let asks = |n: u128, model| demand(tenant(n, 100), model);
    assert_eq!(claims(&queue, &asks(1, small)), []);
    queue.try_seat(at(0), &asks(1, small)).unwrap();
    assert_eq!(claims(&queue, &asks(2, small)), [(pool, 0, 1, 2)]);
    assert_eq!(claims(&queue, &asks(2, model(2, None))), []);
    queue.enqueue(at(0), asks(1, small)).unwrap();
    queue.try_seat(at(0), &asks(2, model(2, None))).unwrap();
    assert_eq!(claims(&queue, &asks(1, small)), [(pool, 1, 2, 3), (Pool::Slots, 1, 1, 4)]);
    assert_eq!(claims(&queue, &asks(2, model(2, None))), [(Pool::Slots, 1, 1, 4)]);
    let claim = queue.claims_of(&asks(3, model(2, None))).next().unwrap();
    // With itself there are three tenants of one weight.
    assert_eq!((claim.entitled, claim.over(0)), (crate::units::Portion::of(1, 3), 0));
    let capped = TenantPlan { max_in_flight: Some(1), ..tenant(2, 100) };
    assert_eq!(claims(&queue, &demand(capped, model(2, None))), [], "its own cap holds it back");
    let mut keyed = asks(3, model(2, None));
    keyed.key = Some((key(3), 1));
    assert_eq!(claims(&queue, &keyed).len(), 1);
    queue.set_slots(at(1), 3);
    queue.try_seat(at(1), &keyed).unwrap();
    assert_eq!(claims(&queue, &keyed), [], "the cap of its key does");
}
