//! What every kind of answer says of the wait before it.

use crate::support::{
    Answer, Caller, Queue, Step, chat_chunks, hang, json as answer, run, sse, stream_body, until,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const CHAT: &str = "/v1/chat/completions";

/// What a request that waits for 100 ms at least is answered in the end.
async fn after_a_wait(steps: Vec<Step>, body: Value) -> (Answer, Value) {
    let queue = Queue::with(&[], move |_| steps.clone()).await;
    let caller = queue.caller.clone();
    let waiting = actix_rt::spawn(async move { caller.post(CHAT, &body).await });
    until("it waits", async || (queue.app.queued() == 1).then_some(())).await;
    sleep(Duration::from_millis(100)).await;
    queue.release();
    let answer = waiting.await.unwrap();
    queue.app.idle().await;
    let row = queue.app.row(answer.header("x-request-id").unwrap()).await;
    queue.stop().await;
    (answer, row)
}

fn waited(answer: &Answer) -> u64 {
    answer.header("x-obleth-queue-ms").unwrap().parse().unwrap()
}

#[test]
fn every_answer_after_a_wait_tells_of_it() {
    run(async {
        let whole = json!({"model": "m", "messages": []});
        let gone = "HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n";
        for (steps, body, status) in [
            (vec![Step::Send(crate::support::chat_answer(1, 1))], &whole, 200),
            (sse(&chat_chunks(&["Hello"], None)), &stream_body(), 200),
            (vec![Step::Send(answer(429, r#"{"error":{"message":"busy"}}"#))], &whole, 429),
            (vec![Step::Send(gone.into())], &stream_body(), 502),
            (vec![Step::Close], &whole, 502),
            (vec![Step::Close], &stream_body(), 502),
        ] {
            let (answer, row) = after_a_wait(steps, body.clone()).await;
            let answer = answer.expect(status);
            assert_eq!(answer.header("x-obleth-admission"), Some("queued"), "{status}");
            assert!((100..5000).contains(&waited(&answer)), "{status}: {}", waited(&answer));
            assert_eq!((&row["admission"], &row["queue_ms"]), (&json!("queued"), &json!(waited(&answer))));
            assert_eq!(answer.header("retry-after").is_some(), status == 429);
        }
    });
}

async fn refused(queue: &Queue, change: impl AsyncFnOnce(&Caller)) -> Answer {
    let caller = queue.caller.clone();
    let waiting = actix_rt::spawn(async move { caller.chat("m").await });
    until("it waits", async || (queue.app.queued() == 1).then_some(())).await;
    sleep(Duration::from_millis(100)).await;
    change(&queue.app.admin()).await;
    waiting.await.unwrap()
}

#[test]
fn refusals_after_a_wait_tell_of_it_too() {
    run(async {
        let queue = Queue::with(&[("OBLETH_ADMISSION_TIMEOUT_SECS", "1")], |_| vec![hang()]).await;
        let late = refused(&queue, async |_| {}).await.expect(503);
        assert_eq!(late.error_code(), "admission_timeout");
        let path = format!("/api/v1/tenants/{}", queue.tenant);
        let suspended = refused(&queue, async |admin| {
            admin.patch(&path, &json!({"status": "suspended"})).await.expect(200);
        });
        let suspended = suspended.await.expect(403);
        queue.app.admin().patch(&path, &json!({"status": "active", "max_queued": 0})).await.expect(200);
        for answer in [&late, &suspended] {
            assert_eq!(answer.header("x-obleth-admission"), Some("queued"));
            assert!((100..3000).contains(&waited(answer)), "{}", waited(answer));
            let row = queue.app.row(answer.header("x-request-id").unwrap()).await;
            assert_eq!((&row["admission"], &row["queue_ms"]), (&json!("rejected"), &json!(waited(answer))));
        }
        // Refused on arrival: it never waited.
        let full = queue.caller.chat("m").await.expect(429);
        assert_eq!(full.error_code(), "tenant_queue_full");
        assert_eq!((full.header("x-obleth-admission"), full.header("x-obleth-queue-ms")), (None, Some("0")));
        assert!((1..=60).contains(&full.header("retry-after").unwrap().parse::<u64>().unwrap()));
        queue.stop().await;
    });
}
