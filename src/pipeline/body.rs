//! The body of a request: read whole, within bounds of its own and of all bodies together.

use crate::app::{Gateway, Worker};
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Longest pause between two pieces of a request body.
const BODY_IDLE: Duration = Duration::from_secs(30);
/// Room made for a body before it is here: what a client announces is not yet sent.
const RESERVED: usize = 1 << 20;

/// Bytes that are held of one body. Given back when dropped.
pub(super) struct Held {
    gateway: Arc<Gateway>,
    bytes: usize,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Held {
    /// Takes in `more` bytes, unless all bodies together would be too much.
    fn grow(&mut self, more: usize) -> Result<(), Fault> {
        self.bytes += more;
        let before = self.gateway.buffered.fetch_add(more, Ordering::AcqRel);
        if before + more > self.gateway.settings.max_buffered_bytes {
            return Err(Fault::new(Code::Overloaded, "too many bytes of request bodies are waiting"));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gateway.buffered.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Reads a body to its end.
pub(super) async fn read_body(
    worker: &Worker,
    headers: &HeaderMap,
    mut payload: Payload,
) -> Result<(Bytes, Held), Fault> {
    let mut held = Held { gateway: Arc::clone(&worker.gateway), bytes: 0 };
    let limit = worker.gateway.settings.max_body_bytes;
    let too_large = || Fault::new(Code::BodyTooLarge, format!("the body is larger than {limit} bytes"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let until = Some(Instant::now() + BODY_IDLE);
        let chunk = match worker.gateway.lifecycle.watch(until, payload.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(error))) => return Err(broken(&error)),
            Err(Interrupted::TimedOut) => {
                return Err(Fault::new(Code::InvalidRequest, "the body did not arrive in time"));
            }
            Err(Interrupted::Cut) => return Err(Fault::new(Code::Draining, "the gateway is shutting down")),
        };
        if first.len() + rest.len() + chunk.len() > limit {
            return Err(too_large());
        }
        held.grow(chunk.len())?;
        if first.is_empty() && rest.is_empty() {
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.unwrap_or(0).min(RESERVED).max(first.len() + chunk.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&chunk);
        }
    }
    Ok((if rest.is_empty() { first } else { rest.freeze() }, held))
}

/// What a break in the middle of a body means: most of the time, that the client left.
fn broken(error: &PayloadError) -> Fault {
    match error {
        PayloadError::Incomplete(_) | PayloadError::Io(_) => {
            Fault::new(Code::ClientLeft, "the client left in the middle of its body")
        }
        _ => Fault::new(Code::InvalidRequest, "the body is not framed as HTTP/1.1 wants it"),
    }
}
