//! Runs that must agree with one another.

use super::*;

/// A grant of a course: who got it, the size, and at which tags of the group and of the tenant.
#[derive(Clone, Debug)]
struct Step {
    tenant: TenantId,
    size: u64,
    group: GroupId,
    tags: (i128, i128),
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        (self.tenant, self.size) == (other.tenant, other.size)
    }
}

/// One random course of events. The order of grants.
fn course(
    queue: &mut FairQueue,
    seed: u64,
    steps: u64,
    next: &mut dyn FnMut(&mut Dice) -> Demand,
) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut sizes = std::collections::BTreeMap::new();
    let mut running: Vec<(TicketId, u64)> = Vec::new();
    let mut order = Vec::new();
    for step in 0..steps {
        if dice.below(100) < 52 && queue.queued() < 80 {
            let demand = next(&mut dice);
            let size = demand.prompt_tokens;
            sizes.insert(queue.enqueue(at(step), demand).unwrap(), size);
        } else if !running.is_empty() {
            let (ticket, size) = running.swap_remove(dice.index(running.len()));
            queue.release(at(step), ticket, Spent::Tokens { prompt: size, output: 0 });
        }
        while let Some(effect) = queue.poll_effect() {
            let Effect::Grant(grant) = effect else { panic!("{effect:?}") };
            let size = sizes[&grant.ticket];
            running.push((grant.ticket, size));
            let tenant = queue.tenants.find(&grant.tenant).unwrap();
            let group = queue.groups.at(tenant.group).unwrap();
            let charged = queue.seat_record(grant.ticket).unwrap().charged;
            order.push(Step {
                tenant: grant.tenant,
                size,
                group: group.plan.id,
                tags: (
                    group.account.tag - account::span(charged, group.plan.weight),
                    tenant.account.tag - account::span(charged, tenant.plan.weight),
                ),
            });
        }
    }
    assert_eq!(queue.check(), Ok(()));
    order
}

/// A request whose size is known beforehand.
fn sized(dice: &mut Dice, tenant: TenantPlan, model: ModelPlan) -> Demand {
    Demand { prompt_tokens: dice.within(100, 3000), max_output_tokens: Some(0), ..demand(tenant, model) }
}

/// Invariant 12: only the relation of weights matters.
pub fn multiplying_all_weights_changes_nothing(seed: u64, steps: u32) {
    let run = |times: u32| {
        let mut queue = with_slots(5);
        course(&mut queue, seed, steps.into(), &mut |dice| {
            let n = dice.small(0, 8);
            let mut plan = tenant(n.into(), (7 + 13 * n) * times);
            plan.group = group(u128::from(n % 3), (10 + n % 3) * times);
            let pool = model(1 + u128::from(dice.below(2)), None);
            sized(dice, plan, pool)
        })
    };
    // LAG is a bound in cost, so that it scales with the weights as well.
    assert_same_where_tags_differ(&run(37), &run(1), (37, 1));
}

/// Invariant 12: a factor that all models share changes nothing; inside one pool no factor does.
pub fn a_common_factor_changes_nothing(seed: u64, steps: u32) {
    for pools in [1, 3] {
        let run = |hundredths: u32| {
            let settings = Settings { slots: 5, lag_tokens: 40 * hundredths, ..Settings::default() };
            course(&mut FairQueue::new(settings), seed, steps.into(), &mut |dice| {
                let n = dice.small(0, 5);
                let mut pool = model(dice.below(pools).into(), Some(3));
                pool.cost_factor = CostFactor::from_hundredths(hundredths).unwrap();
                let mut plan = tenant(u128::from(n), 10 + 5 * n);
                plan.group = group(u128::from(n % 2), 10 + n % 2);
                sized(dice, plan, pool)
            })
        };
        assert_same_where_tags_differ(&run(100), &run(3700), (37, 1));
    }
}

/// Invariant 14: a tenant that is forgotten comes back as if it had not been.
pub fn forgetting_idle_tenants_changes_nothing(seed: u64, steps: u32) {
    let run = |kept: usize| {
        let mut queue = with_slots(3);
        queue.remember_idle(kept);
        let order = course(&mut queue, seed, steps.into(), &mut |dice| {
            // Most come seldom and are idle in between.
            let n = if dice.one_in(3) { dice.small(0, 399) } else { dice.small(0, 3) };
            let mut plan = tenant(u128::from(n), 10 + n % 7);
            plan.group = group(u128::from(n % 2), 100);
            plan.max_in_flight = (n % 5 == 1).then_some(1);
            let pool = model(1 + u128::from(n % 2), (n % 2 == 1).then_some(2));
            sized(dice, plan, pool)
        });
        (order, queue.known_tenants())
    };
    let (forgetful, few) = run(0);
    let (faithful, many) = run(usize::MAX);
    assert!(few < many, "{few} {many}");
    assert_same(&forgetful, &faithful);
}

/// Twelve tenants in three groups that always have requests waiting for pool Y and use Y alone, beside a
/// flood of pool X or without one.
struct Flooded {
    queue: FairQueue,
    dice: Dice,
    y: ModelPlan,
    /// Whether forecasts are right.
    exact: bool,
    sent: u32,
    running: VecDeque<(TicketId, Option<u128>)>,
    order: Vec<u128>,
}

impl Flooded {
    fn plan(tenant_number: u128, group_number: u128) -> TenantPlan {
        let n = u32::try_from(group_number).unwrap();
        TenantPlan { group: group(group_number, 30 + 40 * n), ..tenant(tenant_number, 10 + 3 * n) }
    }

    fn send_y(&mut self, n: u128) {
        self.sent += 1;
        let mut demand = demand(Self::plan(n, n % 3), self.y);
        // The size depends on the tenant, so that it does not matter here who sends first.
        demand.prompt_tokens = 50 + 31 * u64::try_from(n).unwrap();
        demand.max_output_tokens = self.exact.then_some(0);
        self.queue.enqueue(at(self.sent.into()), demand).unwrap();
        self.take_grants();
    }

    fn send_x(&mut self, plan: TenantPlan) {
        self.queue.enqueue(at(self.sent.into()), demand(plan, model(1, Some(3)))).unwrap();
        self.take_grants();
    }

    fn take_grants(&mut self) {
        while let Some(effect) = self.queue.poll_effect() {
            let Effect::Grant(grant) = effect else { panic!("{effect:?}") };
            let from = (grant.model == self.y.id).then(|| grant.tenant.0.as_u128());
            self.order.extend(from);
            self.running.push_back((grant.ticket, from));
        }
    }

    /// The oldest request on Y, or on X, ends.
    fn finish(&mut self, on_y: bool) -> Option<u128> {
        let place = self.running.iter().position(|(_, from)| from.is_some() == on_y)?;
        let (ticket, from) = self.running.remove(place)?;
        let prompt = self.queue.seat_record(ticket).unwrap().prompt_tokens;
        let output = if self.exact { 0 } else { self.dice.below(600) * u64::from(on_y) };
        self.queue.release(at(self.sent.into()), ticket, Spent::Tokens { prompt, output });
        self.take_grants();
        from
    }
}

/// Grants on Y. X is flooded by groups of its own, by tenants of the same groups, or not at all.
fn grants_on_y(seed: u64, steps: u32, exact: bool, flood: Option<bool>) -> Vec<u128> {
    let (mut dice, mut other) = (Dice(seed), Dice(!seed));
    let mut run = Flooded {
        queue: with_slots(100),
        y: model(2, Some(dice.small(1, 5))),
        dice: Dice(seed),
        exact,
        sent: 0,
        running: VecDeque::new(),
        order: vec![],
    };
    // So much waits on Y from the start that its own cap is all that holds it back.
    (0..12 * 8).for_each(|n| run.send_y(n % 12));
    for _ in 0..steps {
        if let Some(own_groups) = flood {
            for _ in 0..other.below(3) {
                let n = u128::from(other.below(6));
                run.send_x(Flooded::plan(50 + n, if own_groups { 7 + n % 2 } else { n % 3 }));
            }
            // What ends on X must not use up the dice of Y.
            let dice = Dice(run.dice.0);
            (0..other.below(3)).for_each(|_| _ = run.finish(false));
            run.dice = dice;
        }
        let from = run.finish(true).unwrap();
        run.send_y(from);
    }
    run.order
}

/// Invariant 10: while D is not reached, a flood of pool X changes nothing in the order of grants of those
/// who wait for pool Y alone.
pub fn a_flooded_pool_changes_nothing_elsewhere(seed: u64, steps: u32) {
    let quiet = grants_on_y(seed, steps, false, None);
    assert_same(&grants_on_y(seed, steps, false, Some(true)), &quiet);
    // Who floods X in the name of the same groups uses up their part of the whole. Inside of each group
    // the order stays.
    let quiet = grants_on_y(seed, steps, true, None);
    let shared = grants_on_y(seed, steps, true, Some(false));
    for group in 0..3 {
        let of_group = |order: &[u128]| -> Vec<u128> {
            order.iter().copied().filter(|tenant| tenant % 3 == group).collect()
        };
        let (quiet, shared) = (of_group(&quiet), of_group(&shared));
        let both = quiet.len().min(shared.len());
        assert!(both > 10);
        assert_same(&shared[..both], &quiet[..both]);
    }
}

/// The same grants, up to where the tags that decide differ by less than 1e-6 of a token per weight: there
/// rounding decides, and from there on the courses are two. Tags are multiplied by `scales` first.
fn assert_same_where_tags_differ(one: &[Step], other: &[Step], scales: (i128, i128)) {
    let Some(at) = one.iter().zip(other).position(|(one, other)| one != other) else {
        return assert_eq!(one.len(), other.len());
    };
    let (one, other) = (&one[at], &other[at]);
    let apart = |one: i128, other: i128| (one * scales.0 - other * scales.1).abs();
    let apart = match one.group == other.group {
        true => apart(one.tags.1, other.tags.1),
        false => apart(one.tags.0, other.tags.0),
    };
    assert!(apart * 1_000_000 < Dump::TOKEN * scales.0.max(scales.1), "grant {at}: {one:?} or {other:?}");
    println!("grants {at} and after are not compared");
}

/// Names the first difference only.
fn assert_same<T: PartialEq + std::fmt::Debug>(one: &[T], other: &[T]) {
    let first = one.iter().zip(other).position(|(one, other)| one != other);
    let first = first.map(|at| (at, &one[at], &other[at]));
    assert!(first.is_none(), "grants differ first at {first:?}");
    assert_eq!(one.len(), other.len());
}

#[test]
fn invariant_10_independence_of_pools() {
    for_seeds(0, 40, |seed| a_flooded_pool_changes_nothing_elsewhere(seed, 4000));
}

#[test]
fn invariant_12_weight_scale() {
    for_seeds(0, 40, |seed| multiplying_all_weights_changes_nothing(seed, 4000));
}

#[test]
fn invariant_12_admission_weight_scale() {
    for_seeds(0, 40, |seed| a_common_factor_changes_nothing(seed, 4000));
}

#[test]
fn invariant_14_forgetting() {
    for_seeds(0, 40, |seed| forgetting_idle_tenants_changes_nothing(seed, 4000));
}

#[test]
fn the_same_input_gives_the_same_output() {
    let run = || {
        let mut queue = with_slots(3);
        let order = course(&mut queue, 5, 3000, &mut |dice| {
            let n = dice.small(0, 8);
            sized(dice, tenant(n.into(), 1 + n), model(1 + u128::from(n % 2), Some(2)))
        });
        (order, queue.dump(), queue.operations())
    };
    assert_eq!(run(), run());
}
