//! Bodies that leave piece by piece: a paced SSE answer, and one that breaks off.

use std::io;

use actix_web::{HttpResponse, body::SizedStream, http::header, web::Bytes};
use futures_util::stream;

use super::{backend::Mode, frames::Script, generation::Generation, pace::Pace};

/// The error that makes the server drop the connection.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut on purpose")
}

/// One frame of the script is one chunk and one write.
pub(super) fn response(script: Script, pace: Pace, mode: Mode, generation: Generation) -> HttpResponse {
    let frames = script.frames();
    let last = if mode == Mode::Cut { frames / 2 } else { frames };
    let play = Box::new(Play { script, pace, generation, next: 0, last, cut: mode == Mode::Cut });
    let body = stream::unfold(play, |mut play| async move {
        let frame = play.frame().await?;
        Some((frame, play))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .streaming(body)
}

/// A stream being played.
struct Play {
    script: Script,
    pace: Pace,
    generation: Generation,
    /// The frame to send next, from 0.
    next: u32,
    /// How many frames are sent in all.
    last: u32,
    /// After the last one the connection breaks.
    cut: bool,
}

impl Play {
    async fn frame(&mut self) -> Option<Result<Bytes, io::Error>> {
        if self.next >= self.last {
            return self.finish().await;
        }
        self.generation.until(self.pace, self.script.tokens_before(self.next)).await;
        let frame = self.script.frame(self.next)?;
        if self.script.is_token(self.next) {
            self.generation.count_output(1);
        }
        self.next = self.next.saturating_add(1);
        if self.next == self.last && !self.cut {
            // Here and not at the end of the stream: a client may leave at the terminator.
            self.generation.complete();
        }
        Some(Ok(frame))
    }

    async fn finish(&mut self) -> Option<Result<Bytes, io::Error>> {
        if !self.cut {
            return None;
        }
        self.generation.fail();
        // What was sent reaches the wire before the connection breaks.
        tokio::task::yield_now().await;
        Some(Err(broken()))
    }
}

/// Promises the whole body, sends half of it and closes.
pub(super) fn cut_response(
    content_type: &'static str,
    body: Bytes,
    mut generation: Generation,
) -> HttpResponse {
    generation.fail();
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    let half = body.slice(..body.len() / 2);
    let pieces = stream::unfold((Some(half), generation), |(half, generation)| async move {
        match half {
            Some(half) => Some((Ok(half), (None, generation))),
            None => {
                tokio::task::yield_now().await;
                Some((Err(broken()), (None, generation)))
            }
        }
    });
    HttpResponse::Ok().content_type(content_type).body(SizedStream::new(length, Box::pin(pieces)))
}
