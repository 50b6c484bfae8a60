use super::*;

const UNIT: i128 = 100;

fn seated(queue: &mut FairQueue) -> TicketId {
    queue.try_seat(at(0), &demand(tenant(1, 100), model(1, None))).unwrap().ticket
}

fn served(queue: &FairQueue) -> i128 {
    view(queue, 1).served_cost
}

#[test]
fn a_grant_charges_the_forecast_and_the_end_charges_the_truth() {
    let mut queue = with_slots(4);
    let ticket = seated(&mut queue);
    assert_eq!(served(&queue), 200 * UNIT);
    queue.release(at(1), ticket, Spent::Tokens { prompt: 90, output: 40 });
    assert_eq!(served(&queue), 130 * UNIT);
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn progress_charges_what_goes_beyond_the_forecast_and_never_less() {
    let mut queue = with_slots(4);
    let ticket = seated(&mut queue);
    queue.progress(at(1), ticket, 100, 50);
    assert_eq!(served(&queue), 200 * UNIT);
    let before = view(&queue, 1).virtual_time;
    queue.progress(at(1), ticket, 100, 400);
    assert_eq!(served(&queue), 500 * UNIT);
    assert_eq!(view(&queue, 1).virtual_time - before, 3 * Dump::TOKEN);
    queue.progress(at(1), ticket, 100, 300);
    assert_eq!(served(&queue), 500 * UNIT);
    queue.release(at(2), ticket, Spent::Tokens { prompt: 100, output: 410 });
    assert_eq!(served(&queue), 510 * UNIT);
    queue.progress(at(3), ticket, 100, 9999);
    assert_eq!(served(&queue), 510 * UNIT);
}

#[test]
fn a_release_counts_once() {
    let mut queue = with_slots(1);
    let ticket = seated(&mut queue);
    assert!(queue.release(at(1), ticket, AS_FORECAST));
    assert!(!queue.release(at(1), ticket, AS_FORECAST));
    assert_eq!((served(&queue), queue.in_flight()), (200 * UNIT, 0));
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn an_upstream_error_costs_the_least_charge_and_teaches_nothing() {
    let mut queue = with_slots(4);
    let ticket = seated(&mut queue);
    queue.release(at(1), ticket, Spent::Nothing);
    assert_eq!(served(&queue), 16 * UNIT);
    let free = Demand { max_output_tokens: None, ..demand(tenant(1, 100), model(1, None)) };
    assert_eq!(queue.try_seat(at(1), &free).unwrap().forecast_tokens, 256);
}

#[test]
fn a_grant_nobody_received_costs_nothing() {
    let mut queue = with_slots(4);
    let before = seated(&mut queue);
    queue.release(at(1), before, Spent::Never);
    assert_eq!(served(&queue), 0);
}

#[test]
fn what_cannot_be_counted_is_charged_by_the_time_it_held_its_slot() {
    let mut queue = with_slots(4);
    let ticket = seated(&mut queue);
    queue.release(at(4), ticket, Spent::Held);
    assert_eq!(served(&queue), 200 * UNIT);
    let ticket = queue.try_seat(at(4), &demand(tenant(1, 100), model(1, None))).unwrap().ticket;
    queue.release(at(4), ticket, Spent::Held);
    assert_eq!(served(&queue), 216 * UNIT);
}

#[test]
fn the_model_factor_multiplies_the_charge() {
    let mut queue = with_slots(4);
    let mut heavy = model(1, None);
    heavy.cost_factor = CostFactor::from_hundredths(425).unwrap();
    let ticket = queue.try_seat(at(0), &demand(tenant(1, 100), heavy)).unwrap().ticket;
    assert_eq!(served(&queue), 200 * 425);
    heavy.cost_factor = CostFactor::ONE;
    queue.set_model(at(0), heavy);
    queue.release(at(1), ticket, AS_FORECAST);
    assert_eq!(served(&queue), 200 * 425, "one request, one factor");
}

#[test]
fn forecasts_follow_the_tenant_on_the_model_then_the_model_then_the_cold_value() {
    let mut queue = with_slots(4);
    let free = |t: u128| Demand { max_output_tokens: None, ..demand(tenant(t, 100), model(1, None)) };
    let mut run = |t: u128, output: u64| {
        let grant = queue.try_seat(at(0), &free(t)).unwrap();
        queue.release(at(0), grant.ticket, Spent::Tokens { prompt: 100, output });
        grant.forecast_tokens
    };
    assert_eq!(run(1, 1000), 256);
    assert_eq!(run(1, 500), 1000);
    assert_eq!(run(2, 10), 900, "of the model");
    assert_eq!(run(1, 900), 900);
    assert_eq!(run(2, 10), 10);
    let clipped = Demand { max_output_tokens: Some(7), answers: 3, ..free(1) };
    assert_eq!(queue.try_seat(at(0), &clipped).unwrap().forecast_tokens, 21);
}

#[test]
fn several_answers_teach_the_length_of_one() {
    let mut queue = with_slots(4);
    let three = Demand { max_output_tokens: None, answers: 3, ..demand(tenant(1, 100), model(1, None)) };
    let ticket = queue.try_seat(at(0), &three).unwrap().ticket;
    queue.release(at(0), ticket, Spent::Tokens { prompt: 100, output: 300 });
    let grant = queue.try_seat(at(0), &Demand { answers: 1, ..three }).unwrap();
    assert_eq!(grant.forecast_tokens, 100);
}

#[test]
fn a_refund_of_older_work_gives_no_credit_after_a_new_activation() {
    let mut queue = with_slots(4);
    let long = Demand { max_output_tokens: Some(256), ..demand(tenant(1, 100), model(1, None)) };
    let old = queue.try_seat(at(0), &long).unwrap().ticket;
    for _ in 0..100 {
        let other = queue.try_seat(at(0), &demand(tenant(2, 100), model(1, None))).unwrap().ticket;
        queue.release(at(0), other, AS_FORECAST);
    }
    let again = queue.try_seat(at(1), &long).unwrap().ticket;
    let floor = queue.tenants.find(&tenant(1, 1).id).unwrap().account.floor;
    queue.release(at(2), old, Spent::Never);
    queue.release(at(2), again, Spent::Never);
    assert_eq!(view(&queue, 1).virtual_time, floor);
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn absurd_token_counts_are_cut_and_nothing_overflows() {
    let mut settings = Settings { slots: 4, ..Settings::default() };
    settings.in_weight = u32::MAX;
    settings.out_weight = u32::MAX;
    settings.cold_forecast_tokens = u64::MAX;
    settings.held_tokens_per_second = u64::MAX;
    let mut queue = FairQueue::new(settings);
    let mut dear = model(1, None);
    dear.cost_factor = CostFactor::from_hundredths(10_000).unwrap();
    let huge = Demand {
        prompt_tokens: u64::MAX,
        max_output_tokens: Some(u64::MAX),
        answers: u32::MAX,
        ..demand(tenant(1, 1), dear)
    };
    for spent in [Spent::Tokens { prompt: u64::MAX, output: u64::MAX }, Spent::Held, Spent::Never] {
        let ticket = queue.try_seat(at(0), &huge).unwrap().ticket;
        queue.progress(at(0), ticket, u64::MAX, u64::MAX);
        queue.release(Moment::from_micros(u64::MAX), ticket, spent);
    }
    queue.set_slots(at(0), 0);
    queue.enqueue(at(0), huge.clone()).unwrap();
    queue.set_tenant(at(0), tenant(1, 1_000_000));
    queue.set_tenant(at(0), tenant(1, 1));
    assert!(view(&queue, 1).virtual_time < 1 << 100);
    assert_eq!(queue.check(), Ok(()));
}

#[test]
fn partial_charges_add_up_to_the_whole_without_drift() {
    let mut queue = with_slots(4);
    let odd = tenant(1, 7);
    let ticket = queue.try_seat(at(0), &demand(odd, model(1, None))).unwrap().ticket;
    for output in 101..300 {
        queue.progress(at(0), ticket, 100, output);
    }
    queue.release(at(0), ticket, Spent::Tokens { prompt: 100, output: 300 });
    assert_eq!(view(&queue, 1).virtual_time, ((400_i128 * 100) << 32) / 7);
}
