use super::sim::{Load, Sim, group_of, model, secs, tenant};
use crate::fair_queue::Refusal;
use crate::fleet::broker::Broker;
use crate::fleet::{Ask, Pool, Report};
use std::collections::BTreeMap;

fn load(tenant: crate::fair_queue::TenantPlan, at: &[usize], backlog: usize) -> Load {
    Load { tenant, model: model(1, None), at: at.to_vec(), backlog, from: 0, till: u64::MAX, length: 1 }
}

/// Tokens of the first load over those of the second, in hundredths.
fn ratio(sim: &Sim) -> u64 {
    sim.served[0] * 100 / sim.served[1].max(1)
}

fn seeds() -> std::ops::Range<u64> {
    0..4
}

#[test]
fn weights_hold_although_each_tenant_enters_elsewhere() {
    for seed in seeds() {
        for replicas in [2, 4] {
            let others: Vec<usize> = (1..replicas).collect();
            let loads = vec![load(tenant(1, 300), &[0], 20), load(tenant(2, 100), &others, 20)];
            let mut sim = Sim::new(seed, replicas, 8, loads);
            sim.run_until(secs(10));
            sim.reset();
            sim.run_until(secs(130));
            assert!(sim.most <= 8, "seed {seed}: {} at once", sim.most);
            let (ratio, used) = (ratio(&sim), sim.use_per_mille());
            assert!((285..=315).contains(&ratio), "seed {seed}, {replicas}: {ratio}");
            assert!(used >= 980, "seed {seed}, {replicas}: {used}");
            assert!(sim.asks < sim.grants * 4, "seed {seed}: {} asks for {} grants", sim.asks, sim.grants);
        }
    }
}

#[test]
fn one_replica_may_have_all_the_slots() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, 4, 8, vec![load(tenant(1, 100), &[2], 30)]);
        sim.run_until(secs(5));
        sim.reset();
        sim.run_until(secs(35));
        let used = sim.use_per_mille();
        assert!(used >= 990 && sim.most <= 8, "seed {seed}: {used}, {}", sim.most);
    }
}

#[test]
fn lost_messages_make_no_slot() {
    for seed in seeds() {
        let loads = vec![load(tenant(1, 300), &[0], 20), load(tenant(2, 100), &[1, 2], 20)];
        let mut sim = Sim::new(seed, 3, 8, loads);
        sim.loss = 20;
        sim.run_until(secs(20));
        sim.loss = 1;
        sim.run_until(secs(30));
        sim.reset();
        sim.run_until(secs(90));
        assert!(sim.most <= 8, "seed {seed}: {} at once", sim.most);
        // A lost call is given up after 250 ms, and until then its replica says nothing.
        assert!(sim.use_per_mille() >= 800, "seed {seed}: {}", sim.use_per_mille());
        assert!((270..=330).contains(&ratio(&sim)), "seed {seed}: {}", ratio(&sim));
    }
}

#[test]
fn caps_are_the_fleets() {
    for seed in seeds() {
        let mut capped = load(tenant(1, 100), &[0, 1, 2], 10);
        capped.tenant.max_in_flight = Some(3);
        let mut narrow = load(tenant(2, 100), &[0, 1, 2], 10);
        narrow.model = model(2, Some(4));
        let rest = load(tenant(3, 100), &[0, 1, 2], 20);
        let pools = [(Pool::Tenant(capped.tenant.id), 3), (Pool::Model(narrow.model.id), 4)];
        let mut sim = Sim::new(seed, 3, 12, vec![capped, narrow, rest]);
        sim.run_until(secs(5));
        sim.reset();
        sim.run_until(secs(35));
        assert!(sim.most <= 12, "seed {seed}: {}", sim.most);
        for (pool, cap) in pools {
            assert_eq!(sim.most_of[&pool], cap, "seed {seed}: {pool}");
        }
        assert!(sim.use_per_mille() >= 960, "seed {seed}: {}", sim.use_per_mille());
    }
}

#[test]
fn slots_of_a_dead_replica_come_back() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, 2, 8, vec![load(tenant(1, 100), &[0, 1], 20)]);
        sim.run_until(secs(10));
        sim.kill(0);
        sim.run_until(secs(14));
        sim.reset();
        sim.run_until(secs(24));
        assert!(sim.use_per_mille() >= 980 && sim.most <= 8, "seed {seed}: {}", sim.use_per_mille());
        sim.start(0);
        sim.wake(0);
        sim.run_until(secs(34));
        assert!(sim.most <= 8, "seed {seed}: {}", sim.most);
    }
}

#[test]
fn without_the_store_each_goes_on_with_what_it_has() {
    for seed in seeds() {
        for empty in [false, true] {
            let loads = vec![load(tenant(1, 300), &[0, 1], 20), load(tenant(2, 100), &[1, 2], 20)];
            let mut sim = Sim::new(seed, 3, 9, loads);
            sim.run_until(secs(10));
            sim.store_up = false;
            sim.run_until(secs(11));
            sim.reset();
            sim.run_until(secs(30));
            // What was on its way back to the store is nobody's until it returns.
            assert!(sim.use_per_mille() >= 550, "seed {seed}: {}", sim.use_per_mille());
            if empty {
                sim.empty_the_store();
            }
            sim.store_up = true;
            sim.run_until(secs(45));
            sim.reset();
            sim.run_until(secs(165));
            assert!(sim.most <= 9, "seed {seed}, {empty}: {} at once", sim.most);
            let (ratio, used) = (ratio(&sim), sim.use_per_mille());
            assert!((280..=320).contains(&ratio), "seed {seed}, {empty}: {ratio}");
            assert!(used >= 980, "seed {seed}, {empty}: {used}");
        }
    }
}

#[test]
fn one_that_is_cut_off_exceeds_by_no_more_than_it_held() {
    for seed in seeds() {
        let mut sim = Sim::new(seed, 3, 9, vec![load(tenant(1, 100), &[0, 1, 2], 20)]);
        sim.run_until(secs(10));
        let held = sim.nodes[0].replica.held(Pool::Slots);
        sim.nodes[0].cut = true;
        sim.run_until(secs(30));
        assert!(sim.most <= 9 + held + 1, "seed {seed}: {} with {held} held", sim.most);
        sim.nodes[0].cut = false;
        sim.run_until(secs(35));
        sim.most = 0;
        sim.reset();
        sim.run_until(secs(55));
        assert!(
            sim.most <= 9 && sim.use_per_mille() >= 980,
            "seed {seed}: {}, {}",
            sim.most,
            sim.use_per_mille()
        );
    }
}

#[test]
fn an_idle_fleet_has_its_slots_at_hand() {
    let mut quiet = load(tenant(1, 100), &[0], 1);
    quiet.till = secs(6);
    let mut sim = Sim::new(1, 2, 8, vec![quiet]);
    sim.run_until(secs(12));
    for node in &sim.nodes {
        assert_eq!(node.replica.held(Pool::Slots), 4);
    }
    let before = sim.asks;
    sim.run_until(secs(13));
    assert!(sim.asks - before <= 24, "{} questions in a second", sim.asks - before);
}

#[test]
fn fewer_slots_hold_although_everybody_waits() {
    for seed in seeds() {
        for replicas in [1, 3] {
            let at: Vec<usize> = (0..replicas).collect();
            let mut narrow = load(tenant(1, 100), &at, 10);
            narrow.model = model(2, Some(6));
            let mut capped = load(tenant(2, 100), &at, 10);
            capped.tenant.max_in_flight = Some(6);
            let mut sim = Sim::new(seed, replicas, 16, vec![narrow, capped, load(tenant(3, 100), &at, 20)]);
            sim.run_until(secs(5));
            sim.set_slots(9);
            sim.loads[0].model = model(2, Some(3));
            sim.loads[1].tenant.max_in_flight = Some(3);
            // The longest request takes 250 ms; then the excess has been called back.
            sim.run_until(secs(6));
            sim.reset();
            (sim.most, sim.most_of) = (0, BTreeMap::new());
            sim.run_until(secs(16));
            assert_eq!(sim.most, 9, "seed {seed}, {replicas}");
            for pool in [Pool::Model(model(2, None).id), Pool::Tenant(tenant(2, 1).id)] {
                assert_eq!(sim.most_of[&pool], 3, "seed {seed}, {replicas}: {pool}");
            }
            assert!(sim.use_per_mille() >= 960, "seed {seed}, {replicas}: {}", sim.use_per_mille());
        }
    }
}

#[test]
fn a_replica_that_stood_still_lets_nobody_in_before_it_has_heard() {
    for seed in seeds() {
        let loads = vec![load(tenant(1, 100), &[0, 1], 20), load(tenant(2, 100), &[0, 1], 20)];
        let mut sim = Sim::new(seed, 2, 8, loads);
        sim.run_until(secs(5));
        for round in 1..6 {
            let end = secs(5 + 10 * round);
            let length = secs(3) + sim.dice.below(secs(3));
            sim.sleep(usize::from(round % 2 == 0), length);
            sim.run_until(end);
            assert!(sim.most <= 8, "seed {seed}, round {round}: {}", sim.most);
        }
        sim.reset();
        sim.run_until(secs(75));
        assert!(sim.use_per_mille() >= 980, "seed {seed}: {}", sim.use_per_mille());
    }
}

#[test]
fn questions_that_come_late_make_no_slot() {
    for seed in seeds() {
        let loads = vec![load(tenant(1, 300), &[0], 20), load(tenant(2, 100), &[1, 2], 20)];
        let mut sim = Sim::new(seed, 3, 8, loads);
        sim.late = 20;
        sim.run_until(secs(60));
        assert!(sim.most <= 8, "seed {seed}: {} at once", sim.most);
        sim.late = 0;
        sim.run_until(secs(70));
        sim.reset();
        sim.run_until(secs(100));
        assert!(sim.most <= 8 && sim.use_per_mille() >= 980, "seed {seed}: {}", sim.use_per_mille());
    }
}

#[test]
fn capped_tenants_and_models_go_on_without_the_store() {
    for seed in seeds() {
        let mut capped = load(tenant(1, 100), &[0, 1], 1);
        capped.tenant.max_in_flight = Some(2);
        let mut single = load(tenant(2, 100), &[0, 1], 1);
        single.tenant.max_in_flight = Some(1);
        let mut narrow = load(tenant(3, 100), &[0, 1], 1);
        narrow.model = model(2, Some(1));
        let tens = load(tenant(4, 100), &[0, 1], 1);
        let mut sim = Sim::new(seed, 2, 12, vec![capped, single, narrow, tens]);
        sim.run_until(secs(10));
        assert_eq!(sim.refused, []);
        sim.store_up = false;
        sim.run_until(secs(14));
        // One of two replicas has the only slot, or it was on its way back to the store and is nobody's until that
        // returns. Those who waited elsewhere are refused when the lease is over.
        let away = sim.refused.len();
        assert!((2..=4).contains(&away), "seed {seed}: {:?}", sim.refused);
        assert!(sim.refused.iter().all(|refusal| *refusal == Refusal::StoreAway { queued: true }));
        sim.reset();
        for load in [1, 2] {
            sim.wake(load);
        }
        sim.run_until(secs(24));
        let at_once = vec![Refusal::StoreAway { queued: false }; away];
        assert_eq!(sim.refused[away..], at_once, "seed {seed}");
        // Ten seconds of requests of 150 ms and 250 tokens, one at a time; of two of them, two at a time.
        let [capped, single, narrow, plain] = sim.served[..] else { unreachable!() };
        let both = [capped, plain].iter().all(|served| (29_000..37_000).contains(served));
        let alone = [single, narrow].iter().filter(|served| (14_000..18_500).contains(*served)).count();
        assert!(both && alone == 4 - away, "seed {seed}: {:?}", sim.served);
        sim.store_up = true;
        sim.run_until(secs(25));
        let refused = sim.refused.len();
        for load in [1, 2] {
            sim.wake(load);
        }
        sim.run_until(secs(34));
        assert_eq!(sim.refused.len(), refused);
        for (pool, cap) in [(Pool::Tenant(tenant(1, 1).id), 2), (Pool::Tenant(tenant(2, 1).id), 1)] {
            assert_eq!(sim.most_of[&pool], cap, "seed {seed}");
        }
    }
}

#[test]
fn a_capped_tenant_alone_costs_no_question() {
    let mut capped = load(tenant(1, 100), &[0], 2);
    capped.tenant.max_in_flight = Some(2);
    let mut sim = Sim::new(1, 1, 8, vec![capped]);
    sim.run_until(secs(10));
    let (asks, grants) = (sim.asks, sim.grants);
    sim.run_until(secs(20));
    let (asks, grants) = (sim.asks - asks, sim.grants - grants);
    // The ticks alone.
    assert!(grants > 100 && asks <= 115, "{asks} questions for {grants}");
}

#[test]
fn what_is_not_held_is_not_kept() {
    let brief = |n: u64| {
        let place = usize::try_from(n % 2).unwrap();
        let mut load = load(tenant(usize::try_from(n).unwrap() + 1, 100), &[place], 1);
        load.tenant.max_in_flight = Some(4);
        (load.from, load.till) = (n * 20_000, n * 20_000 + 150_000);
        load
    };
    let mut sim = Sim::new(1, 2, 16, (0..200).map(brief).collect());
    sim.run_until(secs(6));
    let served = sim.served.iter().filter(|served| **served > 0).count();
    assert!(served == 200 && sim.refused.is_empty(), "{served}, {:?}", sim.refused);
    for node in &sim.nodes {
        // The last 64 are at hand.
        assert!(node.replica.pools().len() <= 66, "{}", node.replica.pools().len());
    }
    assert!(sim.broker.accounts() <= 132, "{}", sim.broker.accounts());
    sim.run_until(secs(310));
    assert_eq!(sim.broker.accounts(), 2, "of the whole alone");
}

#[test]
fn many_capped_tenants_and_models_are_all_heard() {
    let at_one = |n: usize| {
        let mut load = load(tenant(n, 100), &[1], 3);
        (load.tenant.max_in_flight, load.model) = (Some(2), model(n, Some(2)));
        load
    };
    // The first replica has all of them in use when the second begins.
    let mut loads: Vec<Load> = (1..=24).map(at_one).collect();
    let mut early = loads.clone();
    early.iter_mut().for_each(|load| load.at = vec![0]);
    loads.iter_mut().for_each(|load| load.from = secs(2));
    loads.extend(early);
    let mut sim = Sim::new(1, 2, 18, loads);
    sim.run_until(secs(16));
    assert!(sim.asks < sim.grants * 5, "{} asks for {} grants", sim.asks, sim.grants);
    assert!(sim.served[..24].iter().all(|served| *served > 3000), "{:?}", &sim.served[..24]);
}

#[test]
fn a_capped_tenant_has_its_share_beside_one_that_holds_everything_elsewhere() {
    for seed in seeds() {
        let flood = load(tenant(1, 100), &[0], 30);
        let mut capped = load(tenant(2, 100), &[1], 20);
        (capped.tenant.max_in_flight, capped.model) = (Some(6), model(2, Some(5)));
        let mut sim = Sim::new(seed, 2, 8, vec![flood, capped]);
        sim.run_until(secs(10));
        sim.reset();
        sim.run_until(secs(130));
        assert!((93..=107).contains(&ratio(&sim)), "seed {seed}: {}", ratio(&sim));
        assert!(sim.most <= 8 && sim.use_per_mille() >= 980, "seed {seed}: {}", sim.use_per_mille());
    }
}

/// Of one tenant the older request goes first, wherever it waits.
#[test]
fn a_tenant_that_came_to_one_replica_first_is_served_at_the_other_too() {
    for seed in seeds() {
        for cap in [None, Some(2)] {
            let mut first = load(tenant(1, 100), &[0], 30);
            first.tenant.max_in_flight = cap;
            first.length = 20;
            let mut second = Load { at: vec![1], from: secs(20), ..first.clone() };
            second.backlog = 10;
            let mut sim = Sim::new(seed, 2, 4, vec![first, second]);
            sim.run_until(secs(60));
            sim.reset();
            sim.run_until(secs(360));
            // A third as many that wait twice as long get a sixth at least, and no more than a third.
            let ratio = ratio(&sim);
            assert!((280..=660).contains(&ratio), "seed {seed}, {cap:?}: {:?}", sim.served);
        }
    }
}

#[test]
fn groups_share_by_weight_wherever_they_enter() {
    for seed in seeds() {
        let in_group = |n: usize, group: usize, weight: u32, at: &[usize]| {
            let mut load = load(tenant(n, 100), at, 20);
            load.tenant.group = group_of(group, weight);
            load
        };
        let loads =
            vec![in_group(1, 1, 300, &[0]), in_group(2, 2, 100, &[1, 2]), in_group(3, 2, 100, &[0, 2])];
        let mut sim = Sim::new(seed, 3, 8, loads);
        sim.run_until(secs(10));
        sim.reset();
        let (asks, grants) = (sim.asks, sim.grants);
        sim.run_until(secs(70));
        let both = sim.served[1] + sim.served[2];
        let ratio = sim.served[0] * 100 / both;
        assert!((285..=315).contains(&ratio), "seed {seed}: {ratio}");
        let (asks, grants) = (sim.asks - asks, sim.grants - grants);
        assert!(asks < grants * 4 && sim.use_per_mille() >= 970, "seed {seed}: {asks} for {grants}");
        // An outage in which the first group has two replicas' slots against one's does not become a debt.
        sim.store_up = false;
        sim.run_until(secs(130));
        sim.store_up = true;
        sim.run_until(secs(140));
        sim.reset();
        sim.run_until(secs(200));
        let ratio = sim.served[0] * 100 / (sim.served[1] + sim.served[2]);
        assert!((280..=320).contains(&ratio), "seed {seed}, after an outage: {ratio}");
    }
}

/// A question of `replica` about slots alone.
fn question(replica: &str, number: u64, known: (&str, &str), totals: (u64, u64)) -> Ask {
    let (got, back) = totals;
    let held = u32::try_from(got - back).unwrap();
    Ask {
        replica: replica.to_owned(),
        generation: known.0.to_owned(),
        new_generation: format!("{replica}{number}"),
        membership: known.1.to_owned(),
        number,
        new_base: "0".to_owned(),
        leaving: false,
        lease: 3_000,
        quarantine: 0,
        pools: BTreeMap::from([(
            Pool::Slots,
            Report { cap: Some(8), back, seen: got, hold: held, used: held },
        )]),
        wants: Vec::new(),
    }
}

#[test]
fn a_join_that_is_not_heard_of_is_made_again_and_a_late_question_changes_nothing() {
    let mut store = Broker::default();
    let idle = |number, known| Ask { pools: BTreeMap::new(), ..question("b", number, known, (0, 0)) };
    let other = store.exchange(900, &idle(1, ("", "")));
    let first = store.exchange(1_000, &question("a", 1, ("", ""), (8, 0)));
    let known = (first.generation.as_str(), first.membership.as_str());
    store.exchange(1_100, &question("a", 2, known, (8, 4)));
    assert_eq!(store.held(Pool::Slots), 8, "topped up again");
    // It is silent for longer than its lease, joins again, and the answer is lost.
    for number in 2..10 {
        store.exchange(1_200 + 500 * number, &idle(number, (&other.generation, &other.membership)));
    }
    assert_eq!(store.held(Pool::Slots), 0, "a is not known any more");
    let asks = |number, known, totals| {
        let mut ask = question("a", number, known, totals);
        ask.pools.values_mut().for_each(|said| said.cap = None);
        ask
    };
    store.exchange(5_750, &asks(3, known, (8, 4)));
    let again = store.exchange(5_800, &asks(4, known, (8, 4)));
    assert!(again.joined);
    assert_eq!((again.pools[&Pool::Slots].got, store.held(Pool::Slots)), (4, 4));
    let known = (again.generation.as_str(), again.membership.as_str());
    let newer = store.exchange(5_900, &asks(6, known, (4, 1)));
    let late = store.exchange(6_000, &asks(5, known, (4, 3)));
    assert_eq!(late.pools, newer.pools, "what was said before is not believed");
    assert_eq!(store.held(Pool::Slots), 3);
}
