//! Changes of configuration hold from the next grant on.

use super::support::{assert_empty, demand, fairshare, paused, queued, seats, settle, tenant, waiter};
use obleth_actors::fairshare::{Change, NoSeat};
use obleth_core::fair_queue::{Demand, Refusal, TenantPlan};
use obleth_core::ids::TenantId;
use uuid::Uuid;

#[test]
fn more_slots_seat_those_who_wait_and_fewer_hold_the_next_ones_back() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let mut held = seats(&fairshare, 1).await;
        let mut tasks = Vec::new();
        for _ in 0..4 {
            tasks.push(waiter(&fairshare, demand(1)).await);
        }
        fairshare.reconfigure(vec![Change::Slots(3)]).await.unwrap();
        settle().await;
        assert_eq!((fairshare.in_flight(), queued(&fairshare)), (3, 2));
        for task in tasks.drain(..2) {
            held.push(task.await.unwrap().unwrap());
        }
        fairshare.reconfigure(vec![Change::Slots(1)]).await.unwrap();
        held.truncate(1);
        settle().await;
        assert_eq!((fairshare.in_flight(), queued(&fairshare)), (1, 2), "one slot, one seat");
        held.clear();
        for task in tasks {
            drop(task.await.unwrap().unwrap());
        }
        assert_empty(&fairshare);
    });
}

#[test]
fn a_cap_of_a_tenant_holds_from_the_next_grant_on() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        let mut held = seats(&fairshare, 2).await;
        let capped = TenantPlan { max_in_flight: Some(1), ..tenant(1) };
        let first = waiter(&fairshare, demand(1)).await;
        let other = waiter(&fairshare, demand(2)).await;
        fairshare.reconfigure(vec![Change::Tenant(capped)]).await.unwrap();
        held.truncate(1);
        settle().await;
        assert!(!first.is_finished(), "the tenant has its one seat already");
        assert!(other.is_finished(), "the other one takes the slot");
        held.clear();
        drop(other.await.unwrap().unwrap());
        let seat = first.await.unwrap().unwrap();
        let more = waiter(&fairshare, Demand { tenant: capped, ..demand(1) }).await;
        assert!(!more.is_finished());
        drop(seat);
        drop(more.await.unwrap().unwrap());
        assert_empty(&fairshare);
    });
}

#[test]
fn a_suspended_tenants_queue_is_refused_and_its_running_requests_finish() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        let suspended = waiter(&fairshare, demand(1)).await;
        let other = waiter(&fairshare, demand(2)).await;
        fairshare.reconfigure(vec![Change::Suspend(TenantId(Uuid::from_u128(1)))]).await.unwrap();
        let refused = suspended.await.unwrap();
        assert_eq!(refused.err(), Some(NoSeat::Refused(Refusal::Suspended)));
        assert_eq!((fairshare.in_flight(), queued(&fairshare)), (1, 1));
        drop(held);
        drop(other.await.unwrap().unwrap());
        assert_empty(&fairshare);
    });
}
