use super::*;

#[test]
fn a_key_that_gets_a_cap_is_counted_with_all_that_waits_and_runs() {
    let mut queue = with_slots(4);
    let of = |n| Demand { key: Some((key(n), NO_CAP)), ..demand(tenant(1, 100), model(1, None)) };
    let running: Vec<TicketId> = (0..4).map(|_| queue.try_seat(at(0), &of(1)).unwrap().ticket).collect();
    let waiting: Vec<TicketId> = (0..4).map(|_| queue.enqueue(at(0), of(1)).unwrap()).collect();
    let other = queue.enqueue(at(0), of(2)).unwrap();
    queue.set_key(at(1), tenant(1, 100).id, key(1), 2);
    assert_eq!(granted(&mut queue), []);
    assert_eq!(queue.position_at(waiting[0]).unwrap().bound, Bound::KeyCap);
    queue.release(at(2), running[0], AS_FORECAST);
    assert_eq!(granted(&mut queue), [other], "the key has three seats and may have two");
    queue.release(at(2), running[1], AS_FORECAST);
    assert_eq!(granted(&mut queue), []);
    queue.release(at(2), running[2], AS_FORECAST);
    assert_eq!(granted(&mut queue), [waiting[0]]);
    queue.set_key(at(3), tenant(1, 100).id, key(1), NO_CAP);
    assert_eq!(granted(&mut queue), [waiting[1]], "as many as there are slots");
    let record = queue.seat_record(waiting[1]).unwrap();
    assert_eq!(record.key, Some((key(1), NO_CAP)));
    let late = queue.enqueue(at(4), of(1)).unwrap();
    for ticket in [running[3], waiting[0], waiting[1], other] {
        queue.release(at(5), ticket, AS_FORECAST);
    }
    assert_eq!(granted(&mut queue), [waiting[2], waiting[3], late], "in the order they came");
}

#[test]
fn a_changed_key_cap_holds_from_the_next_grant_on() {
    let mut queue = with_slots(10);
    let with_cap = |cap| Demand { key: Some((key(1), cap)), ..demand(tenant(1, 100), model(1, None)) };
    let first = queue.try_seat(at(0), &with_cap(1)).unwrap().ticket;
    let waiting: Vec<TicketId> = (0..4).map(|_| queue.enqueue(at(0), with_cap(1)).unwrap()).collect();
    assert_eq!(granted(&mut queue), []);
    queue.set_key(at(1), tenant(1, 100).id, key(1), 3);
    assert_eq!(granted(&mut queue), waiting[..2]);
    queue.set_key(at(2), tenant(1, 100).id, key(1), 1);
    queue.release(at(3), first, AS_FORECAST);
    queue.release(at(3), waiting[0], AS_FORECAST);
    assert_eq!(granted(&mut queue), [], "one seat still is out");
    queue.release(at(4), waiting[1], AS_FORECAST);
    assert_eq!(granted(&mut queue), [waiting[2]]);
    queue.set_key(at(5), tenant(1, 100).id, key(1), u32::MAX);
    assert_eq!(granted(&mut queue), [waiting[3]]);
    // Neither is known: nothing happens.
    queue.set_key(at(6), tenant(1, 100).id, key(2), 1);
    queue.set_key(at(6), tenant(2, 100).id, key(1), 1);
    assert_eq!(granted(&mut queue), []);
}

#[test]
fn suspension_refuses_what_waits_and_lets_finish_what_runs() {
    let mut queue = with_slots(1);
    let running = queue.try_seat(at(0), &demand(tenant(1, 100), model(1, None))).unwrap().ticket;
    let keyed = Demand { key: Some((key(1), 5)), ..demand(tenant(1, 100), model(2, None)) };
    let first = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    let second = queue.enqueue(at(0), keyed.clone()).unwrap();
    let third = queue.enqueue(at(0), keyed).unwrap();
    let other = queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    queue.suspend_tenant(at(1), tenant(1, 1).id);
    let expected = [first, second, third].map(|ticket| (ticket, Refusal::Suspended));
    assert_eq!(refused(&mut queue), expected);
    assert_eq!((queue.in_flight(), queue.queued()), (1, 1));
    assert!(queue.release(at(2), running, AS_FORECAST));
    assert_eq!(granted(&mut queue), [other]);
}

#[test]
fn a_revoked_key_loses_what_waits_of_it_and_nothing_else() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let of = |n, cap, pool| Demand { key: Some((key(n), cap)), ..demand(tenant(1, 100), model(pool, None)) };
    let counted = queue.enqueue(at(0), of(1, 1, 1)).unwrap();
    let behind = queue.enqueue(at(0), of(1, 1, 1)).unwrap();
    let elsewhere = queue.enqueue(at(0), of(1, 1, 2)).unwrap();
    let other = queue.enqueue(at(0), of(2, 5, 1)).unwrap();
    let free = queue.enqueue(at(0), of(3, NO_CAP, 1)).unwrap();
    let nameless = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    queue.dismiss_key(at(1), tenant(2, 100).id, key(1));
    assert_eq!(refused(&mut queue), [], "it is not a key of that tenant");
    queue.dismiss_key(at(1), tenant(1, 100).id, key(1));
    assert_eq!(refused(&mut queue), [counted, behind, elsewhere].map(|ticket| (ticket, Refusal::Suspended)));
    queue.dismiss_key(at(1), tenant(1, 100).id, key(3));
    assert_eq!(refused(&mut queue), [(free, Refusal::Suspended)]);
    assert_eq!((queue.in_flight(), queue.queued()), (1, 2));
    queue.release(at(2), running, AS_FORECAST);
    assert_eq!(granted(&mut queue), [other]);
    queue.dismiss_key(at(3), tenant(1, 100).id, key(2));
    assert_eq!(queue.in_flight(), 1, "what runs finishes");
    assert!(queue.release(at(4), other, AS_FORECAST));
    assert_eq!(granted(&mut queue), [nameless]);
}

#[test]
fn a_removed_model_refuses_what_waits_and_goes_with_its_last_request() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let gone = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    let stays = queue.enqueue(at(0), demand(tenant(1, 100), model(2, None))).unwrap();
    queue.remove_model(at(1), model(1, None).id);
    assert_eq!(refused(&mut queue), [(gone, Refusal::Suspended)]);
    assert_eq!(queue.dump().models.len(), 2);
    assert!(queue.release(at(2), running, AS_FORECAST));
    assert_eq!(granted(&mut queue), [stays]);
    assert_eq!(queue.dump().models.len(), 1);
    // Its place is used again by another model without any trace of the old one.
    let ticket = queue.enqueue(at(3), demand(tenant(1, 100), model(3, None))).unwrap();
    queue.release(at(3), stays, AS_FORECAST);
    assert_eq!(granted(&mut queue), [ticket]);
}

#[test]
fn a_change_of_weight_keeps_the_distance_to_the_clock_in_cost() {
    let mut queue = with_slots(1);
    occupy(&mut queue, model(1, None));
    let slow = Demand { prompt_tokens: 10_000, ..demand(tenant(1, 10), model(1, None)) };
    queue.set_slots(at(0), 2);
    queue.try_seat(at(0), &slow).unwrap();
    queue.enqueue(at(0), slow).unwrap();
    let before = view(&queue, 1).lag;
    queue.set_tenant(at(1), tenant(1, 1000));
    let after = view(&queue, 1).lag;
    assert!(before > 0 && (after * 100 - before).abs() <= 100, "{before} {after}");
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn a_plan_that_travels_with_a_demand_takes_effect() {
    let mut queue = with_slots(4);
    let mut capped = tenant(1, 100);
    capped.max_in_flight = Some(1);
    queue.try_seat(at(0), &demand(capped, model(1, None))).unwrap();
    let waiting = queue.enqueue(at(0), demand(capped, model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), []);
    let grant = queue.try_seat(at(0), &demand(tenant(1, 50), model(1, None)));
    assert_eq!(granted(&mut queue), [waiting], "the one that waited goes first");
    assert!(grant.is_some_and(|grant| grant.ticket > waiting));
    assert_eq!(view(&queue, 1).weight, share(50));
}

#[test]
fn a_tenant_that_changes_group_enters_at_the_clock_of_the_new_one_with_its_debt() {
    let mut queue = with_slots(2);
    let mut rich = tenant(2, 100);
    rich.group = group(2, 100);
    for _ in 0..500 {
        let ticket = queue.try_seat(at(0), &demand(rich, model(1, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    let moving = tenant(1, 100);
    let running = queue.try_seat(at(0), &demand(moving, model(1, None))).unwrap().ticket;
    queue.try_seat(at(0), &demand(rich, model(1, None))).unwrap();
    queue.enqueue(at(0), demand(moving, model(1, None))).unwrap();
    let debt = view(&queue, 1).lag;
    let moved = TenantPlan { group: group(2, 100), ..moving };
    queue.set_tenant(at(1), moved);
    assert_eq!(queue.check(), Ok(()));
    assert_eq!(view(&queue, 1).lag, debt);
    let groups = queue.dump().groups;
    let second = groups.iter().find(|view| view.id == group(2, 1).id).unwrap();
    assert_eq!((second.in_flight, second.queued), (2, 1));
    assert!(queue.release(at(2), running, AS_FORECAST));
    assert_eq!(granted(&mut queue).len(), 1);
}

#[test]
fn a_group_that_is_alone_uses_everything_and_shares_when_another_comes() {
    let mut queue = with_slots(4);
    let of = |t: u128, g: u128| TenantPlan { group: group(g, 100), ..tenant(t, 100) };
    let first: Vec<TicketId> =
        (0..4).map(|_| queue.try_seat(at(0), &demand(of(1, 1), model(1, None))).unwrap().ticket).collect();
    for _ in 0..10 {
        queue.enqueue(at(0), demand(of(1, 1), model(1, None))).unwrap();
        queue.enqueue(at(0), demand(of(2, 2), model(1, None))).unwrap();
        queue.enqueue(at(0), demand(of(3, 2), model(1, None))).unwrap();
    }
    for ticket in first {
        queue.release(at(1), ticket, AS_FORECAST);
    }
    let groups = queue.dump().groups;
    assert!(groups.iter().all(|group| group.in_flight >= 1 && group.in_flight <= 3), "{groups:?}");
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn changes_of_what_is_unknown_change_nothing() {
    let mut queue = with_slots(1);
    queue.set_tenant(at(0), tenant(1, 5));
    queue.set_group(at(0), group(1, 5));
    queue.set_model(at(0), model(1, Some(5)));
    queue.suspend_tenant(at(0), tenant(1, 5).id);
    queue.remove_model(at(0), model(1, None).id);
    queue.progress(at(0), TicketId(7), 1, 1);
    assert!(!queue.cancel(at(0), TicketId(7)));
    assert_eq!(queue.dump(), with_slots(1).dump());
}
