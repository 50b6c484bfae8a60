//! Puts the parts together: actors, database, listeners; and takes them apart again.
//!
//! Threads: the caller's (an actix system) runs the signals; two arbiters run the actors; each listener has
//! its workers; one multi-thread tokio runtime does the database's I/O.

use crate::app::{Gateway, Handles, Settings, Worker};
use crate::config::Config;
use crate::http::root_span::RequestSpan;
use crate::http::{admin, data, health};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::telemetry::AccessLog;
use crate::upstream::{Upstream, tls_config};
use actix::Arbiter;
use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use obleth_actors::accounting::{Accounting, StoreHealth};
use obleth_actors::admin::{Admin, AdminError, Setup};
use obleth_actors::clock::Clock;
use obleth_actors::fairshare::Fairshare;
use obleth_core::fair_queue;
use obleth_schema::{DatabaseUrl, Store, StoreError};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tracing_actix_web::TracingLogger;

mod shutdown;

pub use shutdown::Patience;

/// Ledger rows that may wait for the database before new requests are refused.
const LEDGER_CAPACITY: usize = 100_000;
/// Admission requests that may be on their way to the scheduler.
const FAIRSHARE_MAILBOX: usize = 65_536;
/// Pause between attempts to reach a database that is away at the start.
const RETRY: Duration = Duration::from_secs(1);
/// Idle client connections are kept this long; above the usual 60 s of a load balancer's own.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {0} ({1}): {2}")]
    Listen(&'static str, SocketAddr, std::io::Error),
    #[error("cannot start threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("cannot use the database {0}: {1}")]
    NoFile(DatabaseUrl, String),
    #[error("{0}")]
    Registry(#[from] AdminError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("OBLETH_DATABASE_URL is missing")]
    NoDatabase,
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    pub gateway: Arc<Gateway>,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    config: Config,
    servers: Vec<ServerHandle>,
    arbiters: Vec<Arbiter>,
    /// Last, so that everything that uses it is gone before.
    _runtime: StoreRuntime,
}

/// The runtime of the database's I/O. It may be dropped on an async thread: it then ends in the background.
#[derive(Debug)]
struct StoreRuntime(Option<Runtime>);

impl StoreRuntime {
    fn start() -> Result<Self, std::io::Error> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("store").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// Opens the database on this runtime.
    fn open(&self, url: &DatabaseUrl) -> Result<Store, StoreError> {
        let _inside = self.0.as_ref().map(Runtime::enter);
        Store::connect(url)
    }
}

impl Drop for StoreRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(name: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |error| StartError::Listen(name, address, error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Running {
    /// Starts everything. Returns once the listeners answer; `/ready` says when the registry is loaded,
    /// which is at once unless the database is away.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let runtime = StoreRuntime::start()?;
        let url = config.data.database.clone().ok_or(StartError::NoDatabase)?;
        let store = runtime.open(&url)?;
        let (proxy_listener, proxy) = bind("OBLETH_PROXY_LISTEN", config.listen.proxy)?;
        let (admin_listener, admin) = bind("OBLETH_ADMIN_LISTEN", config.listen.admin)?;
        let (metrics_listener, metrics) = bind("OBLETH_METRICS_LISTEN", config.listen.metrics)?;
        let arbiters = vec![Arbiter::new(), Arbiter::new()];
        let gateway = Arc::new(gateway(&config, &store, &arbiters)?);
        let away = prepare(&gateway, &store).await?;
        if let Some(reason) = away.as_ref().filter(|_| !url.is_shared()) {
            // A server may come up later; a file that cannot be opened is a mistake.
            return Err(StartError::NoFile(url, reason.clone()));
        }
        let servers = vec![
            serve_data(&gateway, proxy_listener)?,
            serve_admin(&gateway, admin_listener)?,
            serve_metrics(&gateway, metrics_listener)?,
        ];
        let handles = servers.iter().map(Server::handle).collect();
        servers.into_iter().for_each(|server| {
            actix_rt::spawn(server);
        });
        if away.is_some() {
            actix_rt::spawn(keep_preparing(Arc::clone(&gateway), store.clone()));
        }
        if url.is_shared() {
            actix_rt::spawn(watch_store(Arc::clone(&gateway), store));
        }
        warn_of_forwarded_keys(&gateway);
        Ok(Self { gateway, proxy, admin, metrics, config, servers: handles, arbiters, _runtime: runtime })
    }
}

fn gateway(config: &Config, store: &Store, arbiters: &[Arbiter]) -> Result<Gateway, StartError> {
    let clock = Clock::start();
    let settings = Settings::of(config);
    let health = StoreHealth::default();
    let queue = fair_queue::Settings {
        slots: config.admission.slots,
        max_queued: config.admission.max_queued,
        default_tenant_max_queued: config.admission.tenant_max_queued,
        ..fair_queue::Settings::default()
    };
    let [central, others] = arbiters else {
        return Err(StartError::NoDatabase);
    };
    let fairshare = Fairshare::start(central, clock, queue, FAIRSHARE_MAILBOX);
    let accounting = Accounting::start(others, store.clone(), health.clone(), LEDGER_CAPACITY);
    let admin = Admin::start(
        others,
        Setup {
            store: store.clone(),
            fairshare: fairshare.clone(),
            plans: settings.plans,
            sealer: config.data.sealer.clone(),
            pepper: config.data.pepper.clone(),
            health,
        },
    );
    Ok(Gateway {
        registry: admin.registry(),
        handles: Handles { fairshare, accounting, admin },
        settings,
        lifecycle: Lifecycle::default(),
        metrics: Metrics::new()?,
        access: AccessLog::start(),
        clock,
        running: AtomicUsize::new(0),
    })
}

/// Brings the tables up to date and loads the registry. A reason: the database is away, try again later.
async fn prepare(gateway: &Gateway, store: &Store) -> Result<Option<String>, StartError> {
    match store.migrate().await {
        Err(StoreError::Unavailable { reason }) => {
            tracing::warn!(reason, "the database is not available yet; not ready until it is");
            gateway.handles.accounting.health().note(false);
            return Ok(Some(reason));
        }
        other => other?,
    };
    match gateway.handles.admin.load().await {
        Err(error @ AdminError::StoreAway) => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
        Ok(()) => {
            gateway.handles.accounting.health().note(true);
            gateway.lifecycle.enter(Phase::Serving);
            Ok(None)
        }
    }
}

async fn keep_preparing(gateway: Arc<Gateway>, store: Store) {
    loop {
        actix_rt::time::sleep(RETRY).await;
        match prepare(&gateway, &store).await {
            Ok(Some(_)) => {}
            Ok(None) => return warn_of_forwarded_keys(&gateway),
            Err(error) => tracing::error!(%error, "the registry cannot be loaded"),
        }
    }
}

/// Asks a database across the network every second whether it is there: while it is away, a key that is not
/// known here may exist all the same.
async fn watch_store(gateway: Arc<Gateway>, store: Store) {
    while gateway.lifecycle.phase() < Phase::Cut {
        actix_rt::time::sleep(RETRY).await;
        gateway.handles.accounting.health().note(store.ping().await.is_ok());
    }
}

/// Tenant keys that would leave for a stranger are worth a word to the operator.
fn warn_of_forwarded_keys(gateway: &Gateway) {
    if !gateway.settings.upstream.forward_authorization {
        return;
    }
    for model in gateway.registry.load().models() {
        let base = model.api_base.as_deref().unwrap_or(&gateway.settings.upstream.base);
        if model.api_key.is_none() && !is_loopback(base) {
            tracing::warn!(
                model = &*model.name,
                "this model's upstream is not on loopback and receives the tenants' keys: \
                 set its api_key, or OBLETH_FORWARD_AUTHORIZATION=false"
            );
        }
    }
}

fn is_loopback(base: &str) -> bool {
    let Ok(url) = url::Url::parse(base) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn serve_data(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let tls = tls_config();
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        let worker = Data::new(Worker {
            gateway: Arc::clone(&gateway),
            upstream: Upstream::new(&tls, gateway.settings.upstream.connect_timeout),
            metrics: WorkerMetrics::new(&gateway.metrics),
        });
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
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run())
}

fn serve_admin(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let tls = tls_config();
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        let worker = Data::new(Worker {
            gateway: Arc::clone(&gateway),
            upstream: Upstream::new(&tls, gateway.settings.upstream.connect_timeout),
            metrics: WorkerMetrics::new(&gateway.metrics),
        });
        App::new()
            .app_data(worker)
            .wrap(TracingLogger::<RequestSpan>::new())
            .service(admin::resource("/health", "GET", [web::get().to(alive)]))
            .service(admin::resource("/ready", "GET", [web::get().to(ready)]))
            .configure(admin::routes)
            .default_service(web::to(admin::not_found))
    });
    Ok(server.workers(1).tcp_nodelay(true).disable_signals().shutdown_timeout(1).listen(listener)?.run())
}

async fn alive(request: HttpRequest) -> HttpResponse {
    health::health(&request)
}

async fn ready(request: HttpRequest, worker: Data<Worker>) -> HttpResponse {
    health::ready(&request, &worker.gateway)
}

fn serve_metrics(gateway: &Arc<Gateway>, listener: TcpListener) -> Result<Server, StartError> {
    let gateway = Arc::clone(gateway);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::from(Arc::clone(&gateway)))
            .service(admin::resource("/metrics", "GET", [web::get().to(metrics_page)]))
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
