//! Tokens and what they cost.

use crate::registry::Prices;
use crate::units::Usd;
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

/// What `usage` costs at `prices`: exact, in pico-dollars. Cached input falls back to the input price.
pub fn cost(prices: &Prices, usage: &Usage) -> Usd {
    let usage = usage.clamped();
    let input = prices.input.unwrap_or_default();
    let cached = prices.cached_input.unwrap_or(input);
    let output = prices.output.unwrap_or_default();
    input.times(usage.input - usage.cached_input)
        + cached.times(usage.cached_input)
        + output.times(usage.output)
}
