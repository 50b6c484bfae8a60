//! The fields that tenants and keys share: limits, budgets, lists, and a tenant's brownout policy.

use super::fields::{FieldError, UsdField, check_names, check_range};
use super::models::yes;
use crate::shapes::{PeriodName, StepName};
use obleth_core::brownout::Step;
use obleth_core::mcp::ToolGlobs;
use obleth_core::token_budget::{Limits, Period, PeriodBudget};
use obleth_core::units::Usd;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Entries of an allow list.
const LIST_MAX: usize = 1024;
/// Highest limit of tokens or requests.
const COUNT_MAX: i64 = 1_000_000_000_000;

/// One period budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget", transform = one_of_two)]
pub struct BudgetSpec {
    #[schemars(with = "PeriodName")]
    pub period: Period,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_i64))]
    pub max_tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_usd: Option<UsdField>,
    #[serde(default = "yes")]
    pub hard: bool,
}

/// A limit of tokens, of money, or both.
fn one_of_two(schema: &mut Schema) {
    let given = |field: &str| {
        let other_than_null = json!({"not": {"type": "null"}});
        json!({"required": [field], "properties": {field: other_than_null}})
    };
    schema.insert("anyOf".to_owned(), json!([given("max_tokens"), given("max_cost_usd")]));
}

/// What may happen to a tenant's requests under pressure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Brownout")]
pub struct BrownoutSpec {
    #[serde(default)]
    pub enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub wait_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_tokens: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeSet<StepName>>")]
    pub steps: Option<Vec<Step>>,
}

/// Checks budgets.
pub fn check_budgets(budgets: &[BudgetSpec]) -> Result<(), FieldError> {
    if budgets.len() > 16 {
        return Err(FieldError::new("budgets", "must have at most 16 entries"));
    }
    for (position, budget) in budgets.iter().enumerate() {
        let field = format!("budgets[{position}]");
        if budget.max_tokens.is_none() && budget.max_cost_usd.is_none() {
            return Err(FieldError::new(field, "needs max_tokens or max_cost_usd"));
        }
        check_range(&format!("{field}.max_tokens"), budget.max_tokens, 0..=1_000_000_000_000_000)?;
        let usd = 0..=Usd::from_pico(1_000_000_000_000_000_000_000).pico();
        match budget.max_cost_usd {
            Some(UsdField(cost)) if !usd.contains(&cost.pico()) => {
                return Err(FieldError::new(format_args!("{field}.max_cost_usd"), "must be 0 to 1000000000"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a brownout policy.
pub fn check_brownout(policy: Option<&BrownoutSpec>) -> Result<(), FieldError> {
    let Some(policy) = policy else {
        return Ok(());
    };
    check_range("brownout.wait_ms", policy.wait_ms, 1..=3_600_000)?;
    check_range("brownout.max_tokens", policy.max_tokens, 1..=1_000_000_000)?;
    match &policy.steps {
        Some(steps) if steps.iter().collect::<BTreeSet<_>>().len() < steps.len() => {
            Err(FieldError::new("brownout.steps", "must name each step once at most"))
        }
        _ => Ok(()),
    }
}

/// Checks limits a minute and in flight, and the allow lists.
pub fn check_limits(
    tokens_per_minute: Option<i64>,
    requests_per_minute: Option<i64>,
    max_in_flight: Option<i64>,
    allowed_models: Option<&[String]>,
    allowed_tools: Option<&[String]>,
) -> Result<(), FieldError> {
    check_range("tokens_per_minute", tokens_per_minute, 1..=COUNT_MAX)?;
    check_range("requests_per_minute", requests_per_minute, 1..=COUNT_MAX)?;
    check_range("max_in_flight", max_in_flight, 1..=1_000_000)?;
    check_names("allowed_models", allowed_models.unwrap_or_default(), LIST_MAX)?;
    check_names("allowed_tools", allowed_tools.unwrap_or_default(), LIST_MAX)
}

/// Limits a minute and budgets as the data plane uses them.
pub fn limits_of(
    tokens_per_minute: Option<i64>,
    requests_per_minute: Option<i64>,
    budgets: &[BudgetSpec],
) -> Limits {
    let count = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    let budget = |spec: &BudgetSpec| PeriodBudget {
        period: spec.period,
        max_tokens: count(spec.max_tokens),
        max_cost: spec.max_cost_usd.and_then(|cost| u128::try_from(cost.0.pico()).ok()),
        hard: spec.hard,
    };
    Limits {
        tokens_per_minute: count(tokens_per_minute),
        requests_per_minute: count(requests_per_minute),
        budgets: budgets.iter().map(budget).collect(),
    }
}

/// A list of `server/tool` globs as the data plane uses it.
pub fn tool_globs(globs: Option<Vec<String>>) -> Option<ToolGlobs> {
    globs.map(|globs| ToolGlobs::of(globs.iter().map(String::as_str)))
}

/// An allow list as the data plane uses it.
pub fn name_set(names: Option<Vec<String>>) -> Option<BTreeSet<Arc<str>>> {
    names.map(|names| names.into_iter().map(Arc::from).collect())
}
