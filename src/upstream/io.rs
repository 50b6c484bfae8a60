//! The TCP stream under the client: without Nagle's delay, and with an eye on how connections end.
//!
//! The heads of answers are mended on their way (see [`super::head`]).
//! awc does not tell a body that was cut from one that ended, nor a pooled connection that the other side had
//! closed from one that failed. Both are visible here: a read of zero bytes, and on which connection. The
//! notes are kept per thread, and read by the same call that polled the stream, so they cannot be mixed up:
//! a worker's streams are all polled on its own thread, one after the other.

use super::head::{is_whole, mend};
use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::dev::Service;
use actix_web::http::Uri;
use futures_util::future::LocalBoxFuture;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one read while the head of an answer is awaited.
const HEAD_READ: usize = 8 * 1024;

thread_local! {
    /// A connection that had served before ended before it gave a byte of this answer.
    static STALE: Cell<bool> = const { Cell::new(false) };
    /// A read met the end of its stream since [`watch_reads`].
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a stale connection was met since the last call.
pub(super) fn take_stale() -> bool {
    STALE.replace(false)
}

/// Begins to watch the reads of one poll of a body.
pub fn watch_reads() {
    ENDED.set(false);
}

/// Whether that poll met the end of the connection. A body that ended in the same poll without its last
/// chunk or byte was cut.
pub fn ended_by_close() -> bool {
    ENDED.get()
}

/// Opens connections and wraps them.
#[derive(Clone, Debug)]
pub(super) struct NoDelay<S>(S);

impl<S> NoDelay<S> {
    pub const fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S> Service<ConnectInfo<Uri>> for NoDelay<S>
where
    S: Service<ConnectInfo<Uri>, Response = Connection<Uri, TcpStream>, Error = ConnectError>,
    S::Future: 'static,
{
    type Response = Connection<Uri, Stream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(cx)
    }

    fn call(&self, target: ConnectInfo<Uri>) -> Self::Future {
        let connecting = self.0.call(target);
        Box::pin(async move {
            let (io, connection) = connecting.await?.replace_io(());
            io.set_nodelay(true).map_err(ConnectError::Io)?;
            Ok(connection.replace_io(Stream::new(io)).1)
        })
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub(super) struct Stream {
    io: TcpStream,
    /// It has given an answer before.
    served: bool,
    /// It has given bytes since the last request was written.
    answering: bool,
    /// The head of this answer has been looked at.
    mended: bool,
    /// Bytes that were read and not handed on yet.
    held: Vec<u8>,
    /// The other side has answered and reads no more of the request.
    deaf: bool,
}

impl Stream {
    const fn new(io: TcpStream) -> Self {
        Self { io, served: false, answering: false, mended: false, held: Vec::new(), deaf: false }
    }

    /// What is read from now on answers the request that is being written.
    const fn begin_request(&mut self) {
        self.answering = false;
        self.mended = false;
    }

    fn note_end(&self) {
        ENDED.set(true);
        if self.served && !self.answering {
            STALE.set(true);
        }
    }
}

impl Stream {
    /// One read, with a note of how it went.
    fn poll_io(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.answering = true;
                self.served = true;
            }
            Poll::Ready(_) => self.note_end(),
            Poll::Pending => {}
        }
        read
    }

    /// Reads until the head of the answer is there.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !mend(&mut self.held) {
            let mut space = [0; HEAD_READ];
            let mut buf = ReadBuf::new(&mut space);
            ready!(self.poll_io(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            self.held.extend_from_slice(buf.filled());
        }
        self.mended = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.mended && self.held.is_empty() {
            // Almost every answer: its head comes in one piece and is good as it is.
            let before = buf.filled().len();
            ready!(self.poll_io(cx, buf))?;
            let read = buf.filled().get(before..).unwrap_or_default();
            if read.is_empty() || is_whole(read) {
                self.mended = true;
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(read);
            buf.set_filled(before);
        }
        if !self.mended {
            ready!(self.poll_head(cx))?;
            if self.held.is_empty() {
                // The connection ended before a head.
                return Poll::Ready(Ok(()));
            }
        }
        if self.held.is_empty() {
            return self.poll_io(cx, buf);
        }
        let taken = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..taken).unwrap_or_default());
        self.held.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl Stream {
    /// What came of writing `size` bytes. An upstream that refuses a large request closes before it has read
    /// it all; its answer is there to be read, so the rest of the request is given up without a word.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if !matches!(written, Poll::Ready(Err(_))) {
            return written;
        }
        if self.poll_head(cx).is_ready() && !self.held.is_empty() {
            self.deaf = true;
            return Poll::Ready(Ok(size));
        }
        self.note_end();
        written
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        self.begin_request();
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, buf.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let size = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(size));
        }
        self.begin_request();
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, size, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl ActixStream for Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.io, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.io, cx)
    }
}
