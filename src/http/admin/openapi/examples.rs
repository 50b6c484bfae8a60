//! Examples of requests and answers, by `operationId`. The tests send the requests and compare the answers.

use serde_json::Value;
use std::sync::LazyLock;

static EXAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());

/// The example of an operation's `request` or `response`.
pub(super) fn of(operation: &str, what: &str) -> Option<Value> {
    EXAMPLES.get(operation)?.get(what).cloned()
}
