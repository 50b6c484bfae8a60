//! The HTTP client towards upstreams: one a worker, since its connections belong to the worker's thread.
//!
//! Is: connections, time-outs to the head, one retry of a stale pooled connection. Is not: which upstream or
//! which headers (pipeline), and not the bytes of the answer (meter).

use crate::error::{Code, Fault};
use actix_http::BoxedPayloadStream;
use actix_http::error::PayloadError;
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, Uri};
use awc::error::{ConnectError, SendRequestError};
use awc::{Client, ClientResponse, Connector};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

mod head;
mod io;
mod outbound;
mod pieces;

use io::{NoDelay, take_stale};
pub use io::{ended_by_close, watch_reads};
use obleth_core::net::Outbound;
use outbound::{Guarded, is_blocked};
pub use pieces::Pieces;

/// How long an idle connection is kept. Below the 5 s after which uvicorn (vLLM, LiteLLM) closes its side.
const POOL_KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How long any connection is used.
const POOL_LIFETIME: Duration = Duration::from_secs(600);

/// The body of an upstream's answer.
pub type Body = actix_http::Payload;

/// An upstream's answer, its body not yet read.
pub type Response = ClientResponse<BoxedPayloadStream>;

/// TLS settings, shared by all workers: the system's roots (`SSL_CERT_FILE` is honoured), HTTP/1.1.
pub fn tls_config() -> Arc<ClientConfig> {
    // The provider may have been installed by an earlier call; that is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        tracing::warn!("no system certificates were found: https upstreams cannot be verified and will fail");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A worker's client.
pub struct Upstream {
    pooled: Client,
    /// Opens a connection for each request: for the retry of a stale one.
    fresh: Client,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream")
    }
}

/// A request to send. Its headers hold credentials and its body a prompt: it is never printed.
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Vec<Bytes>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Upstream {
    /// A client on this thread.
    pub fn new(tls: &Arc<ClientConfig>, connect_timeout: Duration, rule: &Arc<Outbound>) -> Self {
        Self {
            pooled: client(tls, connect_timeout, rule, POOL_KEEP_ALIVE),
            fresh: client(tls, connect_timeout, rule, Duration::ZERO),
        }
    }

    /// Sends `request` and waits for the head of the answer. The caller bounds the wait.
    pub async fn send(&self, request: Request) -> Result<Response, Fault> {
        take_stale();
        match attempt(&self.pooled, &request).await {
            Err(error) if take_stale() => {
                tracing::debug!(%error, "a pooled connection was stale; trying a fresh one");
                attempt(&self.fresh, &request).await.map_err(|error| fault_of(&error))
            }
            other => other.map_err(|error| fault_of(&error)),
        }
    }
}

fn client(
    tls: &Arc<ClientConfig>,
    connect_timeout: Duration,
    rule: &Arc<Outbound>,
    keep_alive: Duration,
) -> Client {
    let connector = Connector::new()
        .connector(NoDelay::new(Guarded::new(Arc::clone(rule))))
        .rustls_0_23(Arc::clone(tls))
        .timeout(connect_timeout)
        .handshake_timeout(connect_timeout)
        .conn_keep_alive(keep_alive)
        .conn_lifetime(POOL_LIFETIME)
        // The scheduler bounds what runs; a pool limit would queue a second time, unfairly.
        .limit(0);
    Client::builder().connector(connector).disable_timeout().disable_redirects().no_default_headers().finish()
}

async fn attempt(client: &Client, request: &Request) -> Result<Response, SendRequestError> {
    let mut outgoing = client.request(request.method.clone(), request.uri.clone()).no_decompress();
    *outgoing.headers_mut() = request.headers.clone();
    outgoing.send_body(Pieces::new(request.body.clone())).await
}

fn fault_of(error: &SendRequestError) -> Fault {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => {
            Fault::new(Code::UpstreamError, "the upstream closed the connection without an answer")
        }
        SendRequestError::Connect(ConnectError::Timeout) => {
            Fault::new(Code::UpstreamUnreachable, "the upstream did not take the connection in time")
        }
        SendRequestError::Connect(ConnectError::Resolver(_) | ConnectError::NoRecords) => {
            Fault::new(Code::UpstreamUnreachable, "the upstream's name does not resolve")
        }
        SendRequestError::Connect(ConnectError::Io(error)) if is_blocked(error) => {
            Fault::new(Code::UpstreamUnreachable, "the upstream's address is not one to connect to")
        }
        SendRequestError::Connect(_) | SendRequestError::Url(_) => {
            Fault::new(Code::UpstreamUnreachable, "the upstream cannot be reached")
        }
        SendRequestError::Response(_) => Fault::new(Code::UpstreamError, "the upstream's answer is not HTTP"),
        SendRequestError::Timeout => Fault::new(Code::UpstreamTimeout, "the upstream did not answer in time"),
        _ => Fault::new(Code::UpstreamError, "the connection to the upstream broke before an answer"),
    }
}

/// What a break in the middle of a body means.
pub fn broken_body(_: &PayloadError) -> Fault {
    truncated()
}

/// The upstream's answer ended early.
pub fn truncated() -> Fault {
    Fault::new(Code::UpstreamTruncated, "the upstream's answer was cut off")
}
