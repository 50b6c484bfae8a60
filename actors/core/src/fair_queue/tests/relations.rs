//! Runs that must agree with one another.

use super::*;

/// One random course of events; `plan` may alter demands before they are sent. The order of grants.
fn course(
    queue: &mut FairQueue,
    seed: u64,
    steps: u64,
    next: &mut dyn FnMut(&mut Dice) -> Demand,
) -> Vec<(TenantId, u64)> {
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
            order.push((grant.tenant, size));
        }
    }
    assert_eq!(queue.check(), Ok(()));
    order
}

/// A request whose size is known beforehand.
fn sized(dice: &mut Dice, tenant: TenantPlan, model: ModelPlan) -> Demand {
    Demand { prompt_tokens: dice.within(100, 3000), max_output_tokens: Some(0), ..demand(tenant, model) }
}

#[test]
fn multiplying_all_weights_changes_nothing() {
    for seed in 0..10 {
        let run = |times: u32| {
            let mut queue = with_slots(5);
            course(&mut queue, seed, 3000, &mut |dice| {
                let n = dice.small(0, 8);
                let mut plan = tenant(n.into(), (7 + 13 * n) * times);
                plan.group = group(u128::from(n % 3), (10 + n % 3) * times);
                let pool = model(1 + u128::from(dice.below(2)), None);
                sized(dice, plan, pool)
            })
        };
        // LAG is a bound in cost, so that it scales with the weights as well.
        assert_eq!(run(1), run(37), "seed {seed}");
    }
}

#[test]
fn a_factor_common_to_all_models_changes_nothing() {
    for seed in 0..10 {
        let run = |hundredths: u32| {
            let settings = Settings { slots: 5, lag_tokens: 40 * hundredths, ..Settings::default() };
            course(&mut FairQueue::new(settings), seed, 3000, &mut |dice| {
                let n = dice.small(0, 5);
                let mut pool = model(1, None);
                pool.cost_factor = CostFactor::from_hundredths(hundredths).unwrap();
                sized(dice, tenant(u128::from(n), 10 + 5 * n), pool)
            })
        };
        assert_eq!(run(100), run(3700), "seed {seed}");
    }
}

#[test]
fn forgetting_idle_tenants_changes_nothing() {
    for seed in 0..10 {
        let run = |kept: usize| {
            let mut queue = with_slots(3);
            queue.remember_idle(kept);
            let order = course(&mut queue, seed, 6000, &mut |dice| {
                // Most come seldom and are idle in between.
                let n = if dice.one_in(3) { dice.small(0, 399) } else { dice.small(0, 3) };
                let mut plan = tenant(u128::from(n), 10 + n % 7);
                plan.group = group(u128::from(n % 2), 100);
                sized(dice, plan, model(1, None))
            });
            (order, queue.known_tenants())
        };
        let (forgetful, few) = run(0);
        let (faithful, many) = run(usize::MAX);
        assert!(few < many / 2, "{few} {many}");
        assert_eq!(forgetful, faithful, "seed {seed}");
    }
}

#[test]
fn a_flooded_pool_changes_nothing_for_tenants_of_another() {
    let y = model(2, Some(4));
    let run = |flooded: bool| {
        let mut queue = with_slots(100);
        // Enough waits on Y from the start that its own cap is all that holds it back.
        for n in 0..6_u32 {
            for _ in 0..10 {
                queue.enqueue(at(0), demand(tenant(n.into(), 10 + n), y)).unwrap();
            }
        }
        let mut order = Vec::new();
        let mut running = VecDeque::new();
        for step in 0..400_u32 {
            let now = at(step.into());
            if flooded && step % 2 == 0 {
                queue.enqueue(now, demand(tenant(50, 100), model(1, Some(3)))).unwrap();
            }
            queue.enqueue(now, demand(tenant(u128::from(step % 6), 10 + step % 6), y)).unwrap();
            while let Some(Effect::Grant(grant)) = queue.poll_effect() {
                if grant.model == y.id {
                    order.push((grant.tenant, grant.ticket));
                }
                running.push_back(grant.ticket);
            }
            let on_y = |queue: &FairQueue, t: &TicketId| queue.seat_record(*t).unwrap().model.id == y.id;
            let place = running.iter().position(|t| on_y(&queue, t)).unwrap();
            queue.release(now, running.remove(place).unwrap(), AS_FORECAST);
            if flooded
                && step % 3 == 0
                && let Some(place) = running.iter().position(|t| !on_y(&queue, t))
            {
                queue.release(now, running.remove(place).unwrap(), AS_FORECAST);
            }
        }
        order.into_iter().map(|(tenant, _)| tenant).collect::<Vec<_>>()
    };
    let quiet = run(false);
    assert!(quiet.len() > 300);
    assert_eq!(run(true), quiet);
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
