//! What a tenant has waiting for a model, as one sum, and what it is now thought to cost.

use super::cost::Average;
use super::plan::Settings;
use super::state::Waiting;
use crate::units::CostFactor;

/// The sum of waiting requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// As forecast at arrival, in cost units.
    cost: u128,
    /// The part of it that is prompts.
    prompts: u128,
    /// Answers asked for.
    answers: u64,
}

impl Work {
    pub(super) fn add(&mut self, waiting: &Waiting) {
        self.cost = self.cost.saturating_add(waiting.cost.into());
        self.prompts = self.prompts.saturating_add(waiting.prompt_cost.into());
        self.answers = self.answers.saturating_add(waiting.asked.answers.into());
    }

    pub(super) fn remove(&mut self, waiting: &Waiting) {
        self.cost = self.cost.saturating_sub(waiting.cost.into());
        self.prompts = self.prompts.saturating_sub(waiting.prompt_cost.into());
        self.answers = self.answers.saturating_sub(waiting.asked.answers.into());
    }

    /// The cost by what is known now. Shorter answers than were forecast at arrival make less work; longer
    /// ones do not make more, because the bounds that the requests set are not kept.
    pub(super) fn cost(&self, settings: &Settings, factor: CostFactor, average: Option<Average>) -> u128 {
        let answers = self.cost.saturating_sub(self.prompts);
        let now = average.map_or(answers, |average| {
            u128::from(settings.cost(0, average.tokens(), factor)).saturating_mul(self.answers.into())
        });
        self.prompts.saturating_add(answers.min(now))
    }
}
