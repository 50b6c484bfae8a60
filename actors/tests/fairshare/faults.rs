//! Panics of the core and deaths of the actor: seats come back, nobody hangs, waiters are offered again.

use super::support::{assert_empty, demand, fairshare, paused, queued, seats, settle, waiter};
use futures_util::FutureExt;
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::{Change, Fairshare, NoSeat};
use obleth_core::fair_queue::{Demand, Refusal, Settings, Spent};
use std::time::Duration;
use tokio::time::Instant;

#[test]
fn a_hundred_seats_outlive_a_panic_of_the_core_and_all_come_back() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 100).await;
        let held = seats(&fairshare, 100).await;
        let mut tasks = Vec::new();
        for number in 0..30 {
            tasks.push(waiter(&fairshare, demand(number % 3 + 1)).await);
        }
        fairshare.plant_fault();
        assert_eq!(fairshare.admit(demand(9)).await.err(), Some(NoSeat::Restarting));
        assert_eq!(fairshare.restarts(), 1);
        assert_eq!(fairshare.in_flight(), 100, "the seats are still out");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(queued(&fairshare), 30, "those who waited wait again");
        assert!(tasks.iter().all(|task| !task.is_finished()));
        for (number, seat) in held.into_iter().enumerate() {
            match number % 2 {
                0 => drop(seat),
                _ => seat.settle(Spent::Tokens { prompt: 10, output: 10 }),
            }
        }
        for task in tasks {
            drop(task.await.unwrap().unwrap());
        }
        assert_empty(&fairshare);
    });
}

#[test]
fn a_panic_while_a_seat_is_given_back_does_not_lose_it() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        for late in [false, true] {
            let held = seats(&fairshare, 1).await;
            let task = waiter(&fairshare, demand(2)).await;
            if late {
                fairshare.plant_late_fault()
            } else {
                fairshare.plant_fault()
            }
            drop(held);
            drop(task.await.unwrap().unwrap());
            assert_empty(&fairshare);
        }
        assert_eq!(fairshare.restarts(), 2);
    });
}

#[test]
fn a_panic_at_the_end_of_a_call_loses_neither_a_seat_nor_a_place() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        // The core has given the seat, and nobody holds it yet.
        fairshare.plant_late_fault();
        assert_eq!(fairshare.admit(demand(1)).await.err(), Some(NoSeat::Restarting));
        assert_empty(&fairshare);
        let held = seats(&fairshare, 1).await;
        // The core has noted an approach that never begins.
        fairshare.plant_late_fault();
        assert_eq!(fairshare.admit(demand(1)).await.err(), Some(NoSeat::Restarting));
        assert_eq!(fairshare.mailbox_depth(), 0);
        // The core has queued a request that was on its way.
        let mut admission = Box::pin(fairshare.admit(demand(2)));
        assert!(admission.as_mut().now_or_never().is_none());
        fairshare.plant_late_fault();
        settle().await;
        assert_eq!(fairshare.mailbox_depth(), 0);
        drop(held);
        drop(admission.await.unwrap());
        assert_empty(&fairshare);
        assert_eq!(fairshare.restarts(), 3);
    });
}

#[test]
fn a_crash_of_the_actor_loses_none_who_wait_or_are_on_their_way() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 2).await;
        for _ in 0..20 {
            let held = seats(&fairshare, 2).await;
            let mut tasks = Vec::new();
            for _ in 0..5 {
                tasks.push(waiter(&fairshare, demand(1)).await);
            }
            fairshare.crash().unwrap();
            for _ in 0..5 {
                let own = fairshare.clone();
                let mut admission = Box::pin(async move { own.admit(demand(2)).await });
                assert!(admission.as_mut().now_or_never().is_none());
                tasks.push(tokio::task::spawn_local(admission));
            }
            settle().await;
            assert_eq!(fairshare.in_flight(), 2);
            drop(held);
            for task in tasks {
                drop(task.await.unwrap().unwrap());
            }
            assert_empty(&fairshare);
            // Longer than the longest pause before a restart.
            tokio::time::sleep(Duration::from_secs(6)).await;
        }
        assert_eq!(fairshare.restarts(), 20);
    });
}

#[test]
fn a_crowd_that_comes_back_at_a_restart_finds_the_whole_mailbox() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        fairshare.crash().unwrap();
        let mut tasks = Vec::new();
        for _ in 0..500 {
            let own = fairshare.clone();
            let mut admission = Box::pin(async move { own.admit(demand(1)).await });
            assert!(admission.as_mut().now_or_never().is_none());
            tasks.push(tokio::task::spawn_local(admission));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(queued(&fairshare), 500);
        drop(held);
        for task in tasks {
            drop(task.await.unwrap().unwrap());
        }
        assert_empty(&fairshare);
    });
}

#[test]
fn deadlines_hold_across_a_crash_and_a_reconfiguration_waits_for_the_restart() {
    paused(|arbiter| async move {
        let clock = Clock::start();
        let fairshare = Fairshare::start(&arbiter, clock, Settings { slots: 1, ..Settings::default() }, 64);
        settle().await;
        let held = seats(&fairshare, 1).await;
        let begun = Instant::now();
        let second = Demand { deadline: Some(clock.now() + Duration::from_secs(1)), ..demand(1) };
        let waiting = waiter(&fairshare, second).await;
        let patient = waiter(&fairshare, demand(2)).await;
        fairshare.crash().unwrap();
        fairshare.reconfigure(vec![Change::Slots(1)]).await.unwrap();
        let refused = waiting.await.unwrap();
        assert!(matches!(refused, Err(NoSeat::Refused(Refusal::Timeout { .. }))), "{refused:?}");
        assert!(begun.elapsed() < Duration::from_millis(1010), "{:?}", begun.elapsed());
        drop(held);
        drop(patient.await.unwrap().unwrap());
        assert_empty(&fairshare);
    });
}

#[test]
fn slots_that_were_changed_stay_changed_after_a_panic() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 4).await;
        fairshare.reconfigure(vec![Change::Slots(1)]).await.unwrap();
        fairshare.plant_fault();
        assert_eq!(fairshare.admit(demand(1)).await.err(), Some(NoSeat::Restarting));
        let held = seats(&fairshare, 1).await;
        let task = waiter(&fairshare, demand(1)).await;
        assert!(!task.is_finished());
        drop(held);
        drop(task.await.unwrap().unwrap());
        assert_empty(&fairshare);
    });
}
