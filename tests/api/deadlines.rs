//! `x-obleth-deadline-ms`: a request that cannot have its slot in time is told so, at once if that is known.

use crate::support::{Answer, Caller, Mock, Queue, TestApp, Upstream, chat_answer, chat_body, run, until};
use actix_web::http::Method;
use obleth::mock::MockOptions;
use serde_json::json;
use std::time::{Duration, Instant};

async fn chat(caller: &Caller, deadlines: &[&str]) -> Answer {
    let mut request = caller
        .request(Method::POST, "/v1/chat/completions")
        .insert_header(("content-type", "application/json"));
    for deadline in deadlines {
        request = request.append_header(("x-obleth-deadline-ms", *deadline));
    }
    Caller::send(request, chat_body().to_string()).await
}

#[test]
fn a_deadline_is_read_strictly_and_stays_here() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let app = TestApp::start(&upstream).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        for deadlines in [&["0"][..], &["-5"], &["1.5"], &["soon"], &[""], &["86400001"], &["5", "5"]] {
            let refused = chat(&caller, deadlines).await.expect(400);
            assert_eq!(refused.error_code(), "invalid_request", "{deadlines:?}");
            assert_eq!(refused.json()["error"]["param"], "x-obleth-deadline-ms");
            let row = app.row(refused.header("x-request-id").unwrap()).await;
            assert_eq!((&row["status"], &row["admission"]), (&json!(400), &json!("none")));
        }
        assert_eq!(upstream.seen().len(), 0);
        let answer = chat(&caller, &["5000"]).await.expect(200);
        assert_eq!(answer.header("x-obleth-admission"), Some("fast"));
        assert_eq!(upstream.last().header("x-obleth-deadline-ms"), None);
        app.stop().await;
    });
}

#[test]
fn a_deadline_that_passes_in_the_queue_ends_the_wait() {
    run(async {
        let queue = Queue::with(&[("OBLETH_ADMISSION_TIMEOUT_SECS", "1")], |_| Vec::new()).await;
        let asked = Instant::now();
        let refused = chat(&queue.caller, &["400"]).await.expect(503);
        let waited = asked.elapsed();
        assert!((390..900).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!(refused.error_code(), "deadline_unreachable");
        assert_eq!(refused.header("x-obleth-admission"), Some("queued"));
        let queued: u64 = refused.header("x-obleth-queue-ms").unwrap().parse().unwrap();
        assert!((350..900).contains(&queued), "{queued}");
        assert!((1..=60).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
        let row = queue.app.row(refused.header("x-request-id").unwrap()).await;
        assert_eq!((&row["status"], &row["admission"]), (&json!(503), &json!("rejected")));
        assert_eq!(row["error_code"], "deadline_unreachable");
        // A later one than the gateway's own changes nothing.
        let refused = chat(&queue.caller, &["60000"]).await.expect(503);
        assert_eq!(refused.error_code(), "admission_timeout");
        assert_eq!(queue.upstream.seen().len(), 1);
        queue.stop().await;
    });
}

#[test]
fn a_wait_known_to_be_longer_is_refused_at_once() {
    run(async {
        let token = Duration::from_millis(20);
        let mock = Mock::start(MockOptions { token, tokens: 10, workers: 1, ..MockOptions::default() });
        let app = TestApp::at(&mock.base(), &[("OBLETH_GLOBAL_MAX_IN_FLIGHT", "1")]).await;
        app.model("m").await;
        let caller = app.caller("acme").await;
        caller.chat("m").await.expect(200);
        // 200 ms each, one at a time: the last of sixteen waits for 3 s.
        let waiting: Vec<_> = (0..16)
            .map(|_| {
                let own = caller.clone();
                actix_rt::spawn(async move { own.chat("m").await })
            })
            .collect();
        until("they wait", async || (app.queued() == 15).then_some(())).await;
        let seen = mock.stats().await["requests"].clone();
        let asked = Instant::now();
        let refused = chat(&caller, &["1500"]).await.expect(503);
        let took = asked.elapsed();
        println!("refused after {took:?}, to come again in {:?} s", refused.header("retry-after"));
        assert!(took < Duration::from_millis(150), "{took:?}");
        assert_eq!(refused.error_code(), "deadline_unreachable");
        let again: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((2..=5).contains(&again), "{again}");
        assert_eq!(refused.header("x-obleth-queue-ms"), Some("0"));
        assert_eq!(refused.header("x-obleth-admission"), None, "it did not queue");
        let row = app.row(refused.header("x-request-id").unwrap()).await;
        assert_eq!((&row["status"], &row["error_code"]), (&json!(503), &json!("deadline_unreachable")));
        assert_eq!(row["admission"], "rejected");
        // Time enough: it queues and is answered. So is a tenant that has nothing queued.
        let other = app.caller("other").await;
        let patient = chat(&caller, &["20000"]);
        let (patient, light) = tokio::join!(patient, chat(&other, &["1500"]));
        assert_eq!(patient.expect(200).header("x-obleth-admission"), Some("queued"));
        assert_eq!(light.expect(200).header("x-obleth-admission"), Some("queued"));
        assert!(!seen.is_null());
        for answer in waiting {
            answer.await.unwrap().expect(200);
        }
        app.idle().await;
        app.stop().await;
        mock.stop().await;
    });
}
