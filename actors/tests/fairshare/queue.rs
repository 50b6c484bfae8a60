//! Seats at once, seats in turn, and deadlines.

use super::support::{assert_empty, demand, fairshare, paused, queued, seats, settle, waiter, with_mailbox};
use futures_util::FutureExt;
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::{Fairshare, NoSeat};
use obleth_core::fair_queue::{Demand, Refusal, Settings, Spent};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[test]
fn a_free_slot_is_given_at_once_without_a_hop() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        let seat = fairshare.admit(demand(1)).now_or_never().expect("no wait").unwrap();
        assert!(!seat.queued());
        assert_eq!(seat.waited(), Duration::ZERO);
        assert_eq!(fairshare.in_flight(), 1);
        seat.settle(Spent::Tokens { prompt: 10, output: 10 });
        assert_empty(&fairshare);
    });
}

#[test]
fn requests_of_a_tenant_are_seated_in_their_order() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..50 {
            let (own, order) = (fairshare.clone(), Arc::clone(&order));
            tasks.push(tokio::task::spawn_local(async move {
                let seat = own.admit(demand(1)).await.unwrap();
                assert!(seat.queued());
                order.lock().unwrap().push(number);
                drop(seat);
            }));
        }
        settle().await;
        assert_eq!(queued(&fairshare), 50);
        assert!(order.lock().unwrap().is_empty());
        drop(held);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        assert_empty(&fairshare);
    });
}

#[test]
fn nobody_slips_past_a_request_that_is_on_its_way_to_the_queue() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        let mut first = Box::pin(fairshare.admit(demand(1)));
        assert!(first.as_mut().now_or_never().is_none());
        // The slot is free again, but the first one's message has not been handled yet.
        drop(held);
        let mut second = Box::pin(fairshare.admit(demand(2)));
        assert!(second.as_mut().now_or_never().is_none(), "the second must not be seated first");
        let seat = first.await.unwrap();
        settle().await;
        assert!(second.as_mut().now_or_never().is_none());
        drop(seat);
        drop(second.await.unwrap());
        assert_empty(&fairshare);
    });
}

#[test]
fn a_full_mailbox_refuses_and_what_it_took_is_served() {
    paused(|arbiter| async move {
        let fairshare = with_mailbox(&arbiter, 1, 4).await;
        let held = seats(&fairshare, 1).await;
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for _ in 0..64 {
            let mut admission = Box::pin(fairshare.admit(demand(1)));
            match admission.as_mut().now_or_never() {
                None => waiting.push(admission),
                Some(Err(NoSeat::Overloaded)) => refused += 1,
                Some(other) => assert!(other.is_err(), "no seat is free: {other:?}"),
            }
        }
        assert!(waiting.len() >= 4 && refused > 0, "{} taken, {refused} refused", waiting.len());
        assert_eq!(waiting.len() + refused, 64);
        settle().await;
        assert_eq!(fairshare.mailbox_depth(), 0);
        assert_eq!(queued(&fairshare) as usize, waiting.len());
        drop(held);
        for admission in waiting {
            drop(admission.await.unwrap());
        }
        assert_empty(&fairshare);
    });
}

#[test]
fn each_deadline_passes_at_its_own_time_and_the_alarm_goes_on_to_later_ones() {
    paused(|arbiter| async move {
        let clock = Clock::start();
        let fairshare = Fairshare::start(&arbiter, clock, Settings { slots: 1, ..Settings::default() }, 64);
        settle().await;
        let held = seats(&fairshare, 1).await;
        let begun = Instant::now();
        let until =
            |millis| Demand { deadline: Some(clock.now() + Duration::from_millis(millis)), ..demand(1) };
        let mut tasks = Vec::new();
        // Not in order: an alarm that is set must give way to an earlier one.
        for millis in [3_600_000, 300, 100, 200] {
            let (own, demand) = (fairshare.clone(), until(millis));
            tasks.push(tokio::task::spawn_local(async move {
                let refused = own.admit(demand).await.err();
                (millis, begun.elapsed(), refused)
            }));
            settle().await;
        }
        for task in tasks {
            let (millis, elapsed, refused) = task.await.unwrap();
            assert!(matches!(refused, Some(NoSeat::Refused(Refusal::Timeout { .. }))), "{refused:?}");
            let due = Duration::from_millis(millis);
            // Timers have a resolution of a millisecond.
            assert!(elapsed >= due && elapsed < due + Duration::from_millis(5), "{millis}: {elapsed:?}");
        }
        assert_eq!(queued(&fairshare), 0);
        drop(held);
        assert_empty(&fairshare);
    });
}

#[test]
fn an_alarm_for_a_request_that_is_gone_is_set_again_for_those_that_wait() {
    paused(|arbiter| async move {
        let clock = Clock::start();
        let fairshare = Fairshare::start(&arbiter, clock, Settings { slots: 1, ..Settings::default() }, 64);
        settle().await;
        let held = seats(&fairshare, 1).await;
        let until =
            |millis| Demand { deadline: Some(clock.now() + Duration::from_millis(millis)), ..demand(1) };
        let begun = Instant::now();
        let granted = waiter(&fairshare, until(100)).await;
        let leaving = waiter(&fairshare, until(200)).await;
        let patient = waiter(&fairshare, until(300)).await;
        leaving.abort();
        drop(held);
        let held = granted.await.unwrap().unwrap();
        // The alarm at 100 ms finds nobody, and so does the next; nothing else wakes the actor.
        let refused = patient.await.unwrap();
        assert!(matches!(refused, Err(NoSeat::Refused(Refusal::Timeout { .. }))), "{refused:?}");
        let elapsed = begun.elapsed();
        assert!(elapsed >= Duration::from_millis(300) && elapsed < Duration::from_millis(305), "{elapsed:?}");
        drop(held);
        assert_empty(&fairshare);
    });
}

#[test]
fn a_request_whose_deadline_has_passed_before_it_queues_is_refused_at_once() {
    paused(|arbiter| async move {
        let clock = Clock::start();
        let fairshare = Fairshare::start(&arbiter, clock, Settings { slots: 1, ..Settings::default() }, 64);
        settle().await;
        let held = seats(&fairshare, 1).await;
        let late = Demand { deadline: Some(clock.now()), ..demand(1) };
        let begun = Instant::now();
        let refused = waiter(&fairshare, late).await.await.unwrap();
        assert!(matches!(refused, Err(NoSeat::Refused(Refusal::Timeout { .. }))), "{refused:?}");
        assert!(begun.elapsed() < Duration::from_millis(5), "{:?}", begun.elapsed());
        drop(held);
        assert_empty(&fairshare);
    });
}

#[test]
fn a_wait_that_would_be_too_long_is_refused_without_a_place_in_the_queue() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let clock = Clock::start();
        let by = |seconds| Some(clock.now() + Duration::from_secs(seconds));
        let seat = fairshare.admit_by(demand(1), by(1), None).await.unwrap();
        // Nothing was measured: nobody is refused by a guess.
        let second = fairshare.clone();
        let second = tokio::task::spawn_local(async move { second.admit(demand(1)).await });
        settle().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        seat.settle(Spent::Tokens { prompt: 10, output: 10 });
        let held = second.await.unwrap().unwrap();
        let third = waiter(&fairshare, demand(1)).await;
        let refused =
            fairshare.admit_by(demand(1), by(11), None).now_or_never().expect("at once").unwrap_err();
        let NoSeat::Unreachable { retry_after } = refused else { panic!("{refused:?}") };
        assert!((12..=20).contains(&retry_after.as_secs()), "{retry_after:?}");
        assert_eq!((queued(&fairshare), fairshare.mailbox_depth()), (1, 0));
        assert!(fairshare.admit_by(demand(1), by(25), None).now_or_never().is_none(), "time enough to queue");
        drop(held);
        drop(third.await.unwrap().unwrap());
        settle().await;
        assert_empty(&fairshare);
    });
}
