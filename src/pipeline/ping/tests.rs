use super::*;
use futures_util::FutureExt;
use std::future::{pending, poll_fn, ready};
use tokio::time::sleep;

const EVERY: Duration = Duration::from_millis(20);

fn pinging(rest: impl Future<Output = HttpResponse> + 'static) -> Pinging {
    Pinging { way: Way::Before(Box::pin(rest)), every: EVERY, due: Box::pin(sleep_until(Instant::now())) }
}

async fn next(body: &mut Pinging) -> Option<Bytes> {
    poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await.map(|piece| piece.unwrap())
}

fn run(test: impl Future<Output = ()>) {
    actix_web::rt::System::new().block_on(test);
}

#[test]
fn a_client_that_does_not_read_is_owed_one_comment_however_long_it_does_not() {
    run(async {
        let mut body = pinging(pending());
        assert_eq!(next(&mut body).await.unwrap(), PING);
        sleep(EVERY * 5).await;
        assert_eq!(next(&mut body).now_or_never().flatten().unwrap(), PING);
        assert_eq!(next(&mut body).now_or_never(), None);
        assert_eq!(next(&mut body).await.unwrap(), PING);
    });
}

#[test]
fn an_answer_that_is_there_leaves_without_another_comment() {
    run(async {
        let mut body = pinging(ready(HttpResponse::Ok().body("data: x\n\n")));
        assert_eq!(next(&mut body).await.unwrap(), "data: x\n\n");
        assert_eq!(next(&mut body).await, None);
    });
}

#[test]
fn a_head_leaves_only_from_the_queue_and_only_once() {
    let early = Early::new(EVERY, Arc::from("id"));
    assert!(!early.leave() && !early.is_out(), "not in the queue yet");
    early.wait(true);
    early.wait(false);
    assert!(!early.leave(), "past the queue");
    early.wait(true);
    assert!(early.leave() && early.is_out());
    early.wait(false);
    assert!(early.is_out());
}
