//! What a request costs and what it will probably cost.
//!
//! The unit of cost is a hundredth of a token, so that the factor of a model is a whole number of units.

use super::plan::{Demand, Settings};
use super::planted::{Fault, planted};
use crate::units::CostFactor;

/// Token counts come from outside: beyond this they are cut, so that no sum of charges can wrap.
const MAX_TOKENS: u64 = 1_000_000_000;
/// Likewise for the configured weights of prompt and output tokens.
const MAX_TOKEN_WEIGHT: u32 = 1_000;

/// Units of cost in one token of a model with factor 1.
pub(super) const UNITS_A_TOKEN: u64 = 100;

impl Settings {
    /// Cost of a prompt and an output on a model.
    pub(super) fn cost(&self, prompt: u64, output: u64, factor: CostFactor) -> u64 {
        let weigh = |tokens: u64, weight: u32| {
            tokens.min(MAX_TOKENS).saturating_mul(u64::from(weight.min(MAX_TOKEN_WEIGHT)))
        };
        let tokens = weigh(prompt, self.in_weight).saturating_add(weigh(output, self.out_weight));
        if planted(Fault::FactorDivides) {
            return tokens.saturating_mul(10_000) / u64::from(factor.hundredths());
        }
        tokens.saturating_mul(u64::from(factor.hundredths()))
    }

    /// Cost of holding a slot for `micros` microseconds, and the tokens it stands for.
    pub(super) fn held_tokens(&self, micros: u128) -> u64 {
        let tokens = micros.saturating_mul(u128::from(self.held_tokens_per_second)) / 1_000_000;
        u64::try_from(tokens).unwrap_or(MAX_TOKENS).min(MAX_TOKENS)
    }

    /// The least charge for what held a slot: some tokens of its model, so that inside one pool the
    /// factor stays common to all charges.
    pub(super) fn min_charge(&self, factor: CostFactor) -> u64 {
        u64::from(self.min_charge_tokens).max(1).saturating_mul(u64::from(factor.hundredths()))
    }

    /// LAG in units of cost.
    pub(super) fn lag(&self) -> u64 {
        u64::from(self.lag_tokens).saturating_mul(UNITS_A_TOKEN)
    }

    /// Output tokens to expect: the average of the tenant on the model, else of the model, cut by what
    /// the request allows, times the answers it asks for.
    pub(super) fn forecast(&self, asked: &Asked, own: Option<Average>, model: Option<Average>) -> u64 {
        let usual = own.or(model).map_or(self.cold_forecast_tokens, Average::tokens);
        let each = asked.max_output.map_or(usual, |max| usual.min(max));
        each.min(MAX_TOKENS).saturating_mul(u64::from(asked.answers)).min(MAX_TOKENS)
    }
}

/// The size of a request as its sender described it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) prompt: u64,
    pub(super) max_output: Option<u64>,
    /// At least 1.
    pub(super) answers: u32,
}

impl Asked {
    pub(super) fn of(demand: &Demand) -> Self {
        Self {
            prompt: demand.prompt_tokens,
            max_output: demand.max_output_tokens,
            answers: demand.answers.max(1),
        }
    }
}

/// A moving average of output tokens with step 1/5, in 1/1024 token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Average(u64);

impl Average {
    /// The average after one more finished request.
    pub(super) fn learn(old: Option<Self>, tokens: u64) -> Self {
        let sample = tokens.min(MAX_TOKENS).saturating_mul(1024);
        match old {
            None => Self(sample),
            Some(Self(old)) if sample >= old => Self(old.saturating_add((sample - old) / 5)),
            Some(Self(old)) => Self(old.saturating_sub((old - sample) / 5)),
        }
    }

    pub(super) fn tokens(self) -> u64 {
        self.0.saturating_add(512) / 1024
    }
}
