//! A hard budget under many requests at once.

use super::{Limited, chat, prompt_bound, total};
use crate::support::{Gate, Step, Upstream, chat_answer, run, until};
use futures_util::future::join_all;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const LIMIT: u64 = 50_000;
const BOUND: u64 = 90;
const PROMPT: u64 = 10;
const CLIENTS: usize = 500;

/// Serves as many tokens as it is allowed, and counts them itself.
async fn greedy(gate: Gate, served: Arc<AtomicU64>) -> Upstream {
    Upstream::start(move |seen| {
        let bound = seen.json()["max_tokens"].as_u64().unwrap();
        served.fetch_add(PROMPT + bound, Ordering::SeqCst);
        vec![Step::Wait(Arc::clone(&gate)), Step::Send(chat_answer(PROMPT, bound))]
    })
    .await
}

#[test]
fn five_hundred_at_once_do_not_pass_a_hard_budget_and_who_tries_again_spends_it() {
    run(async {
        let (gate, served): (Gate, _) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let upstream = greedy(Arc::clone(&gate), Arc::clone(&served)).await;
        let limited = Limited::new(&upstream, total(LIMIT)).await;
        let own = prompt_bound(&chat(BOUND)) + BOUND;
        // Everyone asks once, and nothing ends: as many as fit, and no more.
        let fit = usize::try_from(LIMIT / own).unwrap();
        let (refused, done) = (Cell::new(0), Cell::new(false));
        let first = async {
            let ask = || async {
                let answer = limited.chat(BOUND).await;
                if answer.status != 200 {
                    assert_eq!((answer.status, answer.error_code()), (429, "budget_reserved".to_owned()));
                    assert_eq!(answer.header("retry-after"), Some("1"));
                    refused.set(refused.get() + 1);
                }
            };
            join_all((0..CLIENTS).map(|_| ask())).await;
        };
        let watch = async {
            until("all are decided", async || {
                (upstream.seen().len() + refused.get() == CLIENTS).then_some(())
            })
            .await;
            assert_eq!(upstream.seen().len(), fit);
            let reserved = u64::try_from(fit).unwrap() * own;
            assert_eq!(limited.tokens().await, (0, reserved));
            gate.add_permits(1 << 20);
        };
        tokio::join!(first, watch);
        assert_eq!(served.load(Ordering::SeqCst), u64::try_from(fit).unwrap() * (PROMPT + BOUND));
        // Then everyone goes on until there is nothing left to wait for.
        let retry = async {
            join_all((0..CLIENTS).map(|_| retrier(&limited, own))).await;
            done.set(true);
        };
        let sample = async {
            while !done.get() {
                let (used, reserved) = limited.tokens().await;
                assert!(used + reserved <= LIMIT, "{used} + {reserved}");
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::join!(retry, sample);
        let served = served.load(Ordering::SeqCst);
        assert!(served <= LIMIT && served * 10 >= LIMIT * 9, "{served}");
        limited.app.idle().await;
        assert_eq!(limited.tokens().await, (served, 0));
        let metrics = limited.app.metrics().await;
        assert!(
            !metrics.contains("obleth_budget_rejections_total{reason=\"budget_reserved\"} 0"),
            "{metrics}"
        );
        limited.stop().await;
    });
}

/// Asks until the budget is spent, and waits when it is told to.
async fn retrier(limited: &Limited, own: u64) {
    loop {
        let answer = limited.chat(BOUND).await;
        match answer.status {
            200 => {}
            429 => {
                assert_eq!(answer.error_code(), "budget_reserved");
                let seconds = answer.header("retry-after").unwrap().parse().unwrap();
                sleep(Duration::from_secs(seconds)).await;
            }
            402 => {
                assert_eq!(answer.error_code(), "budget_exhausted");
                let left = answer.json()["error"]["budget"]["left"].as_u64().unwrap();
                assert!(left < own, "{left} is enough for {own}");
                return;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
}

#[test]
fn without_a_bound_of_its_own_each_gets_one_that_fits() {
    run(async {
        let (gate, served): (Gate, _) = (Arc::new(Semaphore::new(1 << 20)), Arc::new(AtomicU64::new(0)));
        let upstream = greedy(gate, Arc::clone(&served)).await;
        let limited = Limited::new(&upstream, total(5_000)).await;
        let ask = || async {
            loop {
                let answer = limited.caller.chat("m").await;
                match answer.status {
                    402 => return,
                    429 => sleep(Duration::from_millis(5)).await,
                    _ => _ = answer.expect(200),
                }
            }
        };
        join_all((0..20).map(|_| ask())).await;
        let served = served.load(Ordering::SeqCst);
        assert!(served <= 5_000 && served > 4_700, "{served}");
        limited.stop().await;
    });
}
