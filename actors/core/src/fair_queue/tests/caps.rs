use super::*;

#[test]
fn a_full_pool_hides_only_its_own_requests() {
    let mut queue = with_slots(10);
    let full = occupy(&mut queue, model(1, Some(1)));
    let behind = queue.enqueue(at(0), demand(tenant(1, 100), model(1, Some(1)))).unwrap();
    let other = queue.enqueue(at(0), demand(tenant(1, 100), model(2, None))).unwrap();
    assert_eq!(granted(&mut queue), [other]);
    assert_eq!((queue.queued_of(model(1, None).id), queue.in_flight_of(model(2, None).id)), (1, 1));
    queue.release(at(1), full, AS_FORECAST);
    assert_eq!(granted(&mut queue), [behind]);
}

#[test]
fn a_tenant_at_its_cap_waits_and_wakes_with_its_own_release() {
    let mut queue = with_slots(10);
    let mut capped = tenant(1, 100);
    capped.max_in_flight = Some(1);
    let first = queue.try_seat(at(0), &demand(capped, model(1, None))).unwrap().ticket;
    assert_eq!(queue.try_seat(at(0), &demand(capped, model(1, None))), None);
    let second = queue.enqueue(at(0), demand(capped, model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), []);
    assert!(view(&queue, 1).blocked);
    let other = queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), [other]);
    queue.release(at(1), first, AS_FORECAST);
    assert_eq!(granted(&mut queue), [second]);
}

#[test]
fn a_key_at_its_cap_holds_back_only_its_own_requests() {
    let mut queue = with_slots(10);
    let narrow = Demand { key: Some((key(1), 1)), ..demand(tenant(1, 100), model(1, None)) };
    let first = queue.try_seat(at(0), &narrow).unwrap().ticket;
    assert_eq!(queue.try_seat(at(0), &narrow), None);
    let second = queue.enqueue(at(0), narrow.clone()).unwrap();
    let third = queue.enqueue(at(0), narrow.clone()).unwrap();
    let other_key = Demand { key: Some((key(2), 1)), ..narrow.clone() };
    let other = queue.enqueue(at(0), other_key).unwrap();
    let keyless = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), [other, keyless]);
    queue.release(at(1), first, AS_FORECAST);
    assert_eq!(granted(&mut queue), [second]);
    assert!(queue.cancel(at(1), third));
    queue.release(at(2), second, AS_FORECAST);
    assert_eq!(granted(&mut queue), []);
}

#[test]
fn a_wider_key_cap_takes_effect_with_the_next_demand_that_carries_it() {
    let mut queue = with_slots(10);
    let narrow = Demand { key: Some((key(1), 1)), ..demand(tenant(1, 100), model(1, None)) };
    queue.try_seat(at(0), &narrow).unwrap();
    let second = queue.enqueue(at(0), narrow.clone()).unwrap();
    let wide = Demand { key: Some((key(1), 3)), ..narrow };
    let third = queue.enqueue(at(0), wide).unwrap();
    assert_eq!(granted(&mut queue), [second, third]);
}

#[test]
fn raising_a_cap_grants_at_once_and_lowering_one_only_waits() {
    let mut queue = with_slots(10);
    let mut capped = tenant(1, 100);
    capped.max_in_flight = Some(1);
    let first = queue.try_seat(at(0), &demand(capped, model(1, None))).unwrap().ticket;
    let rest: Vec<TicketId> =
        (0..3).map(|_| queue.enqueue(at(0), demand(capped, model(1, None))).unwrap()).collect();
    capped.max_in_flight = Some(3);
    queue.set_tenant(at(1), capped);
    assert_eq!(granted(&mut queue), rest[..2]);
    capped.max_in_flight = Some(1);
    queue.set_tenant(at(1), capped);
    queue.release(at(2), first, AS_FORECAST);
    queue.release(at(2), rest[0], AS_FORECAST);
    assert_eq!(granted(&mut queue), []);
    queue.release(at(2), rest[1], AS_FORECAST);
    assert_eq!(granted(&mut queue), [rest[2]]);
}

#[test]
fn pool_cap_and_slots_can_change_while_requests_wait() {
    let mut queue = with_slots(1);
    let pool = model(1, Some(1));
    let first = occupy(&mut queue, pool);
    let rest: Vec<TicketId> =
        (0..4).map(|_| queue.enqueue(at(0), demand(tenant(1, 100), pool)).unwrap()).collect();
    queue.set_slots(at(1), 3);
    assert_eq!(granted(&mut queue), []);
    queue.set_model(at(1), model(1, Some(2)));
    assert_eq!(granted(&mut queue), rest[..1]);
    queue.set_model(at(1), model(1, None));
    assert_eq!(granted(&mut queue), rest[1..2]);
    queue.set_slots(at(2), 1);
    queue.release(at(3), first, AS_FORECAST);
    queue.release(at(3), rest[0], AS_FORECAST);
    assert_eq!(granted(&mut queue), []);
    queue.release(at(3), rest[1], AS_FORECAST);
    assert_eq!(granted(&mut queue), rest[2..3]);
}

#[test]
fn a_queue_without_slots_grants_nothing_until_it_has_some() {
    let mut queue = with_slots(0);
    assert_eq!(queue.try_seat(at(0), &demand(tenant(1, 100), model(1, None))), None);
    let ticket = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), []);
    queue.set_slots(at(1), 1);
    assert_eq!(granted(&mut queue), [ticket]);
}

#[test]
fn the_clock_of_a_closed_pool_stands_still_while_others_run() {
    let mut queue = with_slots(10);
    let full = model(1, Some(1));
    occupy(&mut queue, full);
    queue.enqueue(at(0), demand(tenant(1, 100), full)).unwrap();
    let clock = |queue: &FairQueue, m: u128| queue.dump().groups[0].clocks[&model(m, None).id];
    let before = clock(&queue, 1);
    for _ in 0..20 {
        let ticket = queue.try_seat(at(0), &demand(tenant(2, 100), model(2, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    assert_eq!(clock(&queue, 1), before);
    assert!(clock(&queue, 2) > before);
}

#[test]
fn a_tenant_held_back_by_a_cap_catches_up_only_within_the_bounded_lag() {
    let mut queue = with_slots(2);
    let mut capped = tenant(1, 100);
    capped.max_in_flight = Some(1);
    let hold = queue.try_seat(at(0), &demand(capped, model(1, None))).unwrap().ticket;
    let next = queue.enqueue(at(0), demand(capped, model(1, None))).unwrap();
    for _ in 0..2000 {
        let ticket = queue.try_seat(at(0), &demand(tenant(2, 100), model(1, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    assert!(view(&queue, 1).lag < -Dump::TOKEN * 5000 / 100);
    queue.release(at(1), hold, AS_FORECAST);
    assert_eq!(granted(&mut queue), [next]);
    // Lag of 4096 tokens at weight 100, less the 200 tokens of the request just granted.
    let lag = view(&queue, 1).lag;
    let bound = -Dump::TOKEN * 4096 / 100;
    assert!(lag >= bound && lag <= bound + Dump::TOKEN * 201 / 100, "{lag} {bound}");
}
