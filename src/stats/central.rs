//! All series, and the samples on their way into them.

use super::report::{Figures, ModelFigures, Report, WindowFigures};
use super::series::{Series, Slot, Tier};
use super::{NEVER, Place, Sample};
use crate::metrics::{OTHER, Roll};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Models that have figures of their own.
pub(super) const MODELS: usize = 50;

/// See the module head.
pub(super) struct Central {
    /// The latest second that was heard of.
    now: u32,
    all: Vec<Series>,
    /// By place: the model whose series are at [`Kind::Ttft`] and [`Kind::Total`] of it.
    models: Vec<Option<Arc<str>>>,
    /// Places of the numbers of the roll.
    places: HashMap<u32, usize>,
    names: Arc<Roll<Arc<str>>>,
    inbox: Receiver<Vec<Sample>>,
}

/// A series.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Overhead,
    Queue,
    /// Totals of requests without a model.
    Bare,
    /// Of the model at this place; the last place is that of all others.
    Ttft(usize),
    Total(usize),
}

impl Kind {
    const fn index(self) -> usize {
        match self {
            Self::Overhead => 0,
            Self::Queue => 1,
            Self::Bare => 2,
            Self::Ttft(place) => 3 + 2 * place,
            Self::Total(place) => 4 + 2 * place,
        }
    }
}

/// A value that is not of now: where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    series: usize,
    slot: Slot,
    value: u32,
}

impl Central {
    pub(super) fn new(names: Arc<Roll<Arc<str>>>, inbox: Receiver<Vec<Sample>>) -> Self {
        let mut all = Vec::new();
        all.resize_with(Kind::Ttft(MODELS + 1).index(), Series::default);
        Self { now: 0, all, models: vec![None; MODELS], places: HashMap::new(), names, inbox }
    }

    /// Takes in what was handed over.
    pub(super) fn take_inbox(&mut self) {
        while let Ok(samples) = self.inbox.try_recv() {
            self.take(&samples);
        }
    }

    /// Takes in samples of any age.
    pub(super) fn take(&mut self, samples: &[Sample]) {
        if let Some(newest) = samples.iter().map(|sample| sample.at).max() {
            self.advance(newest);
        }
        let mut late = Vec::new();
        for sample in samples {
            let Some(slot) = Slot::of(sample.at, self.now) else {
                continue;
            };
            let current = Slot::of(self.now, self.now) == Some(slot);
            for (kind, value) in self.values(sample) {
                if value == NEVER {
                    continue;
                }
                if !current {
                    late.push(Late { series: kind.index(), slot, value });
                } else if let Some(series) = self.all.get_mut(kind.index()) {
                    series.record(value);
                }
            }
        }
        self.take_late(late);
    }

    fn take_late(&mut self, mut late: Vec<Late>) {
        late.sort_unstable();
        for same in late.chunk_by(|one, next| (one.series, one.slot) == (next.series, next.slot)) {
            let values: Vec<u32> = same.iter().map(|late| late.value).collect();
            if let Some(first) = same.first()
                && let Some(series) = self.all.get_mut(first.series)
            {
                series.record_late(first.slot, &values);
            }
        }
    }

    fn values(&mut self, sample: &Sample) -> [(Kind, u32); 4] {
        let (overhead, queue) = ((Kind::Overhead, sample.overhead), (Kind::Queue, sample.queued));
        let place = match sample.model {
            Place::Nowhere => None,
            Place::Other => Some(MODELS),
            Place::Model(number) => Some(self.place(number)),
        };
        match place {
            Some(place) => {
                [overhead, queue, (Kind::Ttft(place), sample.ttft), (Kind::Total(place), sample.total)]
            }
            None => [overhead, queue, (Kind::Bare, sample.total), (Kind::Bare, NEVER)],
        }
    }

    /// Where the model of this number is counted. One that was deleted and came back under its name goes on.
    fn place(&mut self, number: u32) -> usize {
        if let Some(place) = self.places.get(&number) {
            return *place;
        }
        let Some(name) = self.names.named(number) else {
            return MODELS;
        };
        let known = self.models.iter().position(|model| model.as_ref() == Some(&name));
        let Some(place) = known.or_else(|| self.models.iter().position(Option::is_none)) else {
            return MODELS;
        };
        if let Some(model) = self.models.get_mut(place) {
            *model = Some(name);
        }
        self.places.insert(number, place);
        place
    }

    /// Lets time pass; models of which nothing is left make room.
    fn advance(&mut self, now: u32) {
        let was = self.now;
        self.now = was.max(now);
        if Slot::of(was, was) == Slot::of(self.now, self.now) {
            return;
        }
        self.all.iter_mut().for_each(|series| series.advance(was, self.now));
        let all = &self.all;
        let empty = |kind: Kind| all.get(kind.index()).is_none_or(Series::is_empty);
        for (place, model) in self.models.iter_mut().enumerate() {
            if empty(Kind::Ttft(place)) && empty(Kind::Total(place)) {
                *model = None;
            }
        }
        let models = &self.models;
        self.places.retain(|_, place| models.get(*place).is_some_and(Option::is_some));
    }

    /// The figures at `now`.
    pub(super) fn report(&mut self, now: u32, missed: u64) -> Report {
        self.advance(now);
        let one = |kind: Kind| Figures::of(self.all.get(kind.index()).into_iter());
        let first = Kind::Ttft(0).index();
        let ttft = Figures::of(self.all.iter().skip(first).step_by(2));
        let total = Figures::of(self.all.iter().skip(Kind::Bare.index()).step_by(2));
        let (overhead, queue) = (one(Kind::Overhead), one(Kind::Queue));
        let mut windows: Vec<WindowFigures> = Vec::with_capacity(3);
        for ((((tier, overhead), queue_wait), ttft), total) in
            Tier::ALL.into_iter().zip(overhead).zip(queue).zip(ttft).zip(total)
        {
            let (seconds, covers_seconds) = (tier.span().1, self.now - tier.reach(self.now));
            let models = Vec::new();
            windows.push(WindowFigures {
                seconds,
                covers_seconds,
                overhead,
                queue_wait,
                ttft,
                total,
                models,
            });
        }
        self.report_models(&mut windows);
        Report { windows, missed, memory_bytes: self.bytes() }
    }

    fn report_models(&self, windows: &mut [WindowFigures]) {
        let other = Some(Arc::from(OTHER));
        let mut models: Vec<_> = self.models.iter().chain([&other]).enumerate().collect();
        models.sort_by(|one, next| one.1.cmp(next.1));
        for (place, model) in models {
            let of = |kind: Kind| Figures::of(self.all.get(kind.index()).into_iter());
            let (ttft, total) = (of(Kind::Ttft(place)), of(Kind::Total(place)));
            for ((window, ttft), total) in windows.iter_mut().zip(ttft).zip(total) {
                if let Some(model) = model.clone().filter(|_| total.count > 0) {
                    window.models.push(ModelFigures { model, ttft, total });
                }
            }
        }
    }

    /// Bytes of all series.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Series>() + self.all.iter().map(Series::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
