use super::*;

const fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

/// Authenticated in 10 µs, a body of 1 ms, 20 µs in the cache, 30 µs in the budget, 5 ms in the queue, sent
/// 40 µs later; first piece after 9 ms, head 50 µs after that, the rest until 1 s.
fn streamed() -> Timing {
    let mut timing = Timing::new(at(1_000));
    timing.enter(Stage::Resolve, at(1_010));
    timing.step_out(at(1_010));
    timing.step_in(at(2_010));
    timing.enter(Stage::Lookup, at(2_020));
    timing.enter(Stage::Reserve, at(2_040));
    timing.enter(Stage::Admit, at(2_070));
    timing.queued = Duration::from_micros(5_000);
    timing.enter(Stage::Forward, at(7_080));
    timing.sent = Some(at(7_110));
    timing.enter(Stage::Meter, at(15_000));
    timing.first_byte = Some(at(16_110));
    timing.ready = Some(at(16_110));
    timing.answered = Some(at(16_160));
    timing
}

#[test]
fn the_header_names_each_stage_that_was_reached() {
    let shown = |timing: &Timing, now| timing.header(at(now)).unwrap().to_str().unwrap().to_owned();
    let text = "auth;dur=0.01, cache;dur=0.02, budget;dur=0.03, queue;dur=5, upstream;dur=9";
    assert_eq!(shown(&streamed(), 16_160), text);
    let mut refused = Timing::new(at(1_000));
    assert_eq!(shown(&refused, 2_234), "auth;dur=1.234");
    refused.enter(Stage::Resolve, at(1_001));
    refused.enter(Stage::Admit, at(1_100));
    refused.waits_since = Some(at(1_100));
    assert_eq!(shown(&refused, 9_000), "auth;dur=0.001", "the wait goes on");
    refused.waits_since = None;
    refused.queued = Duration::from_micros(1_200_300);
    assert_eq!(shown(&refused, 9_000), "auth;dur=0.001, queue;dur=1200.3");
}

#[test]
fn the_gateways_own_time_is_without_queue_body_upstream_and_what_follows_the_head() {
    let own = |timing: &Timing, now| timing.own(at(now)).as_micros();
    // 6110 to sending, of which 1000 body and 5000 queue; 50 from the first piece to the head.
    assert_eq!(own(&streamed(), 1_000_000), 160);
    let mut whole = streamed();
    whole.answered = None;
    assert_eq!(own(&whole, 16_200), 200, "an answer that is here as a whole is settled before its head");
    whole.ready = None;
    assert_eq!(own(&whole, 900_000), 110, "the upstream never answered");
    let mut refused = Timing::new(at(0));
    refused.enter(Stage::Resolve, at(10));
    assert_eq!(own(&refused, 300), 300);
    refused.step_out(at(20));
    assert_eq!(own(&refused, 300), 20, "the client left within its body");
}

#[test]
fn a_stage_lasts_until_the_next_one_that_was_reached() {
    let mut timing = streamed();
    timing.enter(Stage::Settle, at(1_000_000));
    timing.enter(Stage::Meter, at(999_999));
    let seen: Vec<_> = timing
        .stages(at(1_000_020))
        .map(|(stage, begin, end)| (stage.name(), begin.as_micros(), end.as_micros()))
        .collect();
    assert_eq!(
        seen,
        [
            ("authenticate", 1_000, 1_010),
            ("resolve", 1_010, 2_020),
            ("lookup", 2_020, 2_040),
            ("reserve", 2_040, 2_070),
            ("admit", 2_070, 7_080),
            ("forward", 7_080, 1_000_000),
            ("meter", 15_000, 1_000_000),
            ("settle", 1_000_000, 1_000_020),
        ]
    );
    let mut refused = Timing::new(at(0));
    refused.enter(Stage::Resolve, at(5));
    refused.enter(Stage::Settle, at(9));
    let seen: Vec<_> = refused.stages(at(11)).map(|(stage, ..)| stage).collect();
    assert_eq!(seen, [Stage::Authenticate, Stage::Resolve, Stage::Settle]);
}
