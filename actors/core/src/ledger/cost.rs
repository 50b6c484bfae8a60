//! Tokens and what they cost.

use crate::registry::Prices;
use crate::units::{Price, Usd};
use serde::{Deserialize, Serialize};

/// Where the token counts of a row come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageSource {
    /// The upstream said so.
    Upstream,
    /// Counted from the text that passed.
    Counted,
    /// The forecast, because nothing better is known.
    Estimated,
    /// No tokens: the request was refused or failed before any were made.
    #[default]
    None,
}

impl UsageSource {
    /// The word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Counted => "counted",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Prompt tokens the upstream had cached.
    pub cached_input: u64,
    /// Answer tokens, reasoning included.
    pub output: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
    pub source: UsageSource,
}

impl Usage {
    /// The most tokens one request is believed to have: a larger figure from an upstream is a fault of its own.
    pub const MAX_TOKENS: u64 = 1_000_000_000;

    /// The same with every count within what is believed and the parts within their wholes.
    pub fn clamped(self) -> Self {
        let input = self.input.min(Self::MAX_TOKENS);
        let output = self.output.min(Self::MAX_TOKENS);
        Self {
            input,
            cached_input: self.cached_input.min(input),
            output,
            reasoning: self.reasoning.min(output),
            source: self.source,
        }
    }

    /// Prompt and answer together.
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// What one request costs, by kind of token: exact, frozen at completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Prompt tokens that were not cached.
    pub input: Usd,
    /// Prompt tokens the upstream had cached.
    pub cached_input: Usd,
    /// Answer tokens, reasoning included.
    pub output: Usd,
    /// Some of its tokens have no price, and cost nothing for that.
    pub unpriced: bool,
}

impl Cost {
    /// What `usage` costs at `prices`. Cached input falls back to the input price.
    pub fn of(prices: &Prices, usage: &Usage) -> Self {
        let usage = usage.clamped();
        let fresh = usage.input - usage.cached_input;
        let cached = prices.cached_input.or(prices.input);
        let unpriced = |price: Option<Price>, tokens: u64| price.is_none() && tokens > 0;
        Self {
            input: prices.input.unwrap_or_default().times(fresh),
            cached_input: cached.unwrap_or_default().times(usage.cached_input),
            output: prices.output.unwrap_or_default().times(usage.output),
            unpriced: unpriced(prices.input, fresh)
                || unpriced(cached, usage.cached_input)
                || unpriced(prices.output, usage.output),
        }
    }

    /// All of it.
    pub fn total(&self) -> Usd {
        self.input + self.cached_input + self.output
    }

    /// Input, cached input and output in pico-dollars as a row stores them. Where all of it together is beyond
    /// what a row can hold, the later ones are cut: their sum is the total of the row whatever happens.
    pub(super) fn row_pico(&self) -> [i64; 3] {
        let mut room = i64::MAX;
        [self.input, self.cached_input, self.output].map(|part| {
            let taken = part.row_pico().clamp(0, room);
            room -= taken;
            taken
        })
    }
}

/// What `usage` costs at `prices`, all kinds together.
pub fn cost(prices: &Prices, usage: &Usage) -> Usd {
    Cost::of(prices, usage).total()
}
