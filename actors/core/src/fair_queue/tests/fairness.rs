//! The gauges and the live view's shares, over floods in virtual time.

use super::*;
use crate::units::Portion;
use std::collections::BTreeMap;

/// Tenants that keep so many requests waiting, and slots that serve each request in a second.
struct Flood {
    queue: FairQueue,
    wants: Vec<(Demand, usize)>,
    running: BTreeMap<TicketId, usize>,
    waiting: BTreeMap<TicketId, usize>,
    now: u64,
}

impl Flood {
    fn new(slots: u32, wants: Vec<(Demand, usize)>) -> Self {
        let settings = Settings { slots, ..Settings::default() };
        let (running, waiting) = (BTreeMap::new(), BTreeMap::new());
        Self { queue: FairQueue::new(settings), wants, running, waiting, now: 0 }
    }

    fn second(&mut self) {
        let now = at(self.now);
        for (number, (demand, wanted)) in self.wants.iter().enumerate() {
            let waits = self.waiting.values().filter(|owner| **owner == number).count();
            for _ in waits..*wanted {
                let ticket = self.queue.enqueue(now, demand.clone()).unwrap();
                self.waiting.insert(ticket, number);
            }
        }
        self.granted();
        self.now += 1;
        for ticket in self.running.keys().copied().collect::<Vec<_>>() {
            self.running.remove(&ticket);
            self.queue.release(at(self.now), ticket, AS_FORECAST);
            self.granted_later();
        }
    }

    fn granted(&mut self) {
        for ticket in granted(&mut self.queue) {
            let owner = self.waiting.remove(&ticket).unwrap();
            self.running.insert(ticket, owner);
        }
    }

    /// Slots that a release filled run on to the end of the next second.
    fn granted_later(&mut self) {
        let before: Vec<TicketId> = self.running.keys().copied().collect();
        self.granted();
        assert!(self.running.len() >= before.len());
    }

    fn run(&mut self, seconds: u64) -> Picture {
        for _ in 0..seconds {
            self.second();
        }
        self.picture()
    }

    fn picture(&mut self) -> Picture {
        let mut picture = self.queue.begin_picture(at(self.now));
        while !self.queue.copy_into(&mut picture, 2) {}
        picture
    }
}

fn row(picture: &Picture, n: u128) -> TenantRow {
    let id = TenantId(Uuid::from_u128(n));
    *picture.tenants.iter().find(|row| row.id == id).unwrap()
}

fn actual(picture: &Picture, n: u128) -> u32 {
    Weights::of(picture).actual(picture.recent_cost_of(&row(picture, n))).billionths() / 10_000_000
}

fn entitled(picture: &Picture, n: u128) -> Portion {
    Weights::of(picture).entitled(&row(picture, n))
}

#[test]
fn a_fair_flood_has_an_index_of_nearly_one_once_a_window_has_passed() {
    let of = |n, weight| demand(tenant(n, weight), model(1, None));
    let mut flood = Flood::new(12, vec![(of(1, 100), 20), (of(2, 200), 20), (of(3, 300), 20)]);
    let fresh = flood.run(59).fairness();
    assert_eq!((fresh.jain, fresh.compared), (Portion::WHOLE, 0), "no window has passed");
    let picture = flood.run(61);
    let seen = picture.fairness();
    assert_eq!((seen.compared, seen.backlogged, seen.blocked), (3, 3, 0));
    assert!(seen.jain >= Portion::of(999, 1000), "{}", seen.jain);
    assert_eq!([1, 2, 3].map(|n| entitled(&picture, n)), [1, 2, 3].map(|n| Portion::of(n, 6)));
    assert_eq!([1, 2, 3].map(|n| actual(&picture, n)), [16, 33, 50]);
    assert!(seen.oldest_wait >= Duration::from_secs(1), "{:?}", seen.oldest_wait);
}

#[test]
fn an_unfair_window_is_seen() {
    let of = |n| demand(tenant(n, 100), model(1, None));
    let mut flood = Flood::new(4, vec![(of(1), 9), (of(2), 9)]);
    flood.run(120);
    let mut picture = flood.picture();
    assert!(picture.fairness().jain > Portion::of(99, 100));
    // The same tenants at weights they were not served by.
    picture.tenants.iter_mut().find(|row| row.id.0 == Uuid::from_u128(1)).unwrap().weight = share(300);
    let jain = picture.fairness().jain;
    // x = 2/3 and 2: (8/3)² / (2 × (4/9 + 4)) = 0.8.
    assert!(jain > Portion::of(78, 100) && jain < Portion::of(82, 100), "{jain}");
}

#[test]
fn groups_are_measured_by_their_entitled_share_and_what_members_leave_is_due_to_the_others() {
    let in_group = |n, g, weight| TenantPlan { group: group(g, weight), ..tenant(n, 100) };
    let of = |plan| demand(plan, model(1, None));
    // Group 1 has half of 12 slots. In group 2 one tenant may have three of its six, the other takes the rest.
    let capped = TenantPlan { max_in_flight: Some(3), ..in_group(3, 2, 100) };
    let mut flood =
        Flood::new(12, vec![(of(in_group(1, 1, 100)), 20), (of(in_group(2, 2, 100)), 20), (of(capped), 20)]);
    let picture = flood.run(120);
    let seen = picture.fairness();
    assert_eq!(seen.compared, 2);
    assert!(seen.jain >= Portion::of(998, 1000), "{}", seen.jain);
    assert_eq!(entitled(&picture, 1), Portion::of(1, 2));
    assert_eq!(Weights::of(&picture).entitled_group(GroupId(Uuid::from_u128(2))), Portion::of(1, 2));
    assert_eq!(actual(&picture, 1), 50);
}

#[test]
fn tenants_held_back_by_a_cap_of_their_own_are_not_compared() {
    let capped = TenantPlan { max_in_flight: Some(1), ..tenant(1, 100) };
    let of = |plan| demand(plan, model(1, None));
    let narrow_key = Demand { key: Some((key(1), 1)), ..of(tenant(2, 100)) };
    let mut flood = Flood::new(
        12,
        vec![(of(capped), 9), (narrow_key, 9), (of(tenant(3, 100)), 20), (of(tenant(4, 100)), 20)],
    );
    let seen = flood.run(120).fairness();
    assert_eq!((seen.compared, seen.backlogged, seen.blocked), (2, 4, 1));
    assert!(seen.jain >= Portion::of(999, 1000), "{}", seen.jain);
}

#[test]
fn tenants_of_a_full_model_are_compared_with_each_other_only() {
    let narrow = model(1, Some(2));
    let mut flood = Flood::new(
        12,
        vec![
            (demand(tenant(1, 100), narrow), 9),
            (demand(tenant(2, 100), narrow), 9),
            (demand(tenant(3, 100), model(2, None)), 20),
            (demand(tenant(4, 400), model(3, None)), 20),
        ],
    );
    let picture = flood.run(120);
    let seen = picture.fairness();
    assert_eq!(seen.compared, 4);
    assert!(seen.jain >= Portion::of(998, 1000), "1 slot and 8 slots, each fair in its pool: {}", seen.jain);
    assert!(picture.models.iter().any(|model| model.was_full) && picture.models.iter().any(|m| !m.was_full));
}

#[test]
fn a_changed_weight_starts_the_comparison_anew() {
    let of = |n| demand(tenant(n, 100), model(1, None));
    let mut flood = Flood::new(4, vec![(of(1), 9), (of(2), 9)]);
    assert_eq!(flood.run(120).fairness().compared, 2);
    flood.queue.set_tenant(at(120), tenant(1, 700));
    flood.wants[0].0 = demand(tenant(1, 700), model(1, None));
    assert_eq!(flood.run(30).fairness().compared, 0);
    assert_eq!(flood.run(70).fairness().compared, 2);
    flood.queue.set_group(at(flood.now), group(1, 7));
    flood.wants.iter_mut().for_each(|(demand, _)| demand.tenant.group = group(1, 7));
    assert_eq!(flood.run(30).fairness().compared, 0);
    assert_eq!(flood.run(70).fairness().compared, 2);
}

#[test]
fn the_lag_of_those_who_wait_is_told_in_tokens() {
    let mut queue = with_slots(1);
    occupy(&mut queue, model(1, None));
    queue.enqueue(at(3), demand(tenant(1, 50), model(1, None))).unwrap();
    let place = queue.tenants.place(&TenantId(Uuid::from_u128(1))).unwrap();
    for (tokens, told) in [(7000_i128, 7000), (-300, 300)] {
        let account = &mut queue.tenants.at_mut(place).unwrap().account;
        account.tag = tokens * Dump::TOKEN / 50;
        let mut picture = queue.begin_picture(at(10));
        assert!(queue.copy_into(&mut picture, 100));
        assert_eq!(row(&picture, 1).lag_tokens(), tokens);
        let seen = picture.fairness();
        assert_eq!((seen.max_lag_tokens, seen.oldest_wait), (told, Duration::from_secs(7)));
    }
}

#[test]
fn errors_of_the_forecast_are_told_as_a_part_of_what_was_used() {
    let mut queue = with_slots(4);
    for (output, spent) in [
        (100, Spent::Tokens { prompt: 100, output: 300 }),
        (100, Spent::Tokens { prompt: 100, output: 100 }),
        (100, Spent::Nothing),
    ] {
        let asked = Demand { max_output_tokens: Some(output), ..demand(tenant(1, 100), model(1, None)) };
        let seat = queue.try_seat(at(0), &asked).unwrap().ticket;
        queue.progress(at(0), seat, 100, 250);
        queue.release(at(1), seat, spent);
    }
    // Both forecast 200; one used 400 and one 200.
    assert_eq!(queue.begin_picture(at(2)).fairness().forecast_error_millionths, 333_333);
    assert_eq!(queue.begin_picture(at(100)).fairness().forecast_error_millionths, 0, "long ago");
}

#[test]
fn a_window_forgets_what_is_older_than_ninety_seconds() {
    let mut queue = with_slots(4);
    let seat = queue.try_seat(at(5), &demand(tenant(1, 100), model(1, None))).unwrap().ticket;
    queue.release(at(6), seat, AS_FORECAST);
    let recent = |queue: &mut FairQueue, now| {
        let mut picture = queue.begin_picture(now);
        assert!(queue.copy_into(&mut picture, 100));
        (picture.models[0].recent_cost, picture.recent_cost_of(&row(&picture, 1)))
    };
    assert_eq!(recent(&mut queue, at(6)), (20_000, 20_000));
    assert_eq!(recent(&mut queue, at(89)), (20_000, 20_000));
    assert_eq!(recent(&mut queue, at(90)), (0, 0));
    // A refund of a charge that is not in the window any more does not make anything negative.
    let late = queue.try_seat(at(90), &demand(tenant(1, 100), model(1, None))).unwrap().ticket;
    queue.release(at(200), late, Spent::Never);
    assert_eq!(recent(&mut queue, at(200)), (0, 0));
}

#[test]
fn a_picture_taken_in_pieces_has_every_tenant_once() {
    let mut queue = with_slots(10);
    for n in 1..=9 {
        let plan = TenantPlan { group: group(n % 4, 100), ..tenant(n, 100) };
        queue.try_seat(at(0), &demand(plan, model(n % 3, None))).unwrap();
    }
    for most in [1, 2, 4, 100] {
        let mut picture = queue.begin_picture(at(1));
        let mut pieces = 1;
        while !queue.copy_into(&mut picture, most) {
            pieces += 1;
        }
        assert_eq!(pieces, 9_usize.div_ceil(most));
        assert_eq!((picture.tenants.len(), picture.groups.len(), picture.models.len()), (9, 4, 3));
        assert_eq!(picture.known_tenants, 9);
        assert!(picture.tenants.iter().all(|row| picture.lanes_of(row).len() == 1));
    }
}
