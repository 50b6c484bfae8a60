//! One exchange with a server: from the request to the end of its answer, with or without the client.
//!
//! Is: sending, the breaker, time-outs, and what becomes of an answer whose client has left: a stateless one is
//! cancelled by closing the connection, one of a session runs on unseen for as long as a call may. Is not: what
//! the client is told. Invariant: dropped at any moment, it leaves nothing behind but such a call.

use super::lent::Lent;
use crate::app::Worker;
use crate::error::{Code, Fault};
use crate::lifecycle::Interrupted;
use crate::upstream::{Body, Request, Response};
use actix_http::HttpMessage;
use actix_http::error::PayloadError;
use actix_web::http::Uri;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use obleth_actors::mcp::{Call as Running, Mcp, NoTrial, Trial};
use obleth_core::mcp::servers::Refused;
use obleth_core::registry::McpServer;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How an exchange behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// It goes on when the client leaves.
    pub runs_on: bool,
    /// Longest silence of the server.
    pub timeout: Duration,
}

/// How long a server may be silent.
pub(super) fn timeout(worker: &Worker, server: &McpServer) -> Duration {
    let own = server.timeout_secs.map(|seconds| Duration::from_secs(seconds.into()));
    own.unwrap_or(worker.gateway.settings.upstream.head_timeout)
}

/// The right to send.
pub(super) fn attempt(mcp: &Mcp, server: &McpServer, counts: bool) -> Result<Trial, Fault> {
    mcp.attempt(server, counts).map_err(|why| match why {
        NoTrial::Refused(Refused::Open(wait)) => {
            let text = "this MCP server has failed too often; it is tried again later";
            Fault::new(Code::UpstreamCircuitOpen, text).retry_after(wait)
        }
        NoTrial::Refused(Refused::Busy(wait)) => {
            let text = "this MCP server has had as many calls as it takes in a minute";
            Fault::new(Code::RequestsPerMinute, text).retry_after(wait)
        }
        NoTrial::Full => Fault::new(Code::Overloaded, "too many calls of MCP servers run at once"),
        NoTrial::Restarting => Fault::new(Code::Restarting, "the MCP servers were restarted after a fault"),
    })
}

/// The address of a server.
pub(super) fn uri(server: &McpServer) -> Result<Uri, Fault> {
    Uri::try_from(&*server.url)
        .map_err(|_| Fault::new(Code::UpstreamUnreachable, "the MCP server's address is not one"))
}

/// The answer of a server, its body not yet read.
pub(super) struct Source {
    worker: Data<Worker>,
    manner: Manner,
    /// `None` once it was taken or has ended.
    body: Option<Body>,
    trial: Trial,
    /// The session it was sent in, if that is the gateway's own.
    lent: Option<Lent>,
    /// Nothing more is to come that anybody needs.
    done: bool,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Source {
    /// The next piece of the body.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    /// The body, to be read here.
    pub fn body(&mut self) -> Option<&mut Body> {
        self.body.as_mut()
    }

    /// The answer is whole.
    pub fn end(&mut self) {
        self.done = true;
        self.lent.take().into_iter().for_each(Lent::done);
    }

    /// The answer was cut.
    pub fn fail(&mut self) {
        self.trial.failed();
        self.done = true;
        self.body = None;
        self.lent = None;
    }

    /// The client takes its call back.
    pub fn cancel(&mut self) {
        self.done = true;
        self.body = None;
        self.lent = None;
    }

    /// The server does not know the session any more that this was sent in.
    pub fn forget_session(&mut self) {
        self.done = true;
        self.lent.take().into_iter().for_each(Lent::forget);
    }

    /// Longest silence.
    pub const fn timeout(&self) -> Duration {
        self.manner.timeout
    }

    /// Reads to the end what nobody waits for.
    async fn run_on(mut self) {
        let until = Instant::now() + self.manner.timeout;
        let worker = Data::clone(&self.worker);
        let Some(mut body) = self.body.take() else { return };
        let whole = async {
            while let Some(piece) = body.next().await {
                if piece.is_err() {
                    return false;
                }
            }
            true
        };
        match worker.gateway.lifecycle.watch(Some(until), whole).await {
            Ok(true) => self.end(),
            Ok(false) => self.fail(),
            // It has had its time.
            Err(Interrupted::TimedOut | Interrupted::Cut) => self.cancel(),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let gone_on = self.manner.runs_on && !self.done && !self.worker.gateway.lifecycle.is_cut();
        let Some(body) = self.body.take().filter(|_| gone_on) else { return };
        self.done = true;
        let trial = std::mem::take(&mut self.trial);
        let (worker, manner, lent) = (Data::clone(&self.worker), self.manner, self.lent.take());
        let rest = Self { worker, manner, body: Some(body), trial, lent, done: false };
        actix_rt::spawn(rest.run_on());
    }
}

/// Sends a request, and waits for the head of the answer.
pub(super) async fn exchange(
    worker: &Data<Worker>,
    trial: Trial,
    lent: Option<Lent>,
    outgoing: Request,
    manner: Manner,
    running: Option<&Running>,
) -> Result<(Response, Source), Fault> {
    let exchange = send(Data::clone(worker), trial, lent, outgoing, manner);
    if !manner.runs_on {
        return exchange.await;
    }
    let (tell, told) = oneshot::channel();
    let task = actix_rt::spawn(async move {
        // Not taken: the client has left, and the answer runs on by itself.
        let _ = tell.send(exchange.await);
    });
    let Some(running) = running else { return told.await.unwrap_or_else(|_| Err(cut())) };
    tokio::select! {
        told = told => told.unwrap_or_else(|_| Err(cut())),
        () = running.cancelled().notified() => {
            task.abort();
            Err(Fault::new(Code::ClientLeft, "the client has taken its call back"))
        }
    }
}

fn cut() -> Fault {
    Fault::new(Code::Draining, "the gateway is shutting down")
}

async fn send(
    worker: Data<Worker>,
    mut trial: Trial,
    lent: Option<Lent>,
    outgoing: Request,
    manner: Manner,
) -> Result<(Response, Source), Fault> {
    let until = Instant::now() + manner.timeout;
    let sent = worker.gateway.lifecycle.watch(Some(until), worker.upstream.send(outgoing)).await;
    let outcome = match sent {
        Ok(sent) => sent,
        Err(Interrupted::TimedOut) => {
            Err(Fault::new(Code::UpstreamTimeout, "the MCP server did not begin its answer in time"))
        }
        Err(Interrupted::Cut) => return Err(cut()),
    };
    let mut response = outcome.inspect_err(|_| trial.failed())?;
    match response.status().as_u16() {
        500 | 502 | 503 | 504 => trial.failed(),
        _ => trial.answered(),
    }
    let body = Some(response.take_payload());
    Ok((response, Source { worker, manner, body, trial, lent, done: false }))
}
