//! What the scheduler tells of itself: single requests, the gauges, a picture of many tenants.

use super::support::{assert_empty, demand, fairshare, paused, queued, seats, settle};
use futures_util::FutureExt;
use obleth_actors::fairshare::story::{About, End, Telling, Untold};
use obleth_actors::fairshare::{Change, Fairshare};
use obleth_core::fair_queue::{Bound, Demand, NO_CAP, Spent};
use obleth_core::ids::KeyId;
use obleth_core::units::Portion;
use std::time::Duration;
use tokio::time::sleep;
use uuid::Uuid;

fn tell(fairshare: &Fairshare, id: &str, demand: &Demand) -> Telling {
    fairshare.tell(About {
        request_id: id.into(),
        tenant: demand.tenant.id,
        model: demand.model.id,
        at: fairshare.now(),
        unix_micros: 0,
        prompt_tokens: 10,
    })
}

const END: End = End { status: 200, error_code: None, input_tokens: 3, output_tokens: 4, sent: true };

#[test]
fn a_request_is_told_of_from_the_queue_to_its_end() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let at_once = tell(&fairshare, "at once", &demand(1));
        let held = fairshare.admit_by(demand(1), None, Some(&at_once)).await.unwrap();
        let (found, now) = fairshare.explain("at once").unwrap();
        assert!(found.told.seated.is_some_and(|seated| !seated.queued));
        assert_eq!((found.told.position, now), (None, None));
        let telling = tell(&fairshare, "waits", &demand(2));
        let mut admission = Box::pin(fairshare.admit_by(demand(2), None, Some(&telling)));
        assert!(admission.as_mut().now_or_never().is_none());
        let (found, now) = fairshare.explain("waits").unwrap();
        assert_eq!((found.told.position, now), (None, None), "it is on its way");
        settle().await;
        sleep(Duration::from_secs(3)).await;
        let (found, now) = fairshare.explain("waits").unwrap();
        let arrived = found.told.position.unwrap();
        assert_eq!((arrived.bound, arrived.others_waiting), (Bound::Slots, 0));
        assert_eq!(now.unwrap().entitled, Portion::of(1, 2));
        assert_eq!(found.waited(fairshare.now()).as_secs(), 3);
        drop(held);
        let seat = admission.await.unwrap();
        let (found, now) = fairshare.explain("waits").unwrap();
        assert_eq!((found.told.seated.unwrap().waited.as_secs(), now), (3, None));
        sleep(Duration::from_secs(5)).await;
        seat.settle(Spent::Nothing);
        telling.end(fairshare.now(), END);
        let (found, _) = fairshare.explain("waits").unwrap();
        assert_eq!(found.told.end.unwrap().1.output_tokens, 4);
        assert_eq!(found.waited(fairshare.now()).as_secs(), 3);
        assert_eq!(fairshare.explain("no such").err(), Some(Untold { since: None }));
        assert_empty(&fairshare);
    });
}

#[test]
fn one_that_waits_is_told_of_after_a_panic_and_a_crash_too() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        let telling = tell(&fairshare, "waits", &demand(2));
        let mut admission = Box::pin(fairshare.admit_by(demand(2), None, Some(&telling)));
        assert!(admission.as_mut().now_or_never().is_none());
        settle().await;
        for crash in [false, true] {
            if crash {
                fairshare.crash().unwrap();
            } else {
                fairshare.plant_fault();
                assert_eq!(fairshare.dump(), None, "the fault is met");
            }
            let offered = tokio::time::timeout(Duration::from_millis(50), admission.as_mut()).await;
            assert!(offered.is_err(), "it waits again");
            assert_eq!(queued(&fairshare), 1);
            let (found, now) = fairshare.explain("waits").unwrap();
            assert!(found.told.position.is_some() && now.is_some(), "under its new ticket");
        }
        drop(held);
        drop(admission.await.unwrap());
        assert_empty(&fairshare);
    });
}

#[test]
fn a_keys_cap_that_is_set_holds_for_what_waits() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        let key = KeyId(Uuid::from_u128(7));
        let keyed = || Demand { key: Some((key, NO_CAP)), ..demand(1) };
        let first = fairshare.admit(keyed()).await.unwrap();
        let second = fairshare.admit(keyed()).await.unwrap();
        let mut third = Box::pin(fairshare.admit(keyed()));
        assert!(third.as_mut().now_or_never().is_none());
        settle().await;
        fairshare.reconfigure(vec![Change::Key(demand(1).tenant.id, key, 1)]).await.unwrap();
        drop(second);
        settle().await;
        assert!(third.as_mut().now_or_never().is_none(), "the key has its one seat");
        assert_eq!((fairshare.in_flight(), queued(&fairshare)), (1, 1));
        fairshare.reconfigure(vec![Change::Key(demand(1).tenant.id, key, NO_CAP)]).await.unwrap();
        drop(third.await.unwrap());
        drop(first);
        assert_empty(&fairshare);
    });
}

/// Keeps four requests of this tenant waiting or running, each for a second.
async fn flood(fairshare: Fairshare, tenant: u128) {
    let one = async || loop {
        let seat = fairshare.admit(demand(tenant)).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        seat.settle(Spent::Tokens { prompt: 10, output: 10 });
    };
    tokio::join!(one(), one(), one(), one());
}

#[test]
fn the_gauges_follow_a_flood_and_are_computed_every_other_second_at_most() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        let floods: Vec<_> =
            (1..=3).map(|tenant| tokio::task::spawn_local(flood(fairshare.clone(), tenant))).collect();
        settle().await;
        let fresh = fairshare.fairness();
        assert_eq!((fresh.compared, fresh.backlogged, fresh.jain), (0, 3, Portion::WHOLE));
        assert_eq!(fresh.oldest_wait, Duration::ZERO);
        sleep(Duration::from_millis(1900)).await;
        assert_eq!(fairshare.fairness(), fresh, "not yet computed anew");
        sleep(Duration::from_secs(150)).await;
        let seen = fairshare.fairness();
        assert_eq!((seen.compared, seen.backlogged, seen.blocked), (3, 3, 0));
        assert!(seen.jain > Portion::of(99, 100), "{}", seen.jain);
        assert!(seen.oldest_wait > Duration::ZERO && seen.oldest_wait < Duration::from_secs(8));
        floods.iter().for_each(|flood| flood.abort());
        settle().await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(fairshare.fairness().backlogged, 0);
        assert_empty(&fairshare);
    });
}

#[test]
fn a_picture_of_thousands_of_tenants_has_each_of_them_once() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 5000).await;
        let mut held = Vec::new();
        for tenant in 1..=5000 {
            held.push(fairshare.admit(demand(tenant)).await.unwrap());
        }
        let picture = fairshare.picture().unwrap();
        let mut ids: Vec<_> = picture.tenants.iter().map(|row| row.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), picture.tenants.len(), picture.in_flight), (5000, 5000, 5000));
        drop(held);
        assert_empty(&fairshare);
    });
}
