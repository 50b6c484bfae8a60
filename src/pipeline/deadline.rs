//! `x-obleth-deadline-ms`: how long, from its arrival, a client has for its request to get a slot.

use crate::error::{Code, Fault};
use actix_web::http::header::{HeaderMap, HeaderName};
use obleth_core::moment::Moment;
use std::time::Duration;

const X_OBLETH_DEADLINE_MS: HeaderName = HeaderName::from_static("x-obleth-deadline-ms");
/// A day: no wait in the queue is longer.
const LONGEST: u64 = 86_400_000;

/// The moment the client names, counted from `arrival`.
pub(super) fn deadline(headers: &HeaderMap, arrival: Moment) -> Result<Option<Moment>, Fault> {
    let mut values = headers.get_all(X_OBLETH_DEADLINE_MS);
    let millis = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok().and_then(parse),
        (Some(_), Some(_)) => None,
    };
    let millis = millis.ok_or_else(|| {
        let message = format!("must be given once, a whole number of milliseconds from 1 to {LONGEST}");
        Fault::new(Code::InvalidRequest, message).at(X_OBLETH_DEADLINE_MS.as_str().to_owned())
    })?;
    Ok(Some(arrival + Duration::from_millis(millis)))
}

fn parse(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis: u64 = if digits { text.parse().ok()? } else { return None };
    (1..=LONGEST).contains(&millis).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn a_deadline_is_a_whole_number_of_milliseconds_of_a_day_at_most() {
        let at = Moment::from_micros(5_000);
        let read = |values: &[&'static str]| {
            let values = values.iter().map(|value| (X_OBLETH_DEADLINE_MS, HeaderValue::from_static(value)));
            deadline(&values.collect(), at)
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["1"]), Ok(Some(Moment::from_micros(6_000))));
        assert_eq!(read(&["86400000"]), Ok(Some(Moment::from_micros(86_400_005_000))));
        for bad in ["", "0", "-1", "+1", "1.5", "1e3", "1s", "0x10", "86400001", "99999999999999999999"] {
            let fault = read(&[bad]).unwrap_err();
            assert_eq!(
                (fault.code, fault.param.as_deref()),
                (Code::InvalidRequest, Some("x-obleth-deadline-ms"))
            );
        }
        assert!(read(&["5", "5"]).is_err());
    }
}
