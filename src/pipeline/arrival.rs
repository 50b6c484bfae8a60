//! A request as it came in.

use super::headers::time;
use super::timing::Timing;
use crate::app::Worker;
use crate::error::{Fault, X_REQUEST_ID};
use crate::telemetry::Refused;
use crate::traces::{Context, Ended};
use crate::wire::Route;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::clock::unix_micros;
use obleth_core::ledger::Admission;
use obleth_core::moment::Moment;
use std::sync::Arc;
use uuid::Uuid;

/// Longest `x-request-id` and `x-session-id` that is kept.
const ID_MAX: usize = 128;

/// When and how a request came.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Moment,
    /// The same as Unix time.
    pub unix_micros: i64,
    pub request_id: Arc<str>,
    /// `x-session-id`: for the ledger alone.
    pub session_id: Option<Arc<str>>,
    pub verb: Verb,
    pub route: Route,
    /// Its place in a trace; `None` when nothing is traced.
    pub trace: Option<Context>,
}

impl Arrival {
    /// The arrival of `request` on `route`, now.
    pub fn of(worker: &Worker, request: &HttpRequest, route: Route) -> Self {
        Self {
            at: worker.gateway.clock.now(),
            unix_micros: unix_micros(),
            request_id: request_id_of(request.headers()),
            session_id: clean(request.headers(), "x-session-id").map(Arc::from),
            verb: Verb::of(request.method()),
            route,
            trace: worker.gateway.traces.context(request.headers()),
        }
    }

    /// Answers a request that was not authenticated: counted, but no row.
    pub fn refuse(&self, worker: &Worker, fault: &Fault) -> HttpResponse {
        worker.metrics.request(self.route.label(), fault.code.status(), Admission::None);
        worker.gateway.access.note_refused(Refused {
            ts: self.unix_micros,
            request_id: Arc::clone(&self.request_id),
            route: self.route.label(),
            status: fault.code.status(),
            error_code: fault.code.name(),
        });
        let mut answer = fault.respond(&self.request_id);
        let now = worker.gateway.clock.now();
        time(&Timing::new(self.at), now, answer.headers_mut());
        if let Some(context) = &self.trace {
            worker.gateway.traces.note(Ended {
                context: context.clone(),
                timing: Timing::new(self.at),
                end: now,
                unix_micros: self.unix_micros,
                request_id: Arc::clone(&self.request_id),
                verb: self.verb,
                route: self.route,
                status: fault.code.status(),
                error_code: Some(fault.code.name()),
                told: Some(fault.code.status()),
                row: None,
                model: None,
            });
        }
        answer
    }
}

/// The method of a request on a route that has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Delete,
    /// It is refused.
    Other,
}

impl Verb {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::POST => Self::Post,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }

    /// As a trace has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Other => "_OTHER",
        }
    }
}

/// The client's `x-request-id` if it is fit to be one, else a new one.
pub fn request_id_of(headers: &HeaderMap) -> Arc<str> {
    match clean(headers, X_REQUEST_ID.as_str()) {
        Some(id) => Arc::from(id),
        None => Arc::from(&*Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer())),
    }
}

/// A header of 1 to 128 visible ASCII characters.
fn clean<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    let fit = !value.is_empty() && value.len() <= ID_MAX && value.bytes().all(|byte| byte.is_ascii_graphic());
    fit.then_some(value)
}
