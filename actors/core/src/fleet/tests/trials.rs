use super::sim::{Load, Sim, model, secs, tenant};
use crate::fleet::broker::Broker;
use crate::fleet::{Ask, Pool};
use std::collections::BTreeMap;

fn load(tenant: crate::fair_queue::TenantPlan, at: &[usize], backlog: usize) -> Load {
    Load { tenant, model: model(1, None), at: at.to_vec(), backlog, from: 0, till: u64::MAX }
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

/// A question of `replica` about slots alone.
fn question(replica: &str, number: u64, known: (&str, &str), totals: (u64, u64)) -> Ask {
    let of = |count: u64| BTreeMap::from([(Pool::Slots, count)]);
    let (got, back) = totals;
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
        caps: BTreeMap::from([(Pool::Slots, 8)]),
        back: of(back),
        seen: of(got),
        hold: BTreeMap::from([(Pool::Slots, u32::try_from(got - back).unwrap())]),
        wants: Vec::new(),
    }
}

#[test]
fn a_join_that_is_not_heard_of_is_made_again_and_a_late_question_changes_nothing() {
    let mut store = Broker::default();
    let idle = |number, known| Ask { caps: BTreeMap::new(), ..question("b", number, known, (0, 0)) };
    let other = store.exchange(900, &idle(1, ("", "")));
    let first = store.exchange(1_000, &question("a", 1, ("", ""), (8, 0)));
    let known = (first.generation.as_str(), first.membership.as_str());
    store.exchange(1_100, &question("a", 2, known, (8, 4)));
    assert_eq!(store.held(Pool::Slots), 4);
    // It is silent for longer than its lease, joins again, and the answer is lost.
    for number in 2..10 {
        store.exchange(1_200 + 500 * number, &idle(number, (&other.generation, &other.membership)));
    }
    assert_eq!(store.held(Pool::Slots), 0, "a is not known any more");
    store.exchange(5_750, &question("a", 3, known, (8, 4)));
    let again = store.exchange(5_800, &question("a", 4, known, (8, 4)));
    assert!(again.joined);
    assert_eq!((again.got[&Pool::Slots], store.held(Pool::Slots)), (4, 4));
    let known = (again.generation.as_str(), again.membership.as_str());
    let newer = store.exchange(5_900, &question("a", 6, known, (4, 1)));
    let late = store.exchange(6_000, &question("a", 5, known, (4, 3)));
    assert_eq!(late.got, newer.got, "what was said before is not believed");
}
