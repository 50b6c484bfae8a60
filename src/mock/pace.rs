//! When each token of an answer is due, counted from the moment the request took a slot.

use std::time::Duration;

/// How much slower a slow answer is.
const SLOWDOWN: u32 = 10;
/// What a pace of zero counts as when it is slowed down.
const SLOWEST_ZERO: Duration = Duration::from_millis(1);

/// Time to the first chunk and per token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) ttft: Duration,
    pub(super) token: Duration,
}

impl Pace {
    /// Ten times slower; a pace of zero counts as 1 ms.
    pub(super) fn slowed(self) -> Self {
        let slow = |time: Duration| time.max(SLOWEST_ZERO).saturating_mul(SLOWDOWN);
        Self { ttft: slow(self.ttft), token: slow(self.token) }
    }

    /// When so many tokens are there.
    pub(super) fn due(self, tokens: u32) -> Duration {
        self.ttft.saturating_add(self.token.saturating_mul(tokens))
    }

    /// How many of `total` tokens are there after `elapsed`.
    pub(super) fn generated(self, elapsed: Duration, total: u32) -> u32 {
        let Some(decoding) = elapsed.checked_sub(self.ttft) else { return 0 };
        let tokens = decoding.as_nanos().checked_div(self.token.as_nanos());
        tokens.map_or(total, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX).min(total))
    }
}
