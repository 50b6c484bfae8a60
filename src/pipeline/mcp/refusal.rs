//! How a refusal is told: in the envelope of every other route as long as no message was read, and as a JSON-RPC
//! error once there is one to answer.
//!
//! The error's `data` has what the envelope has. Codes are those of JSON-RPC and of the protocol where they have
//! one for the case, else the HTTP status: what lies outside of -32768..-32000 is an application's own.

use crate::error::{Code, Fault, X_REQUEST_ID};
use crate::pipeline::headers::decorate_plain;
use crate::pipeline::record::{Record, shown};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use obleth_core::mcp::Malformed;
use serde::Serialize;
use serde_json::value::RawValue;

/// The headers and the body do not agree.
pub(super) const HEADER_MISMATCH: i64 = -32020;
/// The protocol version is none that is spoken here.
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;
/// There is no such method.
pub(super) const METHOD_NOT_FOUND: i64 = -32601;

/// Why a request is not carried.
#[derive(Debug)]
pub(super) struct Refusal {
    pub fault: Fault,
    /// `None`: no message was read.
    message: Option<Box<Told>>,
}

/// What is told of it as a JSON-RPC error.
#[derive(Debug, Default)]
struct Told {
    code: Option<i64>,
    id: Option<Box<RawValue>>,
    versions: Option<Versions>,
}

#[derive(Debug, Serialize)]
struct Versions {
    supported: &'static [&'static str],
    requested: String,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { fault, message: None }
    }
}

impl From<Malformed> for Refusal {
    fn from(why: Malformed) -> Self {
        let fault = Fault::new(Code::InvalidRequest, why.message());
        Self { fault, message: Some(Told::with(why.code())) }
    }
}

impl Refusal {
    /// A request that the protocol forbids, under the protocol's own code.
    pub fn protocol(code: i64, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self { fault: Fault::new(Code::InvalidRequest, message), message: Some(Told::with(code)) }
    }

    /// The protocol version is none of those that are `supported`.
    pub fn version(supported: &'static [&'static str], requested: &str) -> Self {
        let mut refusal = Self::protocol(UNSUPPORTED_VERSION, "this protocol version is not supported");
        if let Some(told) = &mut refusal.message {
            told.versions = Some(Versions { supported, requested: requested.to_owned() });
        }
        refusal
    }

    /// It answers the request of this id; without one, a message that had none.
    #[must_use]
    pub fn to(mut self, id: Option<&RawValue>) -> Self {
        self.message.get_or_insert_default().id = id.map(ToOwned::to_owned);
        self
    }

    /// Ends the record, and answers.
    pub async fn answer(self, mut record: Box<Record>) -> HttpResponse {
        record.refused(&self.fault).await;
        let request_id = &record.arrival.request_id;
        let mut answer = match &self.message {
            None => shown(&self.fault).respond(request_id),
            Some(told) => told.respond(&shown(&self.fault), request_id),
        };
        decorate_plain(&record, answer.headers_mut());
        answer
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: i64,
    message: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    code: &'a str,
    r#type: &'a str,
    source: &'static str,
    request_id: &'a str,
    #[serde(flatten)]
    versions: Option<&'a Versions>,
}

impl Told {
    fn with(code: i64) -> Box<Self> {
        Box::new(Self { code: Some(code), ..Self::default() })
    }

    fn respond(&self, fault: &Fault, request_id: &str) -> HttpResponse {
        let plain = fault.respond(request_id);
        let status = match self.code {
            Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
            _ => plain.status(),
        };
        let mut answer = HttpResponse::build(status);
        for name in [X_REQUEST_ID, RETRY_AFTER] {
            let value: Option<&HeaderValue> = plain.headers().get(&name);
            value.into_iter().for_each(|value| _ = answer.insert_header((name.clone(), value.clone())));
        }
        if fault.code == Code::BodyTooLarge {
            answer.force_close();
        }
        answer.json(Envelope {
            jsonrpc: "2.0",
            id: self.id.as_deref(),
            error: Detail {
                code: self.code.unwrap_or_else(|| status.as_u16().into()),
                message: &fault.message,
                data: Data {
                    code: fault.code.name(),
                    r#type: fault.code.kind(),
                    source: "gateway",
                    request_id,
                    versions: self.versions.as_ref(),
                },
            },
        })
    }
}
