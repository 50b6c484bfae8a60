use super::*;
use crate::units::Portion;

#[test]
fn the_narrowest_limit_that_is_reached_is_named() {
    let mut queue = with_slots(2);
    let plain = demand(tenant(1, 100), model(1, None));
    assert_eq!(queue.position_of(&plain).bound, Bound::None);
    let narrow_key = Demand { key: Some((key(1), 1)), ..plain.clone() };
    queue.try_seat(at(0), &narrow_key).unwrap();
    assert_eq!(queue.position_of(&plain).bound, Bound::None);
    let narrow_model = Demand { model: model(1, Some(1)), ..plain.clone() };
    assert_eq!(queue.position_of(&narrow_model).bound, Bound::ModelCap);
    let capped = TenantPlan { max_in_flight: Some(1), ..tenant(1, 100) };
    let narrow_tenant = Demand { tenant: capped, ..narrow_model.clone() };
    assert_eq!(queue.position_of(&narrow_tenant).bound, Bound::TenantCap);
    let all = Demand { key: narrow_key.key, ..narrow_tenant };
    assert_eq!(queue.position_of(&all).bound, Bound::KeyCap);
    queue.try_seat(at(0), &demand(tenant(2, 100), model(2, None))).unwrap();
    assert_eq!(queue.position_of(&plain).bound, Bound::Slots);
    assert_eq!(queue.position_of(&all).bound, Bound::KeyCap, "a free slot alone would not help it");
}

#[test]
fn a_position_counts_who_is_ahead_and_follows_those_who_leave() {
    let mut queue = with_slots(1);
    let running = occupy(&mut queue, model(1, None));
    let mine = demand(tenant(1, 100), model(1, None));
    let first = queue.enqueue(at(0), mine.clone()).unwrap();
    queue.enqueue(at(0), demand(tenant(2, 100), model(1, None))).unwrap();
    let keyed = Demand { key: Some((key(1), 5)), ..mine.clone() };
    let second = queue.enqueue(at(0), keyed).unwrap();
    let arriving = queue.position_of(&mine);
    assert_eq!((arriving.ahead_of_tenant, arriving.others_waiting), (2, 3));
    let last = queue.enqueue(at(0), mine).unwrap();
    let position = queue.position_at(last).unwrap();
    assert_eq!((position.ahead_of_tenant, position.others_waiting), (2, 3));
    assert_eq!(queue.position_at(second).unwrap().ahead_of_tenant, 1);
    assert!(queue.cancel(at(1), first));
    let position = queue.position_at(last).unwrap();
    assert_eq!((position.ahead_of_tenant, position.others_waiting, position.bound), (1, 2, Bound::Slots));
    assert_eq!(queue.position_at(running), None);
    assert_eq!(queue.position_at(first), None);
}

#[test]
fn shares_of_a_position_are_those_of_its_model() {
    let mut queue = with_slots(10);
    let heavy = |n| TenantPlan { group: group(2, 300), ..tenant(n, 100) };
    let spent = |output| Spent::Tokens { prompt: 0, output };
    for (plan, output) in [(heavy(1), 3000), (heavy(2), 5000), (tenant(3, 50), 2000)] {
        let seat = queue.try_seat(at(0), &demand(plan, model(1, None))).unwrap().ticket;
        queue.release(at(1), seat, spent(output));
    }
    // Nobody is active: whoever comes is entitled to everything.
    let asked = queue.position_of(&demand(heavy(1), model(1, None)));
    assert_eq!((asked.entitled, asked.actual), (Portion::WHOLE, Portion::of(3, 10)));
    queue.try_seat(at(1), &demand(heavy(2), model(1, None))).unwrap();
    queue.try_seat(at(1), &demand(tenant(3, 50), model(1, None))).unwrap();
    let entitled = |plan| queue.position_of(&demand(plan, model(1, None))).entitled;
    assert_eq!(entitled(heavy(1)), Portion::of(3, 8), "three of four quarters, shared by two");
    assert_eq!(entitled(heavy(2)), Portion::of(3, 4), "as active as it is already");
    assert_eq!(entitled(tenant(3, 50)), Portion::of(1, 4));
    assert_eq!(entitled(tenant(4, 150)), Portion::of(3, 16), "a newcomer counts itself");
    let elsewhere = queue.position_of(&demand(tenant(4, 1), model(2, None)));
    assert_eq!((elsewhere.entitled, elsewhere.actual), (Portion::WHOLE, Portion::NONE));
}
