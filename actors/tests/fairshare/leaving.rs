//! Callers that vanish: before their message is handled, in the queue, and in the moment of the grant.

use super::support::{Dice, assert_empty, demand, fairshare, paused, queued, seats, settle};
use actix::{Arbiter, System};
use futures_util::FutureExt;
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::Fairshare;
use obleth_core::fair_queue::{Settings, Spent};
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

#[test]
fn a_caller_that_vanishes_before_its_message_is_handled_leaves_nothing_behind() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        for _ in 0..1000 {
            let mut admission = Box::pin(fairshare.admit(demand(1)));
            assert!(admission.as_mut().now_or_never().is_none());
            assert_eq!(fairshare.mailbox_depth(), 1);
            drop(admission);
            settle().await;
            assert_eq!((queued(&fairshare), fairshare.mailbox_depth()), (0, 0));
        }
        drop(held);
        assert_empty(&fairshare);
    });
}

#[test]
fn a_caller_that_vanishes_in_the_queue_frees_its_place_at_once() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        let held = seats(&fairshare, 1).await;
        let mut staying = Box::pin(fairshare.admit(demand(1)));
        assert!(staying.as_mut().now_or_never().is_none());
        for _ in 0..1000 {
            let mut admission = Box::pin(fairshare.admit(demand(1)));
            assert!(admission.as_mut().now_or_never().is_none());
            settle().await;
            assert_eq!(queued(&fairshare), 2);
            drop(admission);
            assert_eq!(queued(&fairshare), 1);
        }
        drop(held);
        drop(staying.await.unwrap());
        assert_empty(&fairshare);
    });
}

#[test]
fn a_seat_granted_to_a_caller_that_vanishes_in_that_moment_goes_to_the_next() {
    paused(|arbiter| async move {
        let fairshare = fairshare(&arbiter, 1).await;
        for _ in 0..1000 {
            let held = seats(&fairshare, 1).await;
            let mut vanishing = Box::pin(fairshare.admit(demand(1)));
            let mut next = Box::pin(fairshare.admit(demand(1)));
            assert!(vanishing.as_mut().now_or_never().is_none());
            assert!(next.as_mut().now_or_never().is_none());
            settle().await;
            // The grant lies in the channel; its receiver never looks.
            drop(held);
            assert_eq!(fairshare.in_flight(), 1);
            drop(vanishing);
            drop(next.now_or_never().expect("the seat came on").unwrap());
            assert_empty(&fairshare);
        }
    });
}

/// One thread's part in the crowd: futures polled and dropped at random, seats held for random whiles.
async fn crowd(fairshare: Fairshare, seed: u64, seats: u64) -> u64 {
    let mut dice = Dice::new(seed);
    let (mut pending, mut held, mut seated, mut rounds) = (Vec::new(), Vec::new(), 0, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while seated < seats {
        assert!(Instant::now() < deadline, "{seated} of {seats} seats in {rounds} rounds");
        rounds += 1;
        if pending.len() < 6 {
            let own = fairshare.clone();
            let tenant = u128::from(dice.below(4)) + 1;
            pending.push(Box::pin(async move { own.admit(demand(tenant)).await }));
        }
        let place = dice.below(pending.len() as u64) as usize;
        match (dice.below(4), pending[place].as_mut().now_or_never()) {
            (_, Some(seat)) => {
                drop(pending.swap_remove(place));
                // A mailbox may be full of messages whose callers have vanished.
                if let Ok(seat) = seat {
                    held.push(seat);
                    seated += 1;
                }
            }
            (0, None) => drop(pending.swap_remove(place)),
            _ => {}
        }
        if held.len() > 2 || (!held.is_empty() && dice.below(3) == 0) {
            let seat = held.swap_remove(dice.below(held.len() as u64) as usize);
            match dice.below(3) {
                0 => drop(seat),
                1 => seat.settle(Spent::Nothing),
                _ => seat.settle(Spent::Tokens { prompt: 10, output: dice.below(100) }),
            }
        }
        // The actor is to have its turn on a machine with few cores, and the futures a fresh budget.
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
    rounds
}

#[test]
fn no_seat_is_lost_when_callers_on_several_threads_come_and_vanish_at_random() {
    const SEED: u64 = 20_260_101;
    println!("seed {SEED}");
    let _system = System::new();
    let arbiter = Arbiter::new();
    let settings = Settings { slots: 3, ..Settings::default() };
    let fairshare = Fairshare::start(&arbiter, Clock::start(), settings, 4096);
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let own = fairshare.clone();
            std::thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(crowd(own, SEED + number, 1000))
            })
        })
        .collect();
    let rounds: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    println!("4000 seats in {rounds} rounds");
    let deadline = Instant::now() + Duration::from_secs(10);
    while fairshare.mailbox_depth() > 0 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_empty(&fairshare);
    arbiter.stop();
}
