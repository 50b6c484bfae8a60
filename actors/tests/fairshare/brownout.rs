//! The brownout follows the pressure by itself, and refuses whom it may in the order it should.

use super::support::{assert_empty, demand, fairshare, paused, queued, seats, settle, tenant, waiter};
use futures_util::FutureExt;
use obleth_actors::fairshare::{Fairshare, NoSeat};
use obleth_actors::guards::Seat;
use obleth_core::brownout::{Policy, Pool, Step};
use obleth_core::fair_queue::{Demand, ModelPlan, Refusal, TenantPlan};
use obleth_core::ids::ModelId;
use obleth_core::registry::{Registry, Tenant, TenantStatus};
use obleth_core::token_budget::Limits;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

/// A registry in which these tenants have these policies.
fn registry(policies: &[(u128, Option<Policy>)]) -> Arc<Registry> {
    let mut registry = Registry::default();
    for (number, brownout) in policies {
        let TenantPlan { id, weight, group, .. } = tenant(*number);
        registry.put_tenant(Tenant {
            id,
            name: "t".into(),
            weight,
            group: group.id,
            status: TenantStatus::Active,
            max_in_flight: None,
            max_queued: None,
            allowed_models: None,
            allowed_tools: None,
            brownout: *brownout,
            limits: Limits::default(),
        });
    }
    Arc::new(registry)
}

fn policy(steps: &[Step]) -> Option<Policy> {
    Policy::new(750, 256, steps.iter().copied())
}

/// What a request of tenant `number` that got its slot now would be left with.
fn cap(fairshare: &Fairshare, number: u128) -> Option<u64> {
    let Demand { tenant, model, .. } = demand(number);
    fairshare.output_cap(tenant.id, model.id)
}

async fn millis(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
    settle().await;
}

#[test]
fn it_enters_above_the_threshold_and_leaves_without_a_request() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        fairshare.follow(registry(&[(1, policy(&[Step::CapTokens])), (2, None)]));
        let held = seats(&fairshare, 1).await;
        let waiting = waiter(&fairshare, demand(1)).await;
        millis(740).await;
        assert_eq!(cap(&fairshare, 1), None);
        millis(300).await;
        assert_eq!((cap(&fairshare, 1), cap(&fairshare, 2)), (Some(256), None));
        let levels = fairshare.brownout();
        let [row] = levels.rows.as_slice() else { panic!("{levels:?}") };
        assert_eq!((row.pool, row.level, row.reason.as_str()), (Pool::Slots, 1, "oldest_wait"));
        drop(held);
        drop(waiting.await.unwrap().unwrap());
        assert_empty(&fairshare);
        millis(4_500).await;
        assert_eq!(cap(&fairshare, 1), Some(256), "5 s between two moves");
        millis(800).await;
        assert_eq!(cap(&fairshare, 1), None);
        millis(6_000).await;
        assert!(fairshare.brownout().rows.is_empty(), "and nothing is kept");
    });
}

#[test]
fn a_full_model_dims_nobody_who_does_not_use_it() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 3).await;
        fairshare.follow(registry(&[(1, policy(&Step::ALL)), (2, policy(&Step::ALL))]));
        let full = |number| {
            let model = ModelPlan { max_in_flight: Some(1), ..demand(number).model };
            Demand { model, ..demand(number) }
        };
        let other = ModelPlan { id: ModelId(Uuid::from_u128(2)), ..demand(2).model };
        let elsewhere = || Demand { model: other, ..demand(2) };
        let _held = fairshare.admit(full(1)).await.unwrap();
        let waiting = waiter(&fairshare, full(1)).await;
        millis(12_000).await;
        let tenant = demand(2).tenant.id;
        assert_eq!(fairshare.output_cap(tenant, full(2).model.id), Some(256));
        assert_eq!(fairshare.output_cap(tenant, other.id), None);
        let [row] = fairshare.brownout().rows.clone()[..] else { panic!("{:?}", fairshare.brownout()) };
        assert_eq!((row.pool, row.level), (Pool::Model(full(1).model.id), 3));
        assert!(matches!(waiting.await.unwrap(), Err(NoSeat::Refused(Refusal::Shed { .. }))));
        assert!(matches!(fairshare.admit(full(2)).await, Err(NoSeat::Shed { .. })));
        let _elsewhere =
            [fairshare.admit(elsewhere()).await.unwrap(), fairshare.admit(elsewhere()).await.unwrap()];
        let waiting = waiter(&fairshare, elsewhere()).await;
        assert!(!waiting.is_finished(), "it waits for a slot, and the slots are not under pressure");
    });
}

#[test]
fn it_goes_on_after_the_actor_died_and_ends_with_its_policy() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let with = registry(&[(1, policy(&[Step::CapTokens]))]);
        fairshare.follow(Arc::clone(&with));
        let held = seats(&fairshare, 1).await;
        let waiting = waiter(&fairshare, demand(1)).await;
        millis(1_100).await;
        assert_eq!(cap(&fairshare, 1), Some(256));
        fairshare.crash().unwrap();
        millis(100).await;
        fairshare.follow(registry(&[(1, None)]));
        assert_eq!(cap(&fairshare, 1), None, "at once, before anybody looks");
        fairshare.follow(with);
        assert_eq!(cap(&fairshare, 1), Some(256));
        drop(held);
        drop(waiting.await.unwrap().unwrap());
        millis(6_000).await;
        assert_eq!(cap(&fairshare, 1), None);
    });
}

#[test]
fn without_a_policy_nobody_looks_and_a_policy_that_comes_later_is_looked_after() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        fairshare.follow(registry(&[(1, None)]));
        let _held = seats(&fairshare, 1).await;
        let _waiting = waiter(&fairshare, demand(1)).await;
        millis(5_000).await;
        assert_eq!(fairshare.brownout().seen.as_micros(), 0);
        fairshare.follow(registry(&[(1, policy(&[Step::CapTokens]))]));
        millis(300).await;
        assert_eq!(cap(&fairshare, 1), Some(256));
    });
}

#[test]
fn those_over_their_share_are_refused_first_then_all_with_the_policy_and_nobody_else() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        let shed = policy(&[Step::Shed]);
        fairshare.follow(registry(&[(1, shed), (2, shed), (3, None)]));
        let mut held = seats(&fairshare, 2).await;
        let mut tasks = Vec::new();
        for number in [1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3] {
            tasks.push((number, waiter(&fairshare, demand(number)).await));
        }
        assert_eq!(queued(&fairshare), 13);
        millis(3_000).await;
        // Two of tenant 1 run. In steps of a look it is left with a third of what there is.
        let refused = |tasks: &[(u128, JoinHandle<Result<Seat, NoSeat>>)]| -> Vec<bool> {
            tasks.iter().map(|(_, task)| task.is_finished()).collect()
        };
        let mut wanted = [false, true, true, true, true, true, true, true, false, false, false, false, false];
        assert_eq!(refused(&tasks), wanted, "the newest of tenant 1");
        // On arrival too: tenant 1 is at its share, the others are below theirs.
        let newcomer = fairshare.admit(demand(1)).now_or_never().expect("no wait");
        assert!(matches!(newcomer, Err(NoSeat::Shed { retry_after }) if retry_after.as_secs() >= 1));
        tasks.push((2, waiter(&fairshare, demand(2)).await));
        tasks.push((3, waiter(&fairshare, demand(3)).await));
        assert_eq!(queued(&fairshare), 8);
        millis(3_500).await;
        wanted[0] = true;
        wanted[8] = true;
        assert_eq!(refused(&tasks[..13]), wanted);
        assert_eq!((tasks[13].1.is_finished(), tasks[14].1.is_finished()), (true, false));
        let newcomer = fairshare.admit(demand(2)).now_or_never().expect("no wait");
        assert!(matches!(newcomer, Err(NoSeat::Shed { .. })));
        assert_eq!((queued(&fairshare), fairshare.mailbox_depth()), (5, 0));
        // The third tenant is served in its turn; then a slot is free, and that is never refused.
        held.clear();
        for (number, task) in tasks {
            match task.await.unwrap() {
                Ok(seat) => {
                    assert_eq!(number, 3);
                    drop(seat);
                }
                Err(NoSeat::Refused(Refusal::Shed { retry_after })) => {
                    assert!(number < 3 && (1..=60).contains(&retry_after.as_secs()));
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        drop(fairshare.admit(demand(1)).now_or_never().expect("no wait").unwrap());
        assert_empty(&fairshare);
    });
}
