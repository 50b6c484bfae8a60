//! Reads the beginning of an answer's body before its head is sent, so that a cut one can still be a 502.

use super::record::Record;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::upstream::{Body, broken_body, ended_by_close, truncated, watch_reads};
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::task::Poll;
use tokio::time::Instant;

/// How a read of a body went.
pub(super) enum Next {
    Chunk(Bytes),
    /// The end, and whether the connection ended with it.
    End {
        by_close: bool,
    },
}

/// The next piece of `body`, within the idle time-out.
pub(super) async fn next(record: &Record, body: &mut Body) -> Result<Next, Fault> {
    let gateway = &record.worker.gateway;
    let read = std::future::poll_fn(|cx| {
        watch_reads();
        match Pin::new(&mut *body).poll_next(cx) {
            Poll::Ready(None) => Poll::Ready(Ok(Next::End { by_close: ended_by_close() })),
            Poll::Ready(Some(Ok(chunk))) => Poll::Ready(Ok(Next::Chunk(chunk))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(broken_body(&error))),
            Poll::Pending => Poll::Pending,
        }
    });
    let until = Instant::now() + gateway.settings.upstream.idle_timeout;
    match gateway.lifecycle.watch(Some(until), read).await {
        Ok(next) => next,
        Err(Interrupted::TimedOut) => Err(idle()),
        Err(Interrupted::Cut) => Err(Fault::new(Code::Draining, "the gateway is shutting down")),
    }
}

/// The upstream went silent.
pub(super) fn idle() -> Fault {
    Fault::new(Code::UpstreamTimeout, "the upstream went silent in the middle of its answer")
}

/// A body read up to a limit.
pub(super) enum Collected {
    /// All of it.
    Whole(Bytes),
    /// More than the limit: what was read so far.
    Begun(Vec<Bytes>),
}

/// Reads `body` to its end, or until it is larger than `limit`. `length` is what the head announced; without
/// one, `chunked` tells whether the end is marked or just the end of the connection.
pub(super) async fn collect(
    record: &mut Record,
    body: &mut Body,
    length: Option<usize>,
    chunked: bool,
    limit: usize,
) -> Result<Collected, Fault> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    loop {
        match next(record, body).await? {
            Next::Chunk(chunk) => {
                record.first_byte();
                size += chunk.len();
                pieces.push(chunk);
                if size > limit {
                    return Ok(Collected::Begun(pieces));
                }
            }
            Next::End { by_close } => {
                let cut = match length {
                    Some(length) => size < length,
                    None => by_close && chunked,
                };
                return if cut { Err(truncated()) } else { Ok(Collected::Whole(join(pieces))) };
            }
        }
    }
}

fn join(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([whole]) => whole,
        Err(pieces) => pieces.concat().into(),
    }
}
