//! When the stages of a request began, and what follows from it: `server-timing`, the gateway's own time, the
//! spans of its trace.
//!
//! Is: moments, one clock read a stage. Is not: the clock itself. A stage calls [`Record::enter`] as the first
//! thing it does, and ends where the next one begins.
//!
//! [`Record::enter`]: super::record::Record::enter

use actix_web::http::header::{HeaderName, HeaderValue};
use obleth_core::moment::Moment;
use std::time::Duration;

pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The stages, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Authenticate,
    /// The body is received and read, its model found.
    Resolve,
    /// The response cache.
    Lookup,
    /// The budgets.
    Reserve,
    /// The queue.
    Admit,
    Forward,
    Meter,
    Settle,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Authenticate,
        Self::Resolve,
        Self::Lookup,
        Self::Reserve,
        Self::Admit,
        Self::Forward,
        Self::Meter,
        Self::Settle,
    ];

    /// Its name in a trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Resolve => "resolve",
            Self::Lookup => "lookup",
            Self::Reserve => "reserve",
            Self::Admit => "admit",
            Self::Forward => "forward",
            Self::Meter => "meter",
            Self::Settle => "settle",
        }
    }
}

/// When the stages of one request began, and how long it waited for others.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    arrival: Moment,
    resolve: Option<Moment>,
    lookup: Option<Moment>,
    reserve: Option<Moment>,
    admit: Option<Moment>,
    forward: Option<Moment>,
    meter: Option<Moment>,
    settle: Option<Moment>,
    /// Time in the queue.
    pub queued: Duration,
    /// Since when it waits for a seat; `None` before and after.
    pub waits_since: Option<Moment>,
    /// Time spent waiting for others than queue and upstream: for the client's body, for the answer to another
    /// request. See [`Self::step_out`].
    outside: Duration,
    outside_since: Option<Moment>,
    /// The request was sent upstream.
    pub sent: Option<Moment>,
    /// The first byte of the answer's body came.
    pub first_byte: Option<Moment>,
    /// All that the head of the answer needs has come: a first piece of a stream, else the whole body.
    pub ready: Option<Moment>,
    /// The head of the answer was handed to the server.
    pub answered: Option<Moment>,
}

impl Timing {
    /// Of a request that came at `arrival`: it is being authenticated.
    pub const fn new(arrival: Moment) -> Self {
        Self {
            arrival,
            resolve: None,
            lookup: None,
            reserve: None,
            admit: None,
            forward: None,
            meter: None,
            settle: None,
            queued: Duration::ZERO,
            waits_since: None,
            outside: Duration::ZERO,
            outside_since: None,
            sent: None,
            first_byte: None,
            ready: None,
            answered: None,
        }
    }

    /// A stage begins, and the one before ends. The first call for a stage counts.
    pub fn enter(&mut self, stage: Stage, now: Moment) {
        let begun = match stage {
            Stage::Authenticate => return,
            Stage::Resolve => &mut self.resolve,
            Stage::Lookup => &mut self.lookup,
            Stage::Reserve => &mut self.reserve,
            Stage::Admit => &mut self.admit,
            Stage::Forward => &mut self.forward,
            Stage::Meter => &mut self.meter,
            Stage::Settle => &mut self.settle,
        };
        begun.get_or_insert(now);
    }

    /// When a stage began; `None` when it was not reached.
    pub const fn begun(&self, stage: Stage) -> Option<Moment> {
        match stage {
            Stage::Authenticate => Some(self.arrival),
            Stage::Resolve => self.resolve,
            Stage::Lookup => self.lookup,
            Stage::Reserve => self.reserve,
            Stage::Admit => self.admit,
            Stage::Forward => self.forward,
            Stage::Meter => self.meter,
            Stage::Settle => self.settle,
        }
    }

    /// The stages that were reached, each with its begin and its end, which is at most `now`. `Forward` is
    /// the whole upstream call: it ends with `Meter`.
    pub fn stages(&self, now: Moment) -> impl Iterator<Item = (Stage, Moment, Moment)> {
        let mut end = now;
        let mut settled = now;
        let back = Stage::ALL.into_iter().rev().filter_map(move |stage| {
            let begin = self.begun(stage)?;
            let own = if stage == Stage::Forward { settled } else { end };
            if stage == Stage::Settle {
                settled = begin;
            }
            end = begin;
            Some((stage, begin, own))
        });
        back.collect::<smallvec::SmallVec<[_; 8]>>().into_iter().rev()
    }

    /// It waits for somebody else from here on: that is not the gateway's own time.
    pub fn step_out(&mut self, now: Moment) {
        self.outside_since.get_or_insert(now);
    }

    /// The wait of [`Self::step_out`] is over.
    pub fn step_in(&mut self, now: Moment) {
        if let Some(since) = self.outside_since.take() {
            self.outside += now.since(since);
        }
    }

    /// The gateway's own time (`obleth_gateway_overhead_seconds`) of a request that ends `now`: from its
    /// arrival until it is sent, without the queue and the waits outside; and from the moment the upstream has
    /// given what the head of the answer needs until that head leaves. What passes after the head is not in it.
    pub fn own(&self, now: Moment) -> Duration {
        let outside = self.outside + self.outside_since.map_or(Duration::ZERO, |since| now.since(since));
        let before = self.sent.or(self.answered).unwrap_or(now).since(self.arrival);
        let before = before.saturating_sub(self.queued).saturating_sub(outside);
        let after = self.ready.map_or(Duration::ZERO, |ready| self.answered.unwrap_or(now).since(ready));
        before + after
    }

    /// `server-timing`: what is known `now` of the stages that were reached, in ms.
    pub fn header(&self, now: Moment) -> Option<HeaderValue> {
        let (mut auth, mut cache, mut budget) = (None, None, None);
        for (stage, begin, end) in self.stages(now) {
            match stage {
                Stage::Authenticate => auth = Some(end.since(begin)),
                Stage::Lookup => cache = Some(end.since(begin)),
                Stage::Reserve => budget = Some(end.since(begin)),
                _ => {}
            }
        }
        let upstream = self.sent.map(|sent| self.ready.unwrap_or(now).since(sent));
        // Of a wait that goes on, nobody knows how long it will be.
        let queue = self.admit.filter(|_| self.waits_since.is_none()).map(|_| self.queued);
        let mut text = String::with_capacity(96);
        for (name, span) in
            [("auth", auth), ("cache", cache), ("budget", budget), ("queue", queue), ("upstream", upstream)]
        {
            let Some(span) = span else { continue };
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(name);
            text.push_str(";dur=");
            push_millis(&mut text, span);
        }
        HeaderValue::try_from(text).ok()
    }
}

/// Milliseconds with at most three decimals.
fn push_millis(text: &mut String, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    text.push_str(itoa::Buffer::new().format(micros / 1000));
    let rest = micros % 1000;
    if rest > 0 {
        let mut padded = itoa::Buffer::new();
        let digits = padded.format(1000 + rest).strip_prefix('1').unwrap_or_default();
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests;
