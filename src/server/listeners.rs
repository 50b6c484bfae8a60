//! The three listeners: data plane, management API, metrics.

use super::StartError;
use crate::app::{Gateway, Worker};
use crate::config::UpstreamConfig;
use crate::http::root_span::RequestSpan;
use crate::http::{admin, data, health};
use crate::metrics::WorkerMetrics;
use crate::pipeline::janitor;
use crate::upstream::{Upstream, tls_config};
use actix_rt::net::TcpStream;
use actix_web::dev::Server;
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use obleth_core::net::Outbound;
use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tracing_actix_web::TracingLogger;

/// Idle client connections are kept this long; above the usual 60 s of a load balancer's own.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A silent client is asked whether it is still there after this long.
const PROBE_AFTER: Duration = Duration::from_secs(60);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// What a worker's client is made of.
#[derive(Clone)]
struct Client {
    tls: Arc<ClientConfig>,
    connect_timeout: Duration,
    rule: Arc<Outbound>,
}

impl Client {
    fn of(gateway: &Gateway) -> Self {
        let UpstreamConfig { connect_timeout, outbound, .. } = &gateway.settings.upstream;
        Self { tls: tls_config(), connect_timeout: *connect_timeout, rule: Arc::clone(outbound) }
    }

    fn upstream(&self) -> Upstream {
        Upstream::new(&self.tls, self.connect_timeout, &self.rule)
    }
}

/// The data plane: one worker a core, each with its own client.
pub(super) fn serve_data(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let client = Client::of(gateway);
    let patience = gateway.settings.upstream.idle_timeout;
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        let worker = Data::new(Worker {
            gateway: Arc::clone(&gateway),
            upstream: client.upstream(),
            metrics: WorkerMetrics::new(&gateway.metrics),
        });
        actix_rt::spawn(janitor(Data::clone(&worker)));
        App::new()
            .app_data(worker)
            .wrap(TracingLogger::<RequestSpan>::new())
            .default_service(web::to(data::data))
    });
    Ok(server
        .workers(cores())
        .keep_alive(KEEP_ALIVE)
        .h1_allow_half_closed(false)
        .tcp_nodelay(true)
        .on_connect(move |connection, _| {
            if let Some(stream) = connection.downcast_ref::<TcpStream>() {
                give_up_after(stream, patience);
            }
        })
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run())
}

/// Lets the kernel break a connection whose client has vanished without a word, or takes nothing of its answer
/// for this long (RFC 5482): it would hold its seat for ever.
fn give_up_after(stream: &TcpStream, patience: Duration) {
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER / 4);
    let set = socket.set_tcp_user_timeout(Some(patience)).and_then(|()| socket.set_tcp_keepalive(&probes));
    if let Err(error) = set {
        tracing::debug!(%error, "a client's connection cannot be watched");
    }
}

/// The management API.
pub(super) fn serve_admin(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let client = Client::of(gateway);
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::from(Arc::clone(&gateway)))
            .app_data(Data::new(client.upstream()))
            .wrap(TracingLogger::<RequestSpan>::new())
            .service(admin::open_resource("/health", web::get().to(alive)))
            .service(admin::open_resource("/ready", web::get().to(ready)))
            .configure(admin::routes)
            .default_service(web::to(admin::not_found))
    });
    Ok(server.workers(1).tcp_nodelay(true).disable_signals().shutdown_timeout(1).listen(listener)?.run())
}

async fn alive(request: HttpRequest) -> HttpResponse {
    health::health(&request)
}

async fn ready(request: HttpRequest, gateway: Data<Gateway>) -> HttpResponse {
    health::ready(&request, &gateway)
}

/// `GET /metrics`.
pub(super) fn serve_metrics(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::from(Arc::clone(&gateway)))
            .service(admin::open_resource("/metrics", web::get().to(metrics_page)))
            .default_service(web::to(admin::not_found))
    });
    Ok(server.workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run())
}

async fn metrics_page(gateway: Data<Gateway>) -> HttpResponse {
    match gateway.metrics.render(&gateway) {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}
