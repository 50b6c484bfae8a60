use super::*;
use crate::pipeline::Stage;
use actix_web::http::header::{HeaderName, HeaderValue};

/// Traces whose channel nobody reads, as if the collector hung.
fn stuck(room: usize) -> (Traces, mpsc::Receiver<Note>) {
    let (notes, waiting) = mpsc::channel(room);
    let live = Some(Live { notes, sampler: Sampler::AlwaysOn });
    (Traces { live, counts: Arc::default() }, waiting)
}

fn ended(context: Context) -> Ended {
    let mut timing = Timing::new(Moment::from_micros(10));
    timing.enter(Stage::Resolve, Moment::from_micros(20));
    timing.enter(Stage::Settle, Moment::from_micros(30));
    Ended {
        context,
        timing,
        end: Moment::from_micros(40),
        unix_micros: 1_000_000,
        request_id: Arc::from("id"),
        verb: Verb::Post,
        route: Route::Embeddings,
        status: 404,
        error_code: Some("model_not_found"),
        told: Some(404),
        row: None,
        model: None,
    }
}

#[test]
fn what_finds_no_room_is_dropped_at_once_and_counted_by_the_span() {
    let (traces, mut waiting) = stuck(2);
    let context = traces.context(&HeaderMap::new()).unwrap();
    for _ in 0..5 {
        traces.note(ended(context.clone()));
    }
    assert_eq!(waiting.len(), 2);
    assert_eq!(traces.counts().dropped.load(Ordering::Relaxed), 3 * 4, "three requests of four spans");
    // The exporter is gone: the same.
    waiting.close();
    traces.note(ended(context));
    assert_eq!(traces.counts().dropped.load(Ordering::Relaxed), 4 * 4);
}

#[test]
fn what_is_not_sampled_takes_no_room() {
    let (traces, waiting) = stuck(1);
    let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let pair = (HeaderName::from_static("traceparent"), HeaderValue::from_static(text));
    traces.note(ended(traces.context(&std::iter::once(pair).collect()).unwrap()));
    assert_eq!((waiting.len(), traces.counts().dropped.load(Ordering::Relaxed)), (0, 0));
    assert!(Traces::default().context(&HeaderMap::new()).is_none(), "off is off");
}

#[actix_rt::test]
async fn a_flush_ends_in_time_though_nobody_answers() {
    let (traces, waiting) = stuck(1);
    let start = tokio::time::Instant::now();
    traces.flush(Duration::from_millis(30)).await;
    traces.flush(Duration::from_millis(30)).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(waiting.len(), 1, "the second found no room and waited as long");
}
