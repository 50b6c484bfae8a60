use super::*;

#[test]
fn a_cancelled_ticket_is_gone_and_cancelling_twice_is_once() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let first = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    let second = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    assert!(queue.cancel(at(1), first));
    assert!(!queue.cancel(at(1), first));
    assert_eq!(queue.queued(), 1);
    queue.release(at(2), running, AS_FORECAST);
    assert_eq!(granted(&mut queue), [second]);
    assert!(!queue.cancel(at(3), second), "a seat is released, not cancelled");
    assert_eq!(view(&queue, 1).served_cost, 200 * 100);
}

#[test]
fn a_waiting_ticket_cannot_be_released() {
    let mut queue = with_slots(1);
    occupy(&mut queue, model(1, None));
    let waiting = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    assert!(!queue.release(at(0), waiting, AS_FORECAST));
    assert_eq!((queue.in_flight(), queue.queued()), (1, 1));
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn a_deadline_that_passes_refuses_with_a_time_to_come_again() {
    let mut queue = with_slots(1);
    occupy(&mut queue, model(1, None));
    let hasty = Demand { deadline: Some(at(5)), ..demand(tenant(1, 100), model(1, None)) };
    let patient = Demand { deadline: Some(at(9)), ..hasty.clone() };
    let second = queue.enqueue(at(0), patient).unwrap();
    let first = queue.enqueue(at(0), hasty).unwrap();
    assert_eq!(queue.next_wakeup(), Some(at(5)));
    queue.expire(at(4));
    assert_eq!(refused(&mut queue), []);
    queue.expire(at(5));
    let [(ticket, Refusal::Timeout { retry_after })] = refused(&mut queue)[..] else { panic!("one refusal") };
    assert_eq!(ticket, first);
    assert!((1..=60).contains(&retry_after.as_secs()));
    assert_eq!(queue.next_wakeup(), Some(at(9)));
    assert!(queue.cancel(at(6), second));
    assert_eq!(queue.next_wakeup(), None);
}

#[test]
fn a_slot_is_not_given_to_one_whose_deadline_has_passed() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let late = Demand { deadline: Some(at(5)), ..demand(tenant(1, 100), model(1, None)) };
    let late = queue.enqueue(at(0), late).unwrap();
    let next = queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    queue.release(at(6), running, AS_FORECAST);
    let Some(Effect::Refuse { ticket, refusal: Refusal::Timeout { .. } }) = queue.poll_effect() else {
        panic!("no timeout")
    };
    assert_eq!(ticket, late);
    assert_eq!(granted(&mut queue), [next]);
}

#[test]
fn retry_after_is_the_queue_over_the_share_of_the_pace() {
    let mut queue = with_slots(1);
    let mut running = occupy(&mut queue, model(1, None));
    for _ in 0..30 {
        queue.enqueue(at(0), demand(tenant(1, 300), model(1, None))).unwrap();
    }
    for _ in 0..12 {
        queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    }
    for second in 1..=20 {
        queue.release(at(second), running, AS_FORECAST);
        running = granted(&mut queue)[0];
    }
    // 200 tokens a second; tenant 2 has a quarter of it and about seven requests waiting.
    let waiting = u64::from(view(&queue, 2).queued);
    let full = TenantPlan { max_queued: Some(1), ..tenant(2, 100) };
    let refusal = queue.enqueue(at(20), demand(full, model(1, None))).unwrap_err();
    let Refusal::TenantQueueFull { retry_after } = refusal else { panic!("{refusal:?}") };
    assert_eq!(retry_after, Duration::from_secs(waiting * 4));
}

#[test]
fn an_idle_queue_remembers_only_so_many_tenants() {
    let mut queue = with_slots(4);
    queue.remember_idle(10);
    for n in 0..1000 {
        let ticket = queue.try_seat(at(0), &demand(tenant(n, 100), model(1, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    assert!(queue.known_tenants() < 50, "{}", queue.known_tenants());
    assert!(queue.idle_entries() < 200, "{}", queue.idle_entries());
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn one_tenant_that_comes_and_goes_does_not_lengthen_the_list_of_the_idle() {
    let mut queue = with_slots(4);
    for _ in 0..1000 {
        let ticket = queue.try_seat(at(0), &demand(tenant(1, 100), model(1, None))).unwrap().ticket;
        queue.release(at(0), ticket, AS_FORECAST);
    }
    assert!(queue.idle_entries() <= 2);
}

#[test]
fn a_fresh_queue_resumes_with_the_seats_that_are_out() {
    let mut old = with_slots(3);
    let pool = model(1, Some(2));
    let mut capped = tenant(1, 100);
    capped.max_in_flight = Some(2);
    let keyed = Demand { key: Some((key(1), 1)), ..demand(capped, pool) };
    let first = old.try_seat(at(0), &keyed).unwrap().ticket;
    let second = old.try_seat(at(0), &demand(tenant(2, 100), model(2, None))).unwrap().ticket;
    old.progress(at(1), first, 100, 900);
    let waiter = old.enqueue(at(1), keyed.clone()).unwrap();
    let records = [first, second].map(|ticket| old.seat_record(ticket).unwrap());
    assert_eq!(old.seat_record(waiter), None);
    assert_eq!(records[0].charged, 1000 * 100);

    let settings = Settings { slots: 3, ..Settings::default() };
    let mut queue = FairQueue::resume(settings, at(2), records.clone());
    assert_eq!(queue.check(), Ok(()));
    assert_eq!((queue.in_flight(), queue.in_flight_of(pool.id)), (2, 1));
    assert_eq!(queue.seat_record(first), Some(records[0].clone()));
    assert_eq!(queue.try_seat(at(2), &keyed), None, "the key is at its cap");
    let next = queue.enqueue(at(2), keyed).unwrap();
    assert!(next > waiter, "old tickets mean nothing to the new queue");
    assert_eq!(granted(&mut queue), []);
    assert!(queue.release(at(3), first, Spent::Tokens { prompt: 100, output: 50 }));
    assert_eq!(granted(&mut queue), [next]);
    assert!(!queue.release(at(3), waiter, AS_FORECAST));
    for ticket in [second, next] {
        assert!(queue.release(at(4), ticket, AS_FORECAST));
    }
    assert_eq!(queue.in_flight(), 0);
    assert_eq!(view(&queue, 1).served_cost, 350 * 100);
}
