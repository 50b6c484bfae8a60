//! Estimates of a wait, and the time to come again, against what then happens.

use super::*;
use crate::fair_queue::Refusal;
use crate::units::Portion;

/// Requests of a tenant that hold `held` seconds each, with virtual endings.
struct Pool {
    queue: FairQueue,
    /// When each running request ends, in microseconds.
    running: BTreeSet<(u64, TicketId)>,
    granted: Vec<(u64, TicketId)>,
    now: u64,
    held: u64,
}

impl Pool {
    fn new(slots: u32, held_millis: u64) -> Self {
        Self {
            queue: with_slots(slots),
            running: BTreeSet::new(),
            granted: Vec::new(),
            now: 0,
            held: held_millis * 1000,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_micros(self.now)
    }

    fn ask(&mut self, demand: &Demand) -> Option<TicketId> {
        let ticket = match self.queue.try_seat(self.now(), demand) {
            Some(grant) => {
                self.running.insert((self.now + self.held, grant.ticket));
                None
            }
            None => Some(self.queue.enqueue(self.now(), demand.clone()).unwrap()),
        };
        self.seat();
        ticket
    }

    fn seat(&mut self) {
        for ticket in granted(&mut self.queue) {
            self.granted.push((self.now, ticket));
            self.running.insert((self.now + self.held, ticket));
        }
    }

    /// Goes on to the next ending.
    fn step(&mut self) {
        let (end, ticket) = self.running.pop_first().unwrap();
        self.now = end;
        self.queue.release(self.now(), ticket, AS_FORECAST);
        self.seat();
    }

    fn estimate(&self, demand: &Demand) -> f64 {
        self.queue.estimated_wait(self.now(), demand).unwrap().as_secs_f64()
    }

    fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }
}

/// When the tenant whose queue is full may come again.
fn told(queue: &mut FairQueue, now: Moment, demand: Demand) -> Duration {
    match queue.enqueue(now, demand).unwrap_err() {
        Refusal::TenantQueueFull { retry_after } => retry_after,
        other => panic!("{other:?}"),
    }
}

fn full(plan: TenantPlan, model: ModelPlan) -> Demand {
    demand(TenantPlan { max_queued: Some(1), ..plan }, model)
}

#[test]
fn a_free_slot_is_no_wait_whatever_waits_for_a_full_pool() {
    let mut pool = Pool::new(8, 1000);
    let (closed, open) = (model(1, Some(1)), model(2, None));
    (0..10).for_each(|_| _ = pool.ask(&demand(tenant(1, 100), closed)));
    pool.steps(3);
    assert_eq!(pool.estimate(&demand(tenant(1, 100), open)), 0.0);
    assert_eq!(pool.estimate(&demand(tenant(2, 100), open)), 0.0);
    let own = pool.estimate(&demand(tenant(1, 100), closed));
    assert!((6.0..=7.0).contains(&own), "{own}");
}

#[test]
fn one_who_has_nothing_queued_waits_for_the_next_slot() {
    let mut pool = Pool::new(4, 2000);
    for n in 0..20 {
        pool.ask(&demand(tenant(1 + n % 2, 100), model(1, None)));
    }
    assert_eq!(pool.queue.estimated_wait(pool.now(), &demand(tenant(9, 100), model(1, None))), None);
    pool.steps(8);
    let wait = pool.estimate(&demand(tenant(9, 100), model(1, None)));
    assert!((0.2..=0.5).contains(&wait), "{wait}");
}

#[test]
fn a_pool_that_was_half_empty_is_not_taken_for_a_slow_one() {
    let mut pool = Pool::new(8, 1000);
    for _ in 0..50 {
        pool.ask(&demand(tenant(1, 100), model(1, None)));
        pool.step();
    }
    (0..24).for_each(|_| _ = pool.ask(&demand(tenant(1, 100), model(1, None))));
    let wait = pool.estimate(&demand(tenant(1, 100), model(1, None)));
    assert!((2.0..=2.2).contains(&wait), "{wait}");
}

#[test]
fn what_came_before_anything_was_known_is_not_taken_for_as_long_as_it_was_forecast() {
    let mut pool = Pool::new(2, 1000);
    // Forecast with 256 tokens, answered with 100.
    let unbounded = Demand { max_output_tokens: None, ..demand(tenant(1, 100), model(1, None)) };
    (0..12).for_each(|_| _ = pool.ask(&unbounded));
    pool.steps(2);
    let wait = pool.estimate(&unbounded);
    assert!((4.0..=4.5).contains(&wait), "8 wait, 2 run: {wait}");
}

#[test]
fn an_upstream_that_hangs_is_seen_before_anything_finishes() {
    let mut pool = Pool::new(1, 1000);
    (0..12).for_each(|_| _ = pool.ask(&demand(tenant(1, 100), model(1, None))));
    pool.steps(4);
    let before = pool.estimate(&demand(tenant(1, 100), model(1, None)));
    pool.now += 20_000_000;
    let after = pool.estimate(&demand(tenant(1, 100), model(1, None)));
    assert!((7.0..=8.0).contains(&before) && (140.0..=160.0).contains(&after), "{before} {after}");
}

#[test]
fn a_pools_queue_is_measured_by_the_pool_and_not_by_what_waits_elsewhere() {
    let mut pool = Pool::new(3, 1000);
    let (narrow, wide) = (model(1, Some(1)), model(2, None));
    (0..21).for_each(|_| _ = pool.ask(&demand(tenant(1, 100), wide)));
    (0..11).for_each(|_| _ = pool.ask(&demand(tenant(2, 100), narrow)));
    pool.steps(9);
    // Of the narrow pool, one request a second; of the rest, two.
    let narrow_queue = u64::from(view(&pool.queue, 2).queued);
    assert!(narrow_queue > 4);
    let now = pool.now();
    let wait = told(&mut pool.queue, now, full(tenant(2, 100), narrow));
    assert_eq!(wait, Duration::from_secs(narrow_queue));
}

#[test]
fn a_cap_of_the_tenant_or_of_the_key_bounds_the_pace() {
    let mut pool = Pool::new(8, 1000);
    let capped = TenantPlan { max_in_flight: Some(2), ..tenant(1, 100) };
    (0..12).for_each(|_| _ = pool.ask(&demand(capped, model(1, None))));
    pool.steps(2);
    let wait = pool.estimate(&demand(capped, model(1, None)));
    assert!((4.0..=4.5).contains(&wait), "8 wait, 2 run: {wait}");
    let now = pool.now();
    let again =
        Demand { tenant: TenantPlan { max_queued: Some(1), ..capped }, ..demand(capped, model(1, None)) };
    assert_eq!(told(&mut pool.queue, now, again), Duration::from_secs(4));

    let mut pool = Pool::new(8, 1000);
    let keyed = Demand { key: Some((key(1), 1)), ..demand(tenant(1, 100), model(1, None)) };
    (0..6).for_each(|_| _ = pool.ask(&keyed));
    pool.steps(1);
    let wait = pool.estimate(&keyed);
    assert!((4.0..=5.0).contains(&wait), "4 wait, 1 runs: {wait}");
    assert_eq!(pool.estimate(&demand(tenant(1, 100), model(1, None))), 0.0, "another key of the tenant");
}

#[test]
fn retry_after_takes_the_share_of_the_group_and_lies_within_its_bounds() {
    let mut pool = Pool::new(4, 1000);
    let of = |n, weight, group| TenantPlan { group, ..tenant(n, weight) };
    let (small, large) = (group(1, 100), group(2, 300));
    let tenants = [of(1, 100, small), of(2, 300, small), of(3, 100, large)];
    for _ in 0..80 {
        tenants.iter().for_each(|plan| _ = pool.ask(&demand(*plan, model(1, None))));
    }
    pool.steps(60);
    // Four requests a second; of them 1/16, 3/16 and 12/16.
    for ((n, plan), turns) in (1..).zip(tenants).zip([4.0, 4.0 * 3.0, 4.0 * 12.0]) {
        let queued = view(&pool.queue, n).queued;
        let exact = f64::from(queued) * 16.0 / turns;
        let now = pool.now();
        let told = told(&mut pool.queue, now, full(plan, model(1, None))).as_secs_f64();
        assert!((told - exact.clamp(1.0, 60.0)).abs() <= 1.0, "{n}: {told} for {exact}");
    }
}

#[test]
fn estimates_come_true() {
    let mut dice = Dice(7);
    let of = |n, weight, group| TenantPlan { group, ..tenant(n, weight) };
    let tenants = [of(1, 100, group(1, 100)), of(2, 200, group(1, 100)), of(3, 100, group(2, 100))];
    let mut pool = Pool::new(4, 1000);
    let mut asked: Vec<(u64, f64, TicketId)> = Vec::new();
    for _ in 0..600 {
        for plan in tenants {
            let of_it = demand(plan, model(1, None));
            let queued =
                pool.queue.dump().tenants.iter().find(|view| view.id == plan.id).map_or(0, |t| t.queued);
            if queued < dice.small(4, 12) {
                let estimate = pool.queue.estimated_wait(pool.now(), &of_it).map(|wait| wait.as_secs_f64());
                if let (Some(ticket), Some(estimate)) = (pool.ask(&of_it), estimate) {
                    asked.push((pool.now, estimate, ticket));
                }
            }
        }
        pool.held = dice.within(800, 1200) * 1000;
        pool.step();
    }
    let granted: std::collections::BTreeMap<TicketId, u64> =
        pool.granted.iter().map(|(at, ticket)| (*ticket, *at)).collect();
    let (mut sum, mut truth, mut worst) = (0.0, 0.0, 0.0_f64);
    for (at, estimate, ticket) in asked.iter().skip(60) {
        let Some(end) = granted.get(ticket) else { continue };
        let waited = Duration::from_micros(end - at).as_secs_f64();
        sum += estimate;
        truth += waited;
        // A second more on both sides: what is measured is whole slots of about a second.
        let off = (estimate + 1.0) / (waited + 1.0);
        worst = worst.max(off).max(1.0 / off);
    }
    println!("estimates {sum:.0} s of {truth:.0} s in {} requests, worst {worst:.2}", asked.len());
    assert!((sum / truth - 1.0).abs() < 0.15, "{sum} of {truth}");
    assert!(worst < 2.0, "{worst}");
}

#[test]
fn a_tenant_sees_where_it_stands_and_nothing_of_the_others() {
    let mut queue = with_slots(4);
    let plan = TenantPlan { max_queued: Some(9), ..tenant(1, 300) };
    let stranger = queue.standing(at(0), &plan, None);
    assert_eq!((stranger.in_flight, stranger.queued, stranger.max_queued), (0, 0, 9));
    assert_eq!((stranger.entitled, stranger.actual), (Portion::WHOLE, Portion::NONE));
    assert_eq!((stranger.estimated_wait, stranger.oldest_wait), (Some(Duration::ZERO), None));
    assert_eq!(stranger.models, []);

    let of = |n, weight, group| demand(TenantPlan { group, ..tenant(n, weight) }, model(2, None));
    (0..2).for_each(|_| _ = queue.try_seat(at(0), &of(2, 100, group(1, 100))).unwrap());
    queue.try_seat(at(0), &of(3, 100, group(2, 300))).unwrap();
    // Three quarters of its group, which has a quarter of the whole.
    assert_eq!(queue.standing(at(0), &plan, None).entitled.billionths(), 187_500_000);
    let keyed = Demand { key: Some((key(1), 1)), ..demand(plan, model(1, None)) };
    queue.try_seat(at(0), &keyed).unwrap();
    assert_eq!(queue.standing(at(0), &plan, None).entitled.billionths(), 187_500_000);
    queue.enqueue(at(1), keyed.clone()).unwrap();
    queue.enqueue(at(3), demand(plan, model(2, None))).unwrap();
    let standing = queue.standing(at(5), &plan, Some(key(1)));
    assert_eq!((standing.in_flight, standing.queued, standing.actual), (1, 2, Portion::of(1, 4)));
    assert_eq!(standing.oldest_wait, Some(Duration::from_secs(4)));
    assert_eq!(standing.key, Some((1, 1)));
    assert_eq!(standing.estimated_wait, None, "nothing was measured");
    let models: Vec<_> = standing.models.iter().map(|on| (on.id, on.in_flight, on.queued)).collect();
    assert_eq!(models, [(model(1, None).id, 1, 1), (model(2, None).id, 0, 1)]);
    assert_eq!(queue.standing(at(5), &plan, Some(key(2))).key, None);
}
