use super::*;
use proptest::prelude::*;

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn breaker() -> Breaker {
    Breaker::new(Rules::default())
}

/// One request that fails before its answer. Whether that opened the breaker.
fn fail(breaker: &mut Breaker, now: Moment) -> bool {
    let permit = breaker.admit(now).unwrap();
    breaker.failed(now, &permit)
}

/// One request whose answer begins.
fn answer(breaker: &mut Breaker, now: Moment) -> Permit {
    let mut permit = breaker.admit(now).unwrap();
    breaker.begun(now, &mut permit);
    permit
}

fn opened() -> Breaker {
    let mut breaker = breaker();
    assert_eq!([0; 5].map(|_| fail(&mut breaker, at(0))), [false, false, false, false, true]);
    breaker
}

#[test]
fn five_failures_in_a_row_open_it() {
    let breaker = opened();
    let shown = View { state: State::Open, since: Some(at(0)), failures: 5, retry_at: Some(at(5_000)) };
    assert_eq!(breaker.view(), shown);
    assert_eq!(breaker.look(at(4_999)), Err(at(5_000)));
    assert_eq!(breaker.look(at(5_000)), Ok(()));
}

#[test]
fn an_answer_between_them_begins_the_row_anew() {
    let mut breaker = breaker();
    for _ in 0..3 {
        (0..4).for_each(|_| assert!(!fail(&mut breaker, at(0))));
        answer(&mut breaker, at(0));
    }
    assert_eq!((breaker.view().state, breaker.view().failures), (State::Closed, 0));
}

#[test]
fn answers_that_are_cut_go_on_with_the_row() {
    let mut breaker = breaker();
    let cut = |breaker: &mut Breaker| {
        let permit = answer(breaker, at(0));
        breaker.failed(at(0), &permit)
    };
    assert!(!cut(&mut breaker) && !fail(&mut breaker, at(0)) && !cut(&mut breaker));
    assert_eq!(breaker.view().failures, 3);
    assert!(!fail(&mut breaker, at(0)) && cut(&mut breaker));
}

#[test]
fn a_cut_that_follows_another_answer_is_one_failure() {
    let mut breaker = breaker();
    (0..4).for_each(|_| assert!(!fail(&mut breaker, at(0))));
    let long = answer(&mut breaker, at(0));
    answer(&mut breaker, at(1));
    assert!(!breaker.failed(at(60_000), &long));
    assert_eq!(breaker.view().failures, 1);
}

#[test]
fn many_answers_cut_at_once_open_it() {
    let mut breaker = breaker();
    let permits: Vec<Permit> = (0..5).map(|_| answer(&mut breaker, at(0))).collect();
    let opens: Vec<bool> = permits.iter().map(|permit| breaker.failed(at(1), permit)).collect();
    assert_eq!(opens, [false, false, false, false, true]);
}

#[test]
fn half_of_twenty_within_half_a_minute_open_it() {
    let mixed = |from: u64, step: u64, rounds: usize| {
        let mut breaker = breaker();
        let opened = (0..rounds).position(|round| {
            let now = at(from + step * u64::try_from(round).unwrap());
            answer(&mut breaker, now);
            fail(&mut breaker, now)
        });
        (opened, breaker.view().state)
    };
    assert_eq!(mixed(0, 10, 9), (None, State::Closed), "18 say nothing");
    assert_eq!(mixed(0, 10, 10), (Some(9), State::Open));
    assert_eq!(mixed(3_000, 4_000, 200), (None, State::Closed), "never 20 within 30 s");
    let mut third = breaker();
    for round in 0..200 {
        answer(&mut third, at(round * 10));
        answer(&mut third, at(round * 10));
        assert!(!fail(&mut third, at(round * 10)), "a third is not half");
    }
}

#[test]
fn one_probe_goes_and_the_rest_wait_for_its_word() {
    let mut breaker = opened();
    let mut probe = breaker.admit(at(5_000)).unwrap();
    assert_eq!(breaker.view().state, State::HalfOpen);
    assert_eq!(breaker.admit(at(5_001)).err(), Some(at(10_000)));
    assert_eq!(breaker.look(at(99_000)), Err(at(99_000)), "however long it takes");
    assert!(breaker.begun(at(99_001), &mut probe));
    let shown = View { state: State::Closed, since: Some(at(99_001)), failures: 0, retry_at: None };
    assert_eq!(breaker.view(), shown);
    assert!(!breaker.failed(at(99_002), &probe), "from its answer on it is one like others");
    assert_eq!(breaker.view().failures, 1);
}

#[test]
fn the_pause_doubles_to_a_minute_and_is_short_again_after_an_answer() {
    let mut breaker = opened();
    let mut now = at(0);
    for seconds in [5, 10, 20, 40, 60, 60] {
        let due = now + Duration::from_secs(seconds);
        assert_eq!(breaker.view().retry_at, Some(due));
        assert!(!fail(&mut breaker, due), "it was open before");
        now = due;
    }
    let due = breaker.view().retry_at.unwrap();
    answer(&mut breaker, due);
    (0..5).for_each(|_| _ = fail(&mut breaker, due));
    assert_eq!(breaker.view().retry_at, Some(due + Duration::from_secs(5)));
}

#[test]
fn a_probe_whose_client_leaves_makes_room_for_another_at_once() {
    let mut breaker = opened();
    let probe = breaker.admit(at(5_000)).unwrap();
    breaker.left(at(5_500), &probe);
    assert_eq!((breaker.view().state, breaker.view().failures), (State::Open, 5));
    let mut next = breaker.admit(at(5_500)).unwrap();
    assert!(breaker.begun(at(5_501), &mut next));
}

#[test]
fn a_client_that_leaves_is_neither_good_nor_bad() {
    let mut breaker = breaker();
    for _ in 0..4 {
        fail(&mut breaker, at(0));
        let permit = breaker.admit(at(0)).unwrap();
        breaker.left(at(0), &permit);
    }
    assert_eq!(breaker.view().failures, 4);
    assert!(fail(&mut breaker, at(0)));
}

#[test]
fn what_was_sent_before_a_change_of_state_says_nothing() {
    let mut breaker = breaker();
    let mut early: Vec<Permit> = (0..9).map(|_| breaker.admit(at(0)).unwrap()).collect();
    let mut late = early.split_off(5);
    early.iter().for_each(|permit| _ = breaker.failed(at(0), permit));
    let open = breaker.view();
    assert_eq!(open.state, State::Open);
    assert!(!breaker.begun(at(1), &mut late[0]) && !breaker.failed(at(1), &late[1]));
    breaker.left(at(1), &late[2]);
    assert_eq!(breaker.view(), open);
    answer(&mut breaker, at(5_000));
    let closed = breaker.view();
    assert!(!breaker.begun(at(5_001), &mut late[3]) && !breaker.failed(at(5_001), &late[1]));
    assert_eq!(breaker.view(), closed);
}

#[test]
fn somebody_elses_good_word_closes_it() {
    let mut breaker = opened();
    assert!(breaker.found_well(at(10)));
    assert_eq!((breaker.view().state, breaker.view().failures), (State::Closed, 0));
    assert!(!breaker.found_well(at(11)));
    let mut probing = opened();
    let mut probe = probing.admit(at(5_000)).unwrap();
    assert!(probing.found_well(at(5_001)));
    assert!(!probing.failed(at(5_002), &probe) && !probing.begun(at(5_002), &mut probe));
    assert_eq!((probing.view().state, probing.view().failures), (State::Closed, 0));
}

#[test]
fn without_a_number_it_never_opens() {
    let mut breaker = Breaker::new(Rules { failures: 0, ..Rules::default() });
    assert!((0..1000).all(|_| !fail(&mut breaker, at(0))));
    assert_eq!(breaker.view().state, State::Closed);
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Deed {
    Pass(u64),
    Admit,
    Begin(usize),
    Fail(usize),
    Leave(usize),
    Praise,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => (0..8_000_u64).prop_map(Deed::Pass),
        6 => Just(Deed::Admit),
        3 => any::<usize>().prop_map(Deed::Begin),
        6 => any::<usize>().prop_map(Deed::Fail),
        2 => any::<usize>().prop_map(Deed::Leave),
        1 => Just(Deed::Praise),
    ]
}

/// A request that is out: its permit, and whether it is a probe that nobody has heard of yet.
struct Out {
    permit: Permit,
    probe: bool,
}

/// A history played, its invariants checked after each step.
struct Play {
    breaker: Breaker,
    now: Moment,
    out: Vec<Out>,
}

impl Play {
    fn new() -> Self {
        Self { breaker: breaker(), now: at(0), out: Vec::new() }
    }

    fn admit(&mut self) {
        let before = self.breaker.view();
        match (self.breaker.admit(self.now), before.state) {
            (Ok(permit), state) => {
                let due = before.retry_at.is_some_and(|at| at <= self.now);
                assert!(state == State::Closed || due, "{before:?}");
                self.out.push(Out { permit, probe: state != State::Closed });
            }
            (Err(at), State::Open) => assert!(before.retry_at == Some(at) && at > self.now),
            (Err(at), State::HalfOpen) => assert!(at >= self.now),
            (Err(_), State::Closed) => panic!("a closed breaker lets everything pass"),
        }
    }

    fn play(&mut self, deed: &Deed) {
        let pick = |number: &usize, out: &Vec<Out>| (!out.is_empty()).then(|| number % out.len());
        match deed {
            Deed::Pass(millis) => self.now = self.now + Duration::from_millis(*millis),
            Deed::Admit => self.admit(),
            Deed::Begin(number) => {
                if let Some(place) = pick(number, &self.out) {
                    let out = &mut self.out[place];
                    let closes = self.breaker.begun(self.now, &mut out.permit);
                    assert_eq!(closes, out.probe, "a probe's answer closes, and nothing else");
                    out.probe = false;
                }
            }
            Deed::Fail(number) => {
                if let Some(place) = pick(number, &self.out) {
                    let out = self.out.swap_remove(place);
                    let before = self.breaker.view();
                    let opens = self.breaker.failed(self.now, &out.permit);
                    assert!(!opens || (before.state == State::Closed && !out.probe));
                    if out.probe {
                        assert_eq!(self.breaker.view().state, State::Open);
                    }
                }
            }
            Deed::Leave(number) => {
                if let Some(place) = pick(number, &self.out) {
                    let out = self.out.swap_remove(place);
                    let before = self.breaker.view();
                    self.breaker.left(self.now, &out.permit);
                    assert!(out.probe || self.breaker.view() == before);
                }
            }
            Deed::Praise => {
                self.breaker.found_well(self.now);
                self.out.iter_mut().for_each(|out| out.probe = false);
            }
        }
        self.check();
    }

    fn check(&self) {
        let view = self.breaker.view();
        let probes = self.out.iter().filter(|out| out.probe).count();
        assert_eq!(probes, usize::from(view.state == State::HalfOpen), "half open: one probe is out");
        assert_eq!(view.retry_at.is_some(), view.state == State::Open);
        if let (Some(retry_at), Some(since)) = (view.retry_at, view.since) {
            assert!(retry_at.since(since) <= Duration::from_secs(60));
        }
        if view.state == State::Closed {
            assert!(view.failures < 5, "{view:?}");
        }
    }

    /// Everything that is out ends, time passes, and the upstream is well.
    fn recovers(mut self) {
        for out in std::mem::take(&mut self.out) {
            self.breaker.left(self.now, &out.permit);
        }
        self.now = self.now + Duration::from_secs(60);
        let mut permit = self.breaker.admit(self.now).expect("a request passes a minute later");
        self.breaker.begun(self.now, &mut permit);
        assert_eq!(self.breaker.view().state, State::Closed);
    }
}

/// What the rules say of requests one after the other, told in the plainest way.
fn opens_after(outcomes: &[bool]) -> Option<usize> {
    (0..outcomes.len()).find(|last| {
        let past = &outcomes[..=*last];
        let failed = past.iter().filter(|well| !**well).count();
        let row = past.iter().rev().take_while(|well| !**well).count();
        !past[*last] && (row >= 5 || (past.len() >= 20 && failed * 2 >= past.len()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_history_keeps_the_invariants_and_is_recovered_from(deeds in prop::collection::vec(deed(), 0..160)) {
        let mut play = Play::new();
        deeds.iter().for_each(|deed| play.play(deed));
        play.recovers();
    }

    #[test]
    fn requests_one_after_the_other_open_it_when_the_rules_say(outcomes in prop::collection::vec(any::<bool>(), 0..60)) {
        let mut breaker = breaker();
        let opened = outcomes.iter().position(|well| match well {
            true => {
                answer(&mut breaker, at(0));
                false
            }
            false => fail(&mut breaker, at(0)),
        });
        prop_assert_eq!(opened, opens_after(&outcomes));
    }
}
