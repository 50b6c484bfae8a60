//! Caps of keys that come, change and go while requests of the keys wait and run.

use super::*;
use std::collections::BTreeMap;

/// A tenant with three keys on two models, driven at random; every invariant after every step.
fn drive(seed: u64) -> u32 {
    let mut dice = Dice(seed);
    let mut queue = FairQueue::new(Settings { slots: 5, max_queued: 30, ..Settings::default() });
    let mut caps = [NO_CAP; 3];
    let (mut running, mut waiting) = (BTreeMap::<TicketId, usize>::new(), BTreeMap::<TicketId, usize>::new());
    let mut held_back = 0;
    for step in 0..4000 {
        let now = at(step);
        let number = dice.index(3);
        let name = key(u128::try_from(number).unwrap());
        match dice.below(10) {
            0..=4 => {
                let pool = model(dice.below(2).into(), None);
                let asked = Demand { key: Some((name, caps[number])), ..demand(tenant(1, 100), pool) };
                if let Ok(ticket) = queue.enqueue(now, asked) {
                    waiting.insert(ticket, number);
                }
            }
            5..=7 if !running.is_empty() => {
                let ticket = *running.keys().nth(dice.index(running.len())).unwrap();
                running.remove(&ticket);
                assert!(queue.release(now, ticket, AS_FORECAST));
            }
            8 if dice.one_in(8) => {
                queue.dismiss_key(now, tenant(1, 100).id, name);
                let gone: Vec<TicketId> = refused(&mut queue).into_iter().map(|(ticket, _)| ticket).collect();
                let own = waiting.iter().filter(|(_, owner)| **owner == number).map(|(ticket, _)| *ticket);
                assert_eq!(gone, own.collect::<Vec<_>>(), "seed {seed}, step {step}");
                waiting.retain(|_, owner| *owner != number);
            }
            8 if !waiting.is_empty() => {
                let ticket = *waiting.keys().nth(dice.index(waiting.len())).unwrap();
                waiting.remove(&ticket);
                assert!(queue.cancel(now, ticket));
            }
            _ => {
                caps[number] = if dice.one_in(4) { NO_CAP } else { dice.small(1, 2) };
                queue.set_key(now, tenant(1, 100).id, name, caps[number]);
            }
        }
        for ticket in granted(&mut queue) {
            let owner = waiting.remove(&ticket).unwrap();
            running.insert(ticket, owner);
            let out = running.values().filter(|other| **other == owner).count();
            assert!(out <= usize::try_from(caps[owner]).unwrap(), "seed {seed}, step {step}");
        }
        let full = |number: usize| {
            let out = running.values().filter(|other| **other == number).count();
            u32::try_from(out).unwrap() >= caps[number]
        };
        if queue.in_flight() < 5 {
            assert!(waiting.values().all(|number| full(*number)), "seed {seed}, step {step}: work waits");
            held_back += u32::from(!waiting.is_empty());
        }
    }
    held_back
}

#[test]
fn caps_of_keys_hold_whenever_they_are_set() {
    let held_back: Vec<u32> = (0..10).map(drive).collect();
    println!("steps in which caps held requests back, by seed: {held_back:?}");
    assert!(held_back.iter().all(|steps| *steps > 200));
}
