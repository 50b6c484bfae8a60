//! `retry-after` from the outside: near what the queue over the share of the pace says, and true.

use crate::support::{Answer, Caller, Mock, TestApp, run, until};
use futures_util::future::{AbortHandle, abortable};
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// So many connections that send one request after the other, refused or not.
fn flood(caller: &Caller, connections: usize) -> Vec<AbortHandle> {
    let one = |_| {
        let caller = caller.clone();
        let (work, handle) = abortable(async move {
            loop {
                if caller.chat("m").await.status != 200 {
                    sleep(Duration::from_millis(50)).await;
                }
            }
        });
        actix_rt::spawn(work);
        handle
    };
    (0..connections).map(one).collect()
}

fn seconds(refused: &Answer) -> u64 {
    refused.header("retry-after").unwrap().parse().unwrap()
}

/// What the tenant hears once its queue is full.
async fn refused(caller: &Caller) -> Answer {
    until("the queue is full", async || {
        let answer = caller.chat("m").await;
        (answer.status == 429).then_some(answer)
    })
    .await
}

#[test]
fn the_time_to_come_again_is_that_of_the_queue_at_the_share_of_the_group() {
    run(async {
        // 200 ms each, two at a time: ten requests a second.
        let token = Duration::from_millis(20);
        let mock = Mock::start(MockOptions { token, tokens: 10, workers: 1, ..MockOptions::default() });
        let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "2")]).await;
        app.model("m").await;
        app.admin().post("/api/v1/groups", &json!({"name": "large", "weight": 300})).await.expect(201);
        let mut callers = Vec::new();
        for (name, group) in [("quarter", "default"), ("most", "large")] {
            let id = app.tenant(json!({"name": name, "group": group, "max_queued": 12})).await;
            callers.push(app.client(&app.key(&id, json!({"name": name})).await));
        }
        let [quarter, most] = &callers[..] else { panic!("two callers") };
        let (mut its, mut theirs) = (flood(quarter, 16), flood(most, 16));
        let completed = async || mock.stats().await["completed"].as_u64().unwrap();
        until("the pace is known", async || (completed().await >= 40).then_some(())).await;
        // Twelve wait: at 2.5 a second, and at 7.5 a second.
        let told = seconds(&refused(quarter).await);
        let to_most = seconds(&refused(most).await);
        println!("told {told} s for 4.8 s, and {to_most} s for 1.6 s");
        assert!((4..=6).contains(&told), "{told}");
        assert!((1..=3).contains(&to_most), "{to_most}");
        // Who comes when it was told to gets through, while the other tenant goes on. Its own flood would
        // have filled the queue again.
        let asked = Instant::now();
        its.drain(..).for_each(|handle| handle.abort());
        sleep(Duration::from_secs(told)).await;
        let answer = quarter.chat("m").await.expect(200);
        println!("through after {:?}, queued {:?} ms", asked.elapsed(), answer.header("x-obleth-queue-ms"));
        let queued: u64 = answer.header("x-obleth-queue-ms").unwrap().parse().unwrap();
        assert!(queued < 1500, "{queued}");
        theirs.drain(..).for_each(|handle| handle.abort());
        app.idle().await;
        app.stop().await;
        mock.stop().await;
    });
}
