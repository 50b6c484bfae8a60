use super::*;
use proptest::prelude::*;
use uuid::Uuid;

const SECOND: u64 = 1_000_000;

fn at(micros: u64) -> Moment {
    Moment::from_micros(micros)
}

fn policy(wait_ms: u32, steps: &[Step]) -> Policy {
    Policy::new(wait_ms, 256, steps.iter().copied()).unwrap()
}

fn waits(millis: u64) -> BTreeMap<Pool, Pressure> {
    let pressure = Pressure { oldest_wait: Duration::from_millis(millis), drain: None };
    BTreeMap::from([(Pool::Slots, pressure)])
}

fn level(brownout: &Brownout, pool: Pool, policy: Policy) -> u8 {
    brownout.rows().find(|row| (row.pool, row.policy) == (pool, policy)).map_or(0, |row| row.level)
}

#[test]
fn steps_are_taken_in_the_order_of_the_policy() {
    let cap = InForce { max_tokens: Some(256), shed: Shed::Nothing };
    let over = |max_tokens| InForce { max_tokens, shed: Shed::OverShare };
    let all = |max_tokens| InForce { max_tokens, shed: Shed::All };
    let none = InForce::default();
    for (steps, forces, taken) in [
        (&[Step::CapTokens][..], &[none, cap, cap][..], &[0, 1, 1][..]),
        (&[Step::Shed], &[none, over(None), all(None), all(None)], &[0, 1, 1, 1]),
        (&[Step::CapTokens, Step::Shed], &[none, cap, over(Some(256)), all(Some(256))], &[0, 1, 2, 2]),
        (&[Step::Shed, Step::CapTokens], &[none, over(None), all(None), all(Some(256))], &[0, 1, 1, 2]),
        (&[Step::Shed, Step::Shed], &[none, over(None), all(None), all(None)], &[0, 1, 1, 1]),
    ] {
        let policy = policy(750, steps);
        for (level, force) in (0..).zip(forces) {
            assert_eq!(policy.at(level), *force, "{steps:?} at {level}");
        }
        let counts: Vec<usize> = (0..).map(|level| policy.taken(level).count()).take(taken.len()).collect();
        assert_eq!(counts, taken, "{steps:?}");
    }
    assert_eq!(Policy::new(750, 256, []), None);
}

#[test]
fn it_climbs_while_the_pressure_lasts_and_comes_down_when_it_has_gone() {
    let policy = policy(750, &[Step::CapTokens, Step::Shed]);
    let policies = BTreeSet::from([policy]);
    let mut brownout = Brownout::default();
    for (second, wait, wanted) in [
        (0, 750, 0),
        (1, 751, 1),
        (2, 9000, 1),
        (5, 9000, 1),
        (6, 9000, 2),
        // Between half and the whole nothing moves, however long.
        (12, 750, 2),
        (60, 375, 2),
        (61, 751, 3),
        (99, 9000, 3),
        (100, 374, 2),
        (104, 0, 2),
        (105, 0, 1),
        (110, 0, 0),
    ] {
        brownout.observe(at(second * SECOND), &policies, &waits(wait));
        assert_eq!(level(&brownout, Pool::Slots, policy), wanted, "at {second} s");
    }
    // Given up, but too short ago to be taken again; then it is forgotten.
    brownout.observe(at(114 * SECOND), &policies, &waits(9000));
    assert_eq!((level(&brownout, Pool::Slots, policy), brownout.at_rest()), (0, false));
    assert!(!brownout.observe(at(115 * SECOND), &policies, &BTreeMap::new()));
    assert!(brownout.at_rest());
    assert!(brownout.observe(at(116 * SECOND), &policies, &waits(9000)));
}

#[test]
fn each_policy_and_pool_is_by_itself_and_goes_with_its_policy() {
    let (hasty, patient) = (policy(100, &[Step::CapTokens]), policy(1000, &[Step::CapTokens]));
    let both = BTreeSet::from([hasty, patient]);
    let model = Pool::Model(ModelId(Uuid::from_u128(1)));
    let pressure = |millis| Pressure { oldest_wait: Duration::from_millis(millis), drain: None };
    let mut brownout = Brownout::default();
    brownout.observe(at(0), &both, &BTreeMap::from([(Pool::Slots, pressure(500)), (model, pressure(5000))]));
    let levels = |brownout: &Brownout| {
        [(Pool::Slots, hasty), (Pool::Slots, patient), (model, hasty), (model, patient)]
            .map(|(pool, policy)| level(brownout, pool, policy))
    };
    assert_eq!(levels(&brownout), [1, 0, 1, 1]);
    assert!(brownout.observe(at(1), &BTreeSet::from([patient]), &BTreeMap::from([(model, pressure(5000))])));
    assert_eq!(levels(&brownout), [0, 0, 0, 1]);
    assert!(brownout.observe(at(2), &BTreeSet::new(), &BTreeMap::from([(model, pressure(5000))])));
    assert!(brownout.at_rest());
}

#[test]
fn the_pressure_is_the_longer_of_the_wait_that_was_and_the_wait_to_come() {
    let millis = Duration::from_millis;
    for (oldest, drain, wait, reason) in [
        (10, None, 10, Reason::OldestWait),
        (10, Some(10), 10, Reason::OldestWait),
        (10, Some(11), 11, Reason::Drain),
        (0, None, 0, Reason::OldestWait),
    ] {
        let pressure = Pressure { oldest_wait: millis(oldest), drain: drain.map(millis) };
        assert_eq!((pressure.wait(), pressure.reason()), (millis(wait), reason));
    }
}

proptest! {
    /// Whatever is measured and whenever it is looked at.
    #[test]
    fn it_does_not_flap(
        looks in prop::collection::vec((0_u64..4_000, 0_u64..2_500), 1..200),
        wait_ms in 1_u32..2_000,
        both in any::<bool>(),
    ) {
        let steps: &[Step] = if both { &Step::ALL } else { &[Step::Shed] };
        let policy = policy(wait_ms, steps);
        let policies = BTreeSet::from([policy]);
        let (mut brownout, mut now, mut old) = (Brownout::default(), 0, 0_u8);
        let mut moved: Option<u64> = None;
        for (pause, wait) in looks {
            now += pause * 1000;
            let changed = brownout.observe(at(now), &policies, &waits(wait));
            let new = level(&brownout, Pool::Slots, policy);
            prop_assert_eq!(changed, new != old);
            if new != old {
                prop_assert!(new.abs_diff(old) == 1);
                prop_assert!(moved.is_none_or(|moved| now - moved >= 5 * SECOND));
                let up = new > old;
                let due = if up { wait > wait_ms.into() } else { 2 * wait < wait_ms.into() };
                prop_assert!(due, "from {} to {} at {} ms", old, new, wait);
                moved = Some(now);
            }
            prop_assert!(usize::from(new) <= policy.stages().count());
            old = new;
        }
        // Without pressure it leaves by itself, one stage a move, and nothing is kept.
        for _ in 0..=u64::from(old) {
            now += 5 * SECOND;
            brownout.observe(at(now), &policies, &BTreeMap::new());
        }
        prop_assert!(brownout.at_rest());
    }

    /// Under lasting pressure every stage is reached, as soon as the pauses allow.
    #[test]
    fn lasting_pressure_reaches_the_top(pauses in prop::collection::vec(1_u64..3_000, 60..120)) {
        let policy = policy(750, &Step::ALL);
        let policies = BTreeSet::from([policy]);
        let (mut brownout, mut now, mut old) = (Brownout::default(), 0, 0);
        for pause in pauses {
            now += pause * 1000;
            brownout.observe(at(now), &policies, &waits(751));
            let new = level(&brownout, Pool::Slots, policy);
            prop_assert!(new >= old);
            old = new;
        }
        prop_assert!(now < 13 * SECOND + 9 * SECOND || old == 3);
    }
}
