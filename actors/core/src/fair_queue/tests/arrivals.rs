use super::*;

#[test]
fn a_free_slot_is_given_at_once_and_a_full_queue_gives_none() {
    let mut queue = with_slots(1);
    let grant = queue.try_seat(at(0), &demand(tenant(1, 100), model(1, None))).unwrap();
    assert!(!grant.queued);
    assert_eq!(grant.forecast_tokens, 100);
    assert_eq!(queue.try_seat(at(0), &demand(tenant(2, 100), model(1, None))), None);
    assert_eq!((queue.in_flight(), queue.queued()), (1, 0));
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn a_queued_request_is_granted_when_the_slot_comes_back_and_says_how_long_it_waited() {
    let mut queue = with_slots(1);
    let first = occupy(&mut queue, model(1, None));
    let second = queue.enqueue(at(1), demand(tenant(2, 100), model(1, None))).unwrap();
    assert_eq!(queue.poll_effect(), None);
    assert!(queue.release(at(4), first, AS_FORECAST));
    let Some(Effect::Grant(grant)) = queue.poll_effect() else { panic!("no grant") };
    assert_eq!((grant.ticket, grant.waited, grant.queued), (second, Duration::from_secs(3), true));
    assert_eq!(grant.tenant, tenant(2, 100).id);
}

#[test]
fn a_tenant_is_served_in_order_of_arrival_across_models() {
    let mut queue = with_slots(1);
    let mut running = occupy(&mut queue, model(1, None));
    let t = tenant(1, 100);
    let tickets: Vec<TicketId> =
        [1, 2, 1, 3].map(|m| queue.enqueue(at(0), demand(t, model(m, None))).unwrap()).to_vec();
    for ticket in tickets {
        queue.release(at(1), running, AS_FORECAST);
        assert_eq!(granted(&mut queue), [ticket]);
        running = ticket;
    }
}

#[test]
fn a_newcomer_goes_before_those_who_have_had_more_than_the_clock() {
    let mut queue = with_slots(1);
    let mut running = occupy(&mut queue, model(1, None));
    let heavy: Vec<TicketId> =
        (0..5).map(|_| queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap()).collect();
    for ticket in &heavy[..3] {
        queue.release(at(1), running, AS_FORECAST);
        assert_eq!(granted(&mut queue), [*ticket]);
        running = *ticket;
    }
    let light = queue.enqueue(at(2), demand(tenant(2, 100), model(1, None))).unwrap();
    queue.release(at(3), running, AS_FORECAST);
    assert_eq!(granted(&mut queue), [light]);
}

#[test]
fn idling_earns_no_credit() {
    let mut queue = with_slots(1);
    let early = queue.try_seat(at(0), &demand(tenant(2, 100), model(1, None))).unwrap();
    queue.release(at(1), early.ticket, AS_FORECAST);
    let mut running = occupy(&mut queue, model(1, None));
    for _ in 0..50 {
        let next = queue.enqueue(at(2), demand(tenant(1, 100), model(1, None))).unwrap();
        queue.release(at(2), running, AS_FORECAST);
        assert_eq!(granted(&mut queue), [next]);
        running = next;
    }
    // Both flood now: had the idle one kept its old tag, it would get dozens of grants in a row.
    for _ in 0..20 {
        queue.enqueue(at(3), demand(tenant(1, 100), model(1, None))).unwrap();
        queue.enqueue(at(3), demand(tenant(2, 100), model(1, None))).unwrap();
    }
    assert!(view(&queue, 2).lag >= 0, "lifted to the clock");
    let mut order = Vec::new();
    for _ in 0..20 {
        queue.release(at(4), running, AS_FORECAST);
        let Some(Effect::Grant(grant)) = queue.poll_effect() else { panic!("no grant") };
        order.push(grant.tenant);
        running = grant.ticket;
    }
    let idle = order.iter().filter(|id| **id == tenant(2, 1).id).count();
    assert!((9..=11).contains(&idle), "{idle} of 20");
}

#[test]
fn a_tenant_may_queue_only_so_many() {
    let mut queue = with_slots(1);
    occupy(&mut queue, model(1, None));
    let mut small = tenant(1, 100);
    small.max_queued = Some(2);
    assert!(queue.enqueue(at(0), demand(small, model(1, None))).is_ok());
    assert!(queue.enqueue(at(0), demand(small, model(1, None))).is_ok());
    let refusal = queue.enqueue(at(0), demand(small, model(1, None))).unwrap_err();
    assert!(matches!(refusal, Refusal::TenantQueueFull { .. }));
    assert!(queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).is_ok());
    assert_eq!(queue.queued(), 3);
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn a_request_that_need_not_wait_is_not_bounded_by_the_queue() {
    let mut queue = with_slots(1);
    let mut never_waits = tenant(1, 100);
    never_waits.max_queued = Some(0);
    let ticket = queue.enqueue(at(0), demand(never_waits, model(1, None))).unwrap();
    assert_eq!(granted(&mut queue), [ticket]);
    assert!(queue.enqueue(at(0), demand(never_waits, model(1, None))).is_err());
}

#[test]
fn a_full_queue_blames_the_heaviest_tenant_and_tells_others_of_overload() {
    let settings = Settings { slots: 1, max_queued: 4, ..Settings::default() };
    let mut queue = FairQueue::new(settings);
    occupy(&mut queue, model(1, None));
    for _ in 0..3 {
        queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap();
    }
    queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    let heavy = queue.enqueue(at(0), demand(tenant(1, 100), model(1, None))).unwrap_err();
    assert!(matches!(heavy, Refusal::Heaviest { .. }), "{heavy:?}");
    let light = queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap_err();
    assert!(matches!(light, Refusal::QueueFull { .. }), "{light:?}");
    // Heavy is a matter of weight: the same queue of a tenant with a tenth of the weight is heavier.
    let poor = queue.enqueue(at(0), demand(tenant(3, 10), model(1, None))).unwrap_err();
    assert!(matches!(poor, Refusal::Heaviest { .. }), "{poor:?}");
}

#[test]
fn tie_goes_to_who_became_active_first() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let first = queue.enqueue(at(0), demand(tenant(7, 100), model(1, None))).unwrap();
    queue.enqueue(at(0), demand(tenant(3, 100), model(1, None))).unwrap();
    queue.release(at(1), running, AS_FORECAST);
    assert_eq!(granted(&mut queue), [first]);
}

#[test]
fn an_estimate_of_the_wait_follows_the_queue_and_the_measured_pace() {
    let mut queue = with_slots(1);
    let mut running = occupy(&mut queue, model(1, None));
    let d = demand(tenant(1, 100), model(1, None));
    assert_eq!(with_slots(1).estimated_wait(at(0), &d), Some(Duration::ZERO));
    for _ in 0..20 {
        queue.enqueue(at(0), d.clone()).unwrap();
    }
    assert_eq!(queue.estimated_wait(at(0), &d), None, "nothing measured");
    // One request a second.
    for second in 1..=10 {
        queue.release(at(second), running, AS_FORECAST);
        running = granted(&mut queue)[0];
    }
    let wait = queue.estimated_wait(at(10), &d).unwrap();
    assert!((9..=11).contains(&wait.as_secs()), "{wait:?}");
}
