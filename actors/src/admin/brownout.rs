//! Brownout policies: from what is stored, and from the configuration, to what is in force.

use super::document::read;
pub use super::limits::BrownoutSpec;
use super::limits::check_brownout;
use obleth_core::brownout::{Policy, Step};

/// `max_tokens` of a policy that leaves it out.
const MAX_TOKENS: u64 = 256;
/// `OBLETH_BROWNOUT_WAIT_MS` when it is not set.
const WAIT_MS: u32 = 750;

/// What tenants have that say nothing, or not everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrownoutDefaults {
    /// `wait_ms` of a policy that leaves it out.
    pub wait_ms: u32,
    /// The policy of tenants that have none.
    pub policy: Option<Policy>,
}

impl Default for BrownoutDefaults {
    fn default() -> Self {
        Self { wait_ms: WAIT_MS, policy: None }
    }
}

impl BrownoutDefaults {
    /// From the configuration.
    pub fn new(wait_ms: u32, policy: Option<&BrownoutSpec>) -> Self {
        let defaults = Self { wait_ms, policy: None };
        Self { policy: policy.and_then(|spec| defaults.policy(Some(spec))), ..defaults }
    }

    /// What is in force for a tenant with this field: nothing unless it is enabled and has steps.
    pub fn policy(&self, spec: Option<&BrownoutSpec>) -> Option<Policy> {
        let Some(spec) = spec else { return self.policy };
        if !spec.enabled {
            return None;
        }
        let wait_ms = spec.wait_ms.and_then(|wait| u32::try_from(wait).ok()).unwrap_or(self.wait_ms);
        let max_tokens = spec.max_tokens.and_then(|most| u64::try_from(most).ok()).unwrap_or(MAX_TOKENS);
        let steps = spec.steps.as_deref().unwrap_or(&Step::ALL);
        Policy::new(wait_ms, max_tokens, steps.iter().copied())
    }
}

/// A policy as the configuration has it: the same document as a tenant's. An error says what is wrong.
pub fn parse(text: &str) -> Result<BrownoutSpec, String> {
    let wrong = |error: super::FieldError| match error.field.as_str() {
        "" => format!("must be a policy such as {{\"enabled\":true}}: {}", error.message),
        field => format!("has a fault in {}: {}", field.trim_start_matches("brownout."), error.message),
    };
    let spec: BrownoutSpec = read(text.as_bytes()).map_err(wrong)?;
    check_brownout(Some(&spec)).map_err(wrong)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_leaves_out_is_filled_in() {
        let own = Policy::new(100, 8, [Step::Shed]);
        let defaults = BrownoutDefaults::new(900, None);
        let with_default = BrownoutDefaults { policy: own, ..defaults };
        for (text, policy) in [
            ("{}", None),
            (r#"{"enabled":false,"wait_ms":5,"steps":["shed"]}"#, None),
            (r#"{"enabled":true,"steps":[]}"#, None),
            (r#"{"enabled":true}"#, Policy::new(900, 256, [Step::CapTokens, Step::Shed])),
            (
                r#"{"enabled":true,"steps":["shed","cap_tokens"]}"#,
                Policy::new(900, 256, [Step::Shed, Step::CapTokens]),
            ),
            (r#"{"enabled":true,"wait_ms":100,"max_tokens":8,"steps":["shed"]}"#, own),
        ] {
            let spec = parse(text).unwrap();
            assert_eq!(defaults.policy(Some(&spec)), policy, "{text}");
            assert_eq!(with_default.policy(Some(&spec)), policy, "a policy of its own stands alone: {text}");
        }
        assert_eq!((defaults.policy(None), with_default.policy(None)), (None, own));
        let enabled = parse(r#"{"enabled":true}"#).unwrap();
        assert_eq!(BrownoutDefaults::new(20, Some(&enabled)).policy, Policy::new(20, 256, Step::ALL));
        assert_eq!(BrownoutDefaults::new(20, Some(&parse("{}").unwrap())).policy, None);
    }

    #[test]
    fn a_step_has_one_name_everywhere() {
        for step in Step::ALL {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
    }

    #[test]
    fn a_fault_is_named() {
        for (text, named) in [
            ("x", "must be a policy"),
            ("[]", "must be a policy"),
            (r#"{"enabled":1}"#, "enabled"),
            (r#"{"wait":1}"#, "wait"),
            (r#"{"wait_ms":0}"#, "wait_ms"),
            (r#"{"max_tokens":0}"#, "max_tokens"),
            (r#"{"steps":["nap"]}"#, "steps[0]"),
            (r#"{"steps":["shed","shed"]}"#, "steps"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(named), "{text}: {fault}");
        }
    }
}
