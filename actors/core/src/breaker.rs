//! The breaker of one upstream: whether a model's upstream is worth a request now.
//!
//! Is: passive. It learns from requests that are sent anyway: so many failures in a row, or too large a part of
//! those of the last half minute, open it; then a single request at a time, a probe, finds out whether the
//! upstream is back. Is not: a timer, and no judge of what a failure is. Invariants: at most one probe is out;
//! what was sent before the last change of state changes nothing; left alone, an open breaker lets a probe
//! through after its pause, so it never stays open for ever.
//!
//! A request goes `admit` → `begun` (the head of an answer is there) → nothing more, or `failed` (the answer was
//! cut). Before its answer it ends with `failed`, or with `left` when nobody knows (its client left).

use crate::moment::Moment;
use std::time::Duration;

mod window;

use window::Window;

/// When a breaker opens, and how long it stays so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row that open it; 0 = it never opens.
    pub failures: u32,
    /// Failed requests in percent of those of the last 30 s that open it.
    pub percent: u32,
    /// Requests below which the part of them that failed says nothing.
    pub least: u32,
    /// From the opening to the first probe; doubles with each probe that fails.
    pub first_pause: Duration,
    pub longest_pause: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            failures: 5,
            percent: 50,
            least: 20,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// None passes until the next probe is due.
    Open,
    /// A probe is out.
    HalfOpen,
}

impl State {
    /// Its name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { retry_at: Moment },
    HalfOpen,
}

/// The right to send one request.
#[derive(Debug)]
pub struct Permit {
    /// The epoch it was given in; in another one it says nothing any more.
    epoch: u64,
    begun: Option<Begun>,
}

impl Permit {
    /// Whether its answer has begun.
    pub const fn has_begun(&self) -> bool {
        self.begun.is_some()
    }
}

/// An answer that has begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// Its number among the answers of the epoch.
    number: u64,
    /// Failures in a row before it.
    before: u32,
}

/// A breaker as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub state: State,
    /// Since when it stands so; `None`: from its beginning.
    pub since: Option<Moment>,
    /// Failures in a row.
    pub failures: u32,
    /// When a probe is due; `None` unless it is open.
    pub retry_at: Option<Moment>,
}

/// See the module head.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    phase: Phase,
    /// When it entered the phase; `None`: it has not left the first one.
    since: Option<Moment>,
    /// Changes with the phase.
    epoch: u64,
    /// Failures in a row, in the order in which answers began or failed to.
    streak: u32,
    /// Answers that have begun in this epoch.
    answers: u64,
    window: Window,
    /// From the next opening, or the failure of the probe that is out, to the next probe.
    pause: Duration,
}

impl Breaker {
    /// A closed one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            phase: Phase::Closed,
            since: None,
            epoch: 0,
            streak: 0,
            answers: 0,
            window: Window::default(),
            pause: rules.first_pause,
        }
    }

    /// Whether a request is worth its wait for a slot. `Err`: when to come back.
    pub fn look(&self, now: Moment) -> Result<(), Moment> {
        match self.phase {
            Phase::Closed => Ok(()),
            Phase::Open { retry_at } if retry_at <= now => Ok(()),
            Phase::Open { retry_at } => Err(retry_at),
            Phase::HalfOpen => Err(self.since.map_or(now, |since| now.max(since + self.pause))),
        }
    }

    /// The right to send a request now. In an open breaker whose pause is over it is the probe.
    pub fn admit(&mut self, now: Moment) -> Result<Permit, Moment> {
        self.look(now)?;
        if self.phase != Phase::Closed {
            self.enter(now, Phase::HalfOpen);
        }
        Ok(Permit { epoch: self.epoch, begun: None })
    }

    /// An answer has begun. Closes the breaker if it is that of the probe; whether it did.
    pub fn begun(&mut self, now: Moment, permit: &mut Permit) -> bool {
        if permit.epoch != self.epoch || permit.begun.is_some() {
            return false;
        }
        let closes = self.phase == Phase::HalfOpen;
        if closes {
            self.close(now);
            permit.epoch = self.epoch;
        }
        self.answers = self.answers.saturating_add(1);
        permit.begun = Some(Begun { number: self.answers, before: self.streak });
        self.streak = 0;
        self.window.succeeded(now);
        closes
    }

    /// No answer came, or it was cut. Whether that opened the breaker.
    pub fn failed(&mut self, now: Moment, permit: &Permit) -> bool {
        if permit.epoch != self.epoch {
            return false;
        }
        match permit.begun {
            None => self.window.failed(now),
            Some(begun) => {
                self.window.turned(now);
                if begun.number == self.answers {
                    // No other answer has begun since: the row goes on.
                    self.streak = self.streak.saturating_add(begun.before);
                }
            }
        }
        self.streak = self.streak.saturating_add(1);
        match self.phase {
            Phase::HalfOpen => {
                self.pause = self.pause.saturating_mul(2).min(self.rules.longest_pause);
                self.open(now);
                false
            }
            Phase::Closed if self.is_too_much(now) => {
                self.open(now);
                true
            }
            Phase::Closed | Phase::Open { .. } => false,
        }
    }

    /// The request ended and says nothing of the upstream. Another probe may follow at once.
    pub fn left(&mut self, now: Moment, permit: &Permit) {
        if permit.epoch == self.epoch && self.phase == Phase::HalfOpen {
            self.enter(now, Phase::Open { retry_at: now });
        }
    }

    /// Somebody else has found the upstream well. Whether that closed the breaker.
    pub fn found_well(&mut self, now: Moment) -> bool {
        let closes = self.phase != Phase::Closed;
        if closes {
            self.close(now);
        }
        self.streak = 0;
        closes
    }

    /// How it stands.
    pub fn view(&self) -> View {
        let (state, retry_at) = match self.phase {
            Phase::Closed => (State::Closed, None),
            Phase::Open { retry_at } => (State::Open, Some(retry_at)),
            Phase::HalfOpen => (State::HalfOpen, None),
        };
        View { state, since: self.since, failures: self.streak, retry_at }
    }

    fn is_too_much(&self, now: Moment) -> bool {
        let Rules { failures, percent, least, .. } = self.rules;
        failures > 0 && (self.streak >= failures || self.window.exceeds(now, percent, least))
    }

    fn open(&mut self, now: Moment) {
        self.enter(now, Phase::Open { retry_at: now + self.pause });
    }

    fn close(&mut self, now: Moment) {
        self.enter(now, Phase::Closed);
        self.streak = 0;
        self.window = Window::default();
        self.pause = self.rules.first_pause;
    }

    fn enter(&mut self, now: Moment, phase: Phase) {
        self.phase = phase;
        self.since = Some(now);
        self.epoch = self.epoch.wrapping_add(1);
        self.answers = 0;
    }
}

#[cfg(test)]
mod tests;
