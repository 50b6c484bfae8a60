//! `x-ratelimit-*` and `x-obleth-budget-warning`: what is left, said with each answer.

use super::record::Record;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use obleth_core::token_budget::{Rate, Warning, What};
use obleth_core::units::Usd;
use std::time::Duration;

const X_OBLETH_BUDGET_WARNING: HeaderName = HeaderName::from_static("x-obleth-budget-warning");

/// Limit, remaining and reset of one bucket.
type Names = [HeaderName; 3];

const REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Says what the minute buckets hold now, and which budgets that are not hard are passed. Where no minute is
/// limited there is nothing to say; else an upstream's own headers of these names, which are about the operator, go.
pub(super) fn tell(record: &Record, headers: &mut HeaderMap) {
    if !record.warnings.is_empty() {
        let all = record.warnings.iter().map(worded).collect::<Vec<_>>().join(", ");
        if let Ok(value) = HeaderValue::try_from(all) {
            headers.insert(X_OBLETH_BUDGET_WARNING, value);
        }
    }
    let (tenant, key) = (&record.caller.tenant, &record.caller.key);
    if !tenant.limits.has_minute() && !key.limits.has_minute() {
        return;
    }
    for name in REQUESTS.iter().chain(&TOKENS) {
        headers.remove(name);
    }
    let budget = &record.worker.gateway.handles.budget;
    let rates = budget.rates((tenant.id, &tenant.limits), (key.id, &key.limits));
    for (names, rate) in [(REQUESTS, rates.requests), (TOKENS, rates.tokens)] {
        if let Some(rate) = rate {
            write(names, rate, headers);
        }
    }
}

fn write([limit, remaining, reset]: Names, rate: Rate, headers: &mut HeaderMap) {
    headers.insert(limit, HeaderValue::from(rate.limit));
    headers.insert(remaining, HeaderValue::from(rate.remaining));
    if let Ok(value) = HeaderValue::try_from(span(rate.reset)) {
        headers.insert(reset, value);
    }
}

/// `tenant; period=day; unit=tokens; used=1200; limit=1000`.
fn worded(warning: &Warning) -> String {
    let Warning { scope, period, what, .. } = warning;
    let unit = if *what == What::Tokens { "tokens" } else { "usd" };
    let number = |amount: u128| match what {
        What::Tokens => amount.to_string(),
        What::Money => Usd::from_pico(i128::try_from(amount).unwrap_or(i128::MAX)).to_string(),
    };
    let (used, limit) = (number(warning.used), number(warning.limit));
    format!("{}; period={}; unit={unit}; used={used}; limit={limit}", scope.as_str(), period.as_str())
}

/// A span as OpenAI writes it: `20ms`, `1s`, `7.66s`, `6m0s`, `1h0m0s`. Rounded up.
fn span(span: Duration) -> String {
    let millis = span.as_micros().div_ceil(1000);
    let (seconds, rest) = (millis / 1000, millis % 1000);
    match (seconds, rest) {
        (0, _) => format!("{millis}ms"),
        (1..60, 0) => format!("{seconds}s"),
        (1..60, _) => format!("{}s", format!("{seconds}.{rest:03}").trim_end_matches('0')),
        _ => {
            let seconds = millis.div_ceil(1000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            if hours > 0 { format!("{hours}h{minutes}m{seconds}s") } else { format!("{minutes}m{seconds}s") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        for (micros, text) in [
            (0, "0ms"),
            (1, "1ms"),
            (20_000, "20ms"),
            (999_001, "1s"),
            (1_000_000, "1s"),
            (7_660_000, "7.66s"),
            (59_999_001, "1m0s"),
            (360_000_000, "6m0s"),
            (360_000_001, "6m1s"),
            (3_600_000_000, "1h0m0s"),
        ] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }
}
