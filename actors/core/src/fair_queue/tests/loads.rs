//! What waits for which pool: the measure of a brownout.

use super::*;
use crate::brownout::Pool;
use std::collections::BTreeMap;

fn pool(n: u128) -> Pool {
    Pool::Model(ModelId(Uuid::from_u128(n)))
}

/// The loads at a second, summed in pieces of one tenant, which must not matter.
fn loads(queue: &FairQueue, second: u64) -> BTreeMap<Pool, Load> {
    let sum = |most| {
        let mut sums = Loads::default();
        while !queue.add_loads(&mut sums, most) {}
        queue.loads(at(second), &sums)
    };
    assert_eq!(sum(1), sum(1000));
    sum(1)
}

/// Oldest wait in seconds, drain in seconds, waiting, held back.
fn told(load: &Load) -> (u64, Option<u64>, u32, u32) {
    let Load { pressure, waiting, held_back } = load;
    (pressure.oldest_wait.as_secs(), pressure.drain.map(|drain| drain.as_secs()), *waiting, *held_back)
}

#[test]
fn the_oldest_wait_and_the_time_to_drain_are_those_of_the_slots() {
    let mut queue = with_slots(1);
    let slot = occupy(&mut queue, model(1, None));
    assert_eq!(loads(&queue, 1), BTreeMap::new());
    for (second, n) in [(1, 1), (2, 2), (3, 1)] {
        queue.enqueue(at(second), demand(tenant(n, 100), model(1, None))).unwrap();
    }
    assert_eq!(told(&loads(&queue, 6)[&Pool::Slots]), (5, None, 3, 0), "nothing has finished yet");
    queue.release(at(10), slot, AS_FORECAST);
    assert_eq!(granted(&mut queue).len(), 1);
    // One request took 10 s; two of its size wait for the one slot.
    assert_eq!(told(&loads(&queue, 12)[&Pool::Slots]), (10, Some(20), 2, 0));
}

#[test]
fn a_model_at_its_cap_is_a_pool_of_its_own() {
    let mut queue = with_slots(3);
    let small = model(1, Some(1));
    occupy(&mut queue, small);
    queue.enqueue(at(1), demand(tenant(1, 100), small)).unwrap();
    queue.enqueue(at(2), demand(tenant(1, 100), small)).unwrap();
    let only = loads(&queue, 4);
    assert_eq!((only.len(), told(&only[&pool(1)])), (1, (3, None, 2, 0)));
    for n in 0..2 {
        queue.try_seat(at(4), &demand(tenant(2 + n, 100), model(2 + n, None))).unwrap();
    }
    queue.enqueue(at(5), demand(tenant(4, 100), model(2, None))).unwrap();
    queue.enqueue(at(6), demand(tenant(5, 100), model(9, None))).unwrap();
    let both = loads(&queue, 7);
    assert_eq!(told(&both[&pool(1)]), (6, None, 2, 0));
    assert_eq!(told(&both[&Pool::Slots]), (2, None, 2, 2), "every model with room shares the slots");
    assert_eq!(both.len(), 2);
}

#[test]
fn what_stands_behind_a_cap_of_its_own_is_no_load_and_nor_is_the_time_it_stood_there() {
    let mut queue = with_slots(2);
    let capped = TenantPlan { max_in_flight: Some(1), ..tenant(1, 100) };
    let own = queue.try_seat(at(0), &demand(capped, model(1, None))).unwrap().ticket;
    occupy(&mut queue, model(1, None));
    for _ in 0..3 {
        queue.enqueue(at(1), demand(capped, model(1, None))).unwrap();
    }
    assert_eq!(loads(&queue, 50), BTreeMap::new());
    queue.set_slots(at(90), 1);
    queue.release(at(100), own, AS_FORECAST);
    assert_eq!(granted(&mut queue), [], "the one slot that is left is taken");
    let (wait, _, waiting, held_back) = told(&loads(&queue, 103)[&Pool::Slots]);
    assert_eq!((wait, waiting, held_back), (3, 1, 2));
}

#[test]
fn what_stands_behind_the_cap_of_a_key_is_no_load() {
    let mut queue = with_slots(1);
    let with_key = |cap| Demand { key: Some((key(1), cap)), ..demand(tenant(1, 100), model(1, None)) };
    queue.try_seat(at(0), &with_key(1)).unwrap();
    for _ in 0..3 {
        queue.enqueue(at(1), with_key(1)).unwrap();
    }
    assert_eq!(loads(&queue, 2), BTreeMap::new());
    queue.enqueue(at(5), demand(tenant(1, 100), model(1, None))).unwrap();
    assert_eq!(told(&loads(&queue, 7)[&Pool::Slots]), (2, None, 1, 3));
    queue.set_key(at(8), TenantId(Uuid::from_u128(1)), key(1), 3);
    // Its oldest came at 1 s, and the tenant has competed since 5 s.
    assert_eq!(told(&loads(&queue, 9)[&Pool::Slots]), (4, None, 3, 1));
}
