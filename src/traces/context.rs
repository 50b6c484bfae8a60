//! W3C Trace Context: the client's trace goes on here, or a new one begins.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample};
use std::fmt::Write;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `00-<32 digits>-<16 digits>-<2 digits>`.
const LENGTH: usize = 55;
/// Longest `tracestate` that is exported; all of it is passed on.
const STATE_MAX: usize = 512;

/// The place of a request in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: TraceId,
    /// The client's span; `None` when the trace begins here.
    pub parent: Option<SpanId>,
    /// The span of the request as a whole.
    pub span: SpanId,
    /// The span of the call upstream: the parent of whatever the upstream does.
    pub call: SpanId,
    pub flags: TraceFlags,
    /// The client's `tracestate`.
    pub state: Option<HeaderValue>,
}

/// A valid `traceparent`.
struct Parent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl Context {
    /// Goes on with the trace in `headers`, whose word on sampling holds; without a valid one, begins a trace,
    /// which `sampler` may leave out.
    pub(super) fn of(headers: &HeaderMap, sampler: &Sampler) -> Self {
        let ids = RandomIdGenerator::default();
        let (span, call) = (ids.new_span_id(), ids.new_span_id());
        if let Some(Parent { trace, span: parent, flags }) = Parent::of(headers) {
            return Self { trace, parent: Some(parent), span, call, flags, state: state(headers) };
        }
        let trace = ids.new_trace_id();
        let taken = sampler.should_sample(None, trace, "", &SpanKind::Server, &[], &[]).decision;
        let flags = TraceFlags::default().with_sampled(taken == SamplingDecision::RecordAndSample);
        Self { trace, parent: None, span, call, flags, state: None }
    }

    pub fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// Writes the context into the headers of the request upstream, which has the client's.
    pub fn pass_on(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(LENGTH);
        // Writing to a String cannot fail.
        let _ = write!(text, "00-{}-{}-{:02x}", self.trace, self.call, self.flags.to_u8());
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        if self.parent.is_none() {
            // It belonged to a trace that could not be continued.
            headers.remove(TRACESTATE);
        }
    }
}

impl Parent {
    /// The one `traceparent` in `headers`, if it is well formed. Of a later version the known part is read.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT);
        let (value, None) = (values.next()?, values.next()) else { return None };
        let text = value.to_str().ok()?;
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = known.split('-');
        let mut part = |length| parts.next().filter(|part| part.len() == length && lower_hex(part));
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let fits = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let trace = TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?;
        let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
        // The flags this version knows: sampled, and that the id is random.
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 0b11);
        fits.then_some(Self { trace, span, flags })
    }
}

fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE);
    let first = values.next()?;
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return Some(first).filter(|value| value.len() <= STATE_MAX).cloned();
    }
    let parts: Option<Vec<&str>> = std::iter::once(first).chain(rest).map(|one| one.to_str().ok()).collect();
    HeaderValue::try_from(parts?.join(",")).ok().filter(|value| value.len() <= STATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn context(headers: &[(&str, &str)], sampler: &Sampler) -> Context {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        Context::of(&headers.iter().map(pair).collect(), sampler)
    }

    #[test]
    fn a_well_formed_parent_is_continued_and_its_word_on_sampling_holds() {
        for (text, flags) in [
            (format!("00-{TRACE}-{SPAN}-01"), 1),
            (format!("00-{TRACE}-{SPAN}-00"), 0),
            (format!("00-{TRACE}-{SPAN}-ff"), 3),
            (format!("cc-{TRACE}-{SPAN}-01"), 1),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"), 1),
        ] {
            for sampler in [Sampler::AlwaysOn, Sampler::AlwaysOff] {
                let context = context(&[("traceparent", &text), ("tracestate", "a=b")], &sampler);
                assert_eq!(context.trace.to_string(), TRACE, "{text}");
                assert_eq!(context.parent.unwrap().to_string(), SPAN);
                assert_eq!(context.flags.to_u8(), flags, "{text}");
                assert_eq!(context.state.unwrap(), "a=b");
                assert!(context.span != context.call && context.span != context.parent.unwrap());
            }
        }
    }

    #[test]
    fn a_malformed_parent_begins_a_new_trace() {
        let zero_trace = "0".repeat(32);
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01x"),
            format!("cc-{TRACE}-{SPAN}-01x"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zero_trace}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00-{TRACE}{SPAN}--01"),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
        ] {
            let context = context(&[("traceparent", &text), ("tracestate", "a=b")], &Sampler::AlwaysOn);
            assert!(context.trace.to_string() != TRACE && context.is_sampled(), "{text}");
            assert_eq!((context.parent, context.state), (None, None), "{text}");
        }
        let twice = format!("00-{TRACE}-{SPAN}-01");
        let twice = context(&[("traceparent", &twice), ("traceparent", &twice)], &Sampler::AlwaysOff);
        assert!(twice.parent.is_none() && !twice.is_sampled());
    }

    #[test]
    fn what_is_passed_on_names_the_call_as_parent() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let states = [("traceparent", text.as_str()), ("tracestate", "a=b"), ("tracestate", "c=d")];
        let continued = context(&states, &Sampler::AlwaysOn);
        assert_eq!(continued.state.as_ref().unwrap(), "a=b,c=d");
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(&text).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b,c=d"));
        continued.pass_on(&mut headers);
        let expected = format!("00-{TRACE}-{}-01", continued.call);
        assert_eq!(headers.get(TRACEPARENT).unwrap(), expected.as_str());
        assert_eq!(headers.get(TRACESTATE).unwrap(), "a=b,c=d");
        context(&[], &Sampler::AlwaysOff).pass_on(&mut headers);
        assert!(headers.get(TRACEPARENT).unwrap().to_str().unwrap().ends_with("-00"));
        assert!(!headers.contains_key(TRACESTATE));
    }
}
