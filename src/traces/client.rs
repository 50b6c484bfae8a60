//! The exporter's way to the collector: the HTTP client that also calls upstreams, with its TLS.
//!
//! The exporter wants futures that may change threads, and a client of awc may not; so requests go over a channel
//! to a task on the client's own thread.

use crate::upstream::tls_config;
use actix_tls::connect::Connector as TcpConnector;
use async_trait::async_trait;
use awc::{Client, Connector};
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Longest wait for the collector's answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;

/// A request and where its answer goes.
pub(super) type Job = (Request<Bytes>, oneshot::Sender<Result<Response<Bytes>, HttpError>>);

/// The end the exporter holds.
#[derive(Debug)]
pub(super) struct Bridge(pub mpsc::Sender<Job>);

#[async_trait]
impl HttpClient for Bridge {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (answer, answered) = oneshot::channel();
        self.0.send((request, answer)).await?;
        answered.await?
    }
}

/// Sends what comes over the bridge, one after the other. Runs on the thread of the exporter.
pub(super) async fn serve(mut jobs: mpsc::Receiver<Job>) {
    let connector = Connector::new()
        .connector(TcpConnector::default().service())
        .rustls_0_23(tls_config())
        .timeout(TIMEOUT)
        .handshake_timeout(TIMEOUT);
    let client = Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .no_default_headers()
        .finish();
    while let Some((request, answer)) = jobs.recv().await {
        let sent = match timeout(TIMEOUT, send(&client, request)).await {
            Ok(sent) => sent,
            Err(_) => Err("the collector did not answer in time".into()),
        };
        // The exporter may have given up.
        let _ = answer.send(sent);
    }
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = request.into_parts();
    let mut outgoing = client.post(parts.uri.to_string()).no_decompress();
    for (name, value) in &parts.headers {
        outgoing = outgoing.append_header((name.as_str(), value.as_bytes()));
    }
    // Errors of awc may not change threads.
    let mut answer = outgoing.send_body(body).await.map_err(|error| error.to_string())?;
    let mut response = Response::builder().status(answer.status().as_u16());
    if let Some(value) = answer.headers().get("retry-after") {
        response = response.header("retry-after", value.as_bytes());
    }
    let body = answer.body().limit(ANSWER_MAX).await.unwrap_or_default();
    Ok(response.body(body)?)
}
