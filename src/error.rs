//! Every refusal and failure of the gateway: one line an error code, and the one place that renders them.

use crate::wire::Route;
use crate::wire::failure::{Failure, Position, Source};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use bytes::Bytes;
use obleth_actors::shapes::{PeriodName, Time};
use obleth_core::token_budget::{Period, What};
use obleth_core::units::Usd;
use schemars::JsonSchema;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// The header that names a request.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal $kind:literal;)*) => {
        /// An error code of contract §2 or §3.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// The code of this name.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$code),)* _ => None, }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$code => $status,)* }
            }

            /// `error.code`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }

            /// `error.type`.
            pub const fn kind(self) -> &'static str {
                match self { $(Self::$code => $kind,)* }
            }
        }
    };
}

codes! {
    InvalidRequest = 400 "invalid_request" "invalid_request_error";
    ModelRequired = 400 "model_required" "invalid_request_error";
    RequestExceedsLimit = 400 "request_exceeds_limit" "invalid_request_error";
    ContextLengthExceeded = 400 "context_length_exceeded" "invalid_request_error";
    InvalidApiKey = 401 "invalid_api_key" "authentication_error";
    Unauthorized = 401 "unauthorized" "authentication_error";
    BudgetExhausted = 402 "budget_exhausted" "insufficient_quota";
    KeyDisabled = 403 "key_disabled" "permission_error";
    KeyExpired = 403 "key_expired" "permission_error";
    TenantSuspended = 403 "tenant_suspended" "permission_error";
    ModelNotAllowed = 403 "model_not_allowed" "permission_error";
    ModelDisabled = 403 "model_disabled" "permission_error";
    RoleForbidden = 403 "role_forbidden" "permission_error";
    ToolNotAllowed = 403 "tool_not_allowed" "permission_error";
    OriginNotAllowed = 403 "origin_not_allowed" "permission_error";
    ModelNotFound = 404 "model_not_found" "invalid_request_error";
    McpServerNotFound = 404 "mcp_server_not_found" "invalid_request_error";
    SessionNotFound = 404 "session_not_found" "invalid_request_error";
    NotFound = 404 "not_found" "invalid_request_error";
    MethodNotAllowed = 405 "method_not_allowed" "invalid_request_error";
    Conflict = 409 "conflict" "invalid_request_error";
    StaleVersion = 409 "stale_version" "invalid_request_error";
    BodyTooLarge = 413 "body_too_large" "invalid_request_error";
    TokensPerMinute = 429 "tokens_per_minute" "rate_limit_error";
    RequestsPerMinute = 429 "requests_per_minute" "rate_limit_error";
    BudgetReserved = 429 "budget_reserved" "rate_limit_error";
    /// Management API.
    TooManyFailures = 429 "too_many_failures" "rate_limit_error";
    TenantQueueFull = 429 "tenant_queue_full" "rate_limit_error";
    /// Ledger only.
    ClientLeft = 499 "client_left" "client_error";
    /// Ledger only.
    GatewayRestarted = 500 "gateway_restarted" "server_error";
    Internal = 500 "internal_error" "server_error";
    UpstreamUnreachable = 502 "upstream_unreachable" "upstream_error";
    UpstreamError = 502 "upstream_error" "upstream_error";
    UpstreamTruncated = 502 "upstream_truncated" "upstream_error";
    UpstreamAuth = 502 "upstream_auth" "upstream_error";
    AdmissionTimeout = 503 "admission_timeout" "overloaded_error";
    DeadlineUnreachable = 503 "deadline_unreachable" "overloaded_error";
    Overloaded = 503 "overloaded" "overloaded_error";
    Restarting = 503 "restarting" "server_error";
    Draining = 503 "draining" "server_error";
    StoreUnavailable = 503 "store_unavailable" "server_error";
    UpstreamCircuitOpen = 503 "upstream_circuit_open" "upstream_error";
    UpstreamTimeout = 504 "upstream_timeout" "upstream_error";
}

/// A typed error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    /// For people. Never holds a key, a prompt or a body.
    pub message: Cow<'static, str>,
    /// The field at fault.
    pub param: Option<Cow<'static, str>>,
    pub retry_after: Option<Duration>,
    /// The budget that is spent.
    pub budget: Option<Box<SpentBudget>>,
}

/// What a 402 says of the budget that is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SpentBudget {
    /// `tenant` or `key`.
    pub scope: &'static str,
    #[schemars(with = "PeriodName")]
    pub period: Period,
    /// `tokens` or `usd`.
    pub unit: &'static str,
    pub limit: Quantity,
    pub used: Quantity,
    pub left: Quantity,
    /// What the request reserves.
    pub needed: Quantity,
    /// RFC 3339; null: never.
    #[schemars(with = "Option<Time>")]
    pub resets_at: Option<String>,
}

/// Tokens as a number, or USD as a decimal string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Quantity {
    Tokens(u64),
    Usd(String),
}

impl Quantity {
    /// So much of one unit.
    pub fn of(what: What, amount: u128) -> Self {
        match what {
            What::Tokens => Self::Tokens(u64::try_from(amount).unwrap_or(u64::MAX)),
            What::Money => Self::Usd(Usd::from_pico(i128::try_from(amount).unwrap_or(i128::MAX)).to_string()),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => tokens.fmt(f),
            Self::Usd(usd) => usd.fmt(f),
        }
    }
}

impl Fault {
    /// An error of this code.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        // A 503 always says when to come back.
        let retry_after = (code.status() == 503).then_some(Duration::from_secs(1));
        Self { code, message: message.into(), param: None, retry_after, budget: None }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn at(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The error as an answer.
    pub fn respond(&self, request_id: &str) -> HttpResponse {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = HttpResponse::build(status);
        if let Ok(value) = HeaderValue::from_str(request_id) {
            answer.insert_header((X_REQUEST_ID, value));
        }
        if let Some(wait) = self.retry_after {
            answer.insert_header((RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        }
        if self.code == Code::BodyTooLarge {
            // What the client still sends is not read; the connection cannot be used again.
            answer.force_close();
        }
        answer.json(self.envelope(request_id))
    }

    /// The body of its answer.
    pub fn envelope<'a>(&'a self, request_id: &'a str) -> Envelope<'a> {
        Envelope { error: self.detail(request_id) }
    }

    /// The error as the last event of a stream on `route`.
    pub fn event(&self, route: Route, at: Position, request_id: &str) -> Bytes {
        let failure = Failure {
            code: self.code.name(),
            kind: self.code.kind(),
            message: &self.message,
            param: self.param.as_deref(),
            source: Source::Gateway,
            request_id,
        };
        failure.event(route, at)
    }

    fn detail<'a>(&'a self, request_id: &'a str) -> Detail<'a> {
        Detail {
            message: &self.message,
            kind: self.code.kind(),
            code: self.code.name(),
            param: self.param.as_deref(),
            source: "gateway",
            request_id,
            budget: self.budget.as_deref(),
        }
    }
}

/// Seconds, rounded up, at least one: `retry-after` has no fractions, and zero would mean "now".
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// How every error is told.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ErrorDetail")]
struct Detail<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    code: &'a str,
    param: Option<&'a str>,
    source: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a SpentBudget>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        assert_eq!(whole_seconds(Duration::ZERO), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for code in [Code::Overloaded, Code::Draining, Code::Restarting, Code::StoreUnavailable] {
            let answer = Fault::new(code, "x").respond("id");
            assert!(answer.headers().contains_key(RETRY_AFTER), "{code:?}");
        }
    }
}
