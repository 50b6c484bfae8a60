use super::*;
use crate::stats::packed::{BUCKETS, value_of};
use crate::stats::{BATCH, WAITING};
use std::sync::mpsc::{SyncSender, sync_channel};

struct Bench {
    central: Central,
    names: Arc<Roll<Arc<str>>>,
    inbox: SyncSender<Vec<Sample>>,
}

impl Bench {
    fn new() -> Self {
        let names = Arc::new(Roll::new(1000));
        let (inbox, receiver) = sync_channel(WAITING);
        Self { central: Central::new(Arc::clone(&names), receiver), names, inbox }
    }

    fn model(&self, name: &str) -> Place {
        self.names.admit(&Arc::from(name)).map_or(Place::Other, Place::Model)
    }

    /// The windows at `now`.
    fn at(&mut self, now: u32) -> [WindowFigures; 3] {
        self.central.report(now, 0).windows.try_into().unwrap_or_else(|_| std::process::abort())
    }

    /// Totals of each window at `now`.
    fn counts(&mut self, now: u32) -> [u64; 3] {
        self.at(now).map(|window| window.total.count)
    }
}

fn sample(at: u32, model: Place, micros: u32) -> Sample {
    Sample { at, model, overhead: micros, queued: micros, ttft: micros, total: micros }
}

#[test]
fn percentiles_are_exact_to_two_digits() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    // In no order: 1 ms to 10 s in steps of a millisecond, and each kind of time a multiple of it.
    let samples: Vec<_> = (0..10_000_u32)
        .map(|step| (step * 7919) % 10_000 + 1)
        .map(|number| Sample {
            at: 100,
            model,
            overhead: number,
            queued: number * 10,
            ttft: number * 100,
            total: number * 1000,
        })
        .collect();
    bench.central.take(&samples);
    let [one, ..] = bench.at(100);
    for (figures, unit) in [(one.overhead, 1), (one.queue_wait, 10), (one.ttft, 100), (one.total, 1000)] {
        assert_eq!((figures.count, figures.max_us), (10_000, Some(10_000 * unit)));
        let exact = [5_000, 9_000, 9_900, 9_990].map(|rank| rank * unit);
        for (found, exact) in
            [figures.p50_us, figures.p90_us, figures.p99_us, figures.p99_9_us].into_iter().zip(exact)
        {
            let found = found.unwrap_or_default();
            assert!(found.abs_diff(exact) * 100 <= exact, "{found} for {exact}");
        }
    }
    let [model] = one.models.as_slice() else { return assert!(one.models.is_empty()) };
    assert_eq!((&*model.model, model.ttft, model.total), ("m", one.ttft, one.total));
}

#[test]
fn windows_roll() {
    let mut bench = Bench::new();
    let start = 10_000;
    for second in start..start + 2_000 {
        bench.central.take(&[sample(second, Place::Nowhere, second)]);
        let now = second;
        let [one, five, fifteen] = bench.at(now);
        for (window, least, most) in [(&one, 60, 75), (&five, 300, 360), (&fifteen, 900, 1080)] {
            assert_eq!(window.seconds, least);
            assert!((least..most).contains(&window.covers_seconds), "{}", window.covers_seconds);
            let expected = window.covers_seconds.min(second - start) + 1;
            assert_eq!(window.total.count, u64::from(expected), "{second}, {least} s");
            assert_eq!(window.total.max_us, Some(second.into()));
        }
    }
    let end = start + 1_999;
    assert_eq!(bench.counts(end + 76).first(), Some(&0));
    assert_eq!(bench.counts(end + 361).get(1), Some(&0));
    assert_eq!(bench.counts(end + 1_081), [0, 0, 0]);
    assert_eq!(bench.at(end + 1_081).map(|window| window.total), [Figures::default(); 3]);
    assert!(bench.central.all.iter().all(Series::is_empty));
}

#[test]
fn samples_that_come_late_count_for_when_they_were() {
    let (mut late, mut prompt) = (Bench::new(), Bench::new());
    let samples: Vec<_> = (0..1_300).map(|second| sample(second, Place::Nowhere, second * 10)).collect();
    for sample in &samples {
        prompt.central.take(&[*sample]);
    }
    let (old, new) = samples.split_at(1_299);
    late.central.take(new);
    late.central.take(old);
    for now in [1_300, 1_400, 1_700] {
        let (late, prompt) = (late.at(now), prompt.at(now));
        for (late, prompt) in late.iter().zip(&prompt) {
            assert_eq!(
                (late.total, late.overhead, late.queue_wait),
                (prompt.total, prompt.overhead, prompt.queue_wait)
            );
        }
    }
}

#[test]
fn what_was_handed_over_is_in_the_next_report_and_what_never_was_is_not() {
    let mut bench = Bench::new();
    let model = bench.model("m");
    let refused = Sample { queued: NEVER, ttft: NEVER, ..sample(7, model, 5) };
    assert!(bench.inbox.try_send(vec![refused; 3]).is_ok());
    bench.central.take_inbox();
    let [one, ..] = bench.at(7);
    assert_eq!((one.total.count, one.overhead.count, one.queue_wait.count, one.ttft.count), (3, 3, 0, 0));
    let [model] = one.models.as_slice() else { return assert!(one.models.is_empty()) };
    assert_eq!((model.total.count, model.ttft), (3, Figures::default()));
}

#[test]
fn the_51st_model_shares_an_entry_until_another_has_been_silent_for_15_minutes() {
    let mut bench = Bench::new();
    let places: Vec<_> = (0..=MODELS).map(|number| bench.model(&format!("m{number:02}"))).collect();
    let samples: Vec<_> = places.iter().map(|model| sample(1, *model, 9)).collect();
    bench.central.take(&samples);
    let [one, ..] = bench.at(1);
    assert_eq!((one.models.len(), one.total.count), (MODELS + 1, 51));
    assert_eq!(one.models.last().map(|last| (&*last.model, last.total.count)), Some((OTHER, 1)));
    let Some(last) = places.last().copied() else { return };
    bench.central.take(&[sample(1_200, last, 9)]);
    let [one, ..] = bench.at(1_200);
    assert_eq!(one.models.iter().map(|model| &*model.model).collect::<Vec<_>>(), ["m50"]);
}

#[test]
fn a_model_that_comes_back_under_its_name_is_one_entry() {
    let mut bench = Bench::new();
    let first = bench.model("m");
    bench.central.take(&[sample(1, first, 9)]);
    bench.names.strike(&[Arc::from("m")]);
    let second = bench.model("m");
    assert_ne!(first, second);
    bench.central.take(&[sample(2, second, 9), sample(2, first, 9)]);
    let [one, ..] = bench.at(2);
    assert_eq!(
        one.models.iter().map(|model| (&*model.model, model.total.count)).collect::<Vec<_>>(),
        [("m", 3)]
    );
}

/// The worst that can be: 50 models and `other`, every slice there is, every bucket of every histogram in use;
/// 64 workers with a full buffer each, and as many handed over as may wait.
///
/// A bucket of a closed slice takes a byte as long as it holds at most 127 requests, and one more beyond: in
/// total at most one more for each 128 requests in 15 minutes and kind of time, half a MiB at 20 000 a second.
#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new();
    let models: Vec<_> = (0..MODELS).map(|number| bench.model(&format!("m{number}"))).collect();
    let start = 18_000;
    // Once in each slice that will be there at the end, of every width.
    let end = start + 1_079;
    let mut seconds: Vec<u32> = (0..5).map(|slice| end - slice * 15).collect();
    seconds.extend((0..6).map(|slice| end - 75 - slice * 60));
    seconds.extend((0..6).map(|slice| end - 75 - slice * 180));
    seconds.sort_unstable();
    for second in seconds {
        for place in models.iter().copied().chain([Place::Other, Place::Nowhere]) {
            let values = (0..BUCKETS).filter_map(|bucket| u32::try_from(value_of(bucket)).ok());
            let samples: Vec<_> = values.map(|value| sample(second, place, value)).collect();
            bench.central.take(&samples);
        }
    }
    let [.., fifteen] = bench.at(end);
    assert_eq!(fifteen.models.len(), MODELS + 1);
    let histograms = bench.central.bytes();
    let buffers = (64 + WAITING) * BATCH * size_of::<Sample>();
    println!("histograms {histograms} bytes, buffers {buffers} bytes");
    assert!(histograms > 5_000_000, "the test no longer fills them: {histograms}");
    assert!(histograms + buffers + (512 << 10) < 8 << 20, "{histograms} + {buffers}");
}
