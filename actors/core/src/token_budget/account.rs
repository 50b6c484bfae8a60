//! What one tenant or one key has used and holds.

use super::bucket::Bucket;
use super::period::Period;
use super::plan::{Amount, Limits, Minute, What};
use crate::moment::Moment;

/// An amount as it is kept. Accounts are many and each request meets them cold, so this has no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    tokens: u64,
    pico: [u8; 16],
}

impl Sum {
    const fn of(amount: Amount) -> Self {
        Self { tokens: amount.tokens, pico: amount.pico.to_ne_bytes() }
    }

    pub const fn amount(self) -> Amount {
        Amount { tokens: self.tokens, pico: u128::from_ne_bytes(self.pico) }
    }

    pub const fn add(&mut self, amount: Amount) {
        *self = Self::of(self.amount().plus(amount));
    }

    pub const fn subtract(&mut self, amount: Amount) {
        *self = Self::of(self.amount().minus(amount));
    }

    pub const fn set(&mut self, amount: Amount) {
        *self = Self::of(amount);
    }
}

/// One period's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    index: i64,
    pub used: Sum,
    /// Of holds that are out.
    pub held: Sum,
    /// A warning was given, of tokens and of money.
    warned: [bool; 2],
}

impl Window {
    /// Nothing used, nothing held: as if it were not there.
    pub const BLANK: Self = Self {
        index: i64::MIN,
        used: Sum::of(Amount::ZERO),
        held: Sum::of(Amount::ZERO),
        warned: [false; 2],
    };

    fn is_blank(&self) -> bool {
        self.used == Self::BLANK.used && self.held == Self::BLANK.held
    }

    pub const fn warned(&self, what: What) -> bool {
        let [tokens, money] = self.warned;
        match what {
            What::Tokens => tokens,
            What::Money => money,
        }
    }

    pub const fn warn(&mut self, what: What) {
        let [tokens, money] = &mut self.warned;
        match what {
            What::Tokens => *tokens = true,
            What::Money => *money = true,
        }
    }
}

/// Something for each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Each<T>(pub [T; 3]);

impl<T> Each<T> {
    pub const fn get(&self, period: Period) -> &T {
        let [day, month, total] = &self.0;
        match period {
            Period::Day => day,
            Period::Month => month,
            Period::Total => total,
        }
    }
}

/// The numbers of the windows that an arrival counts in.
pub(super) type Indexes = Each<i64>;

impl Indexes {
    pub fn of(unix_micros: i64) -> Self {
        Self(Period::ALL.map(|period| period.index(unix_micros)))
    }
}

/// An account. The latest window of each period lies in it, so that a request meets one run of memory.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub tokens: Option<Bucket>,
    pub requests: Option<Bucket>,
    latest: Each<Window>,
    /// Windows before the latest, for a while.
    earlier: Vec<(Period, Window)>,
    /// Holds that are out.
    pub holds: u64,
}

impl Default for Account {
    fn default() -> Self {
        let latest = Each([Window::BLANK; 3]);
        Self { tokens: None, requests: None, latest, earlier: Vec::new(), holds: 0 }
    }
}

impl Account {
    /// The buckets as `limits` want them, or one in `parts` of that. One that is limited no longer is forgotten.
    pub fn set_limits(&mut self, now: Moment, limits: &Limits, parts: u64) {
        let part = |limit: Option<u64>| limit.map(|limit| limit / parts.max(1));
        fit(&mut self.tokens, now, part(limits.tokens_per_minute));
        fit(&mut self.requests, now, part(limits.requests_per_minute));
    }

    pub const fn bucket(&mut self, minute: Minute) -> &mut Option<Bucket> {
        match minute {
            Minute::Tokens => &mut self.tokens,
            Minute::Requests => &mut self.requests,
        }
    }

    /// Used and held in a window; one that was not begun is blank.
    pub fn window(&self, period: Period, index: i64) -> &Window {
        let latest = self.latest.get(period);
        if latest.index == index {
            return latest;
        }
        let found = self.earlier.iter().find(|(of, window)| *of == period && window.index == index);
        found.map_or(&Window::BLANK, |(_, window)| window)
    }

    /// Every window that an arrival counts in; those that are not there are begun.
    pub fn change(&mut self, indexes: Indexes, mut change: impl FnMut(Period, &mut Window)) {
        for ((period, index), latest) in Period::ALL.into_iter().zip(indexes.0).zip(&mut self.latest.0) {
            if latest.index < index {
                let before = std::mem::replace(latest, Window { index, ..Window::BLANK });
                if !before.is_blank() {
                    self.earlier.push((period, before));
                }
            }
            if latest.index == index {
                change(period, latest);
                continue;
            }
            // A request that arrived before the end of a period, and came after one that began the next.
            let same = |(of, window): &&mut (Period, Window)| *of == period && window.index == index;
            if let Some((_, window)) = self.earlier.iter_mut().find(same) {
                change(period, window);
                continue;
            }
            let mut window = Window { index, ..Window::BLANK };
            change(period, &mut window);
            self.earlier.push((period, window));
        }
    }

    /// Every window there is.
    pub fn windows(&mut self) -> impl Iterator<Item = &mut Window> {
        self.latest.0.iter_mut().chain(self.earlier.iter_mut().map(|(_, window)| window))
    }

    /// Forgets windows that ended before `before` (Unix microseconds) and hold nothing, and full buckets.
    pub fn expire(&mut self, now: Moment, before: i64) {
        let ended = |period: Period, window: &Window| {
            window.held == Window::BLANK.held && period.end(window.index).is_some_and(|end| end < before)
        };
        self.earlier.retain(|(period, window)| !ended(*period, window));
        for (period, window) in Period::ALL.into_iter().zip(&mut self.latest.0) {
            if ended(period, window) {
                *window = Window::BLANK;
            }
        }
        if self.holds == 0 {
            self.tokens = self.tokens.filter(|bucket| !bucket.is_full(now));
            self.requests = self.requests.filter(|bucket| !bucket.is_full(now));
        }
    }

    /// Whether nothing is known that another account would not begin with.
    pub fn is_blank(&self) -> bool {
        let mut windows = self.latest.0.iter().chain(self.earlier.iter().map(|(_, window)| window));
        self.holds == 0 && self.tokens.is_none() && self.requests.is_none() && windows.all(Window::is_blank)
    }
}

fn fit(bucket: &mut Option<Bucket>, now: Moment, limit: Option<u64>) {
    match (bucket.as_mut(), limit) {
        (_, None) => *bucket = None,
        (None, Some(limit)) => *bucket = Some(Bucket::full(now, limit)),
        (Some(bucket), Some(limit)) => bucket.set_limit(now, limit),
    }
}
