//! The bundled OpenAI-compatible backend: `obleth mock`, the upstream of `obleth demo`, of the tests and of the bench.
//!
//! Is: a server that answers every route the gateway forwards, in the shapes of OpenAI, Anthropic and the Responses API,
//! with exact, predictable token counts, a pace, a number of slots, counters (`GET /stats`) and faults (`POST /control`).
//! Is not: a model, a validator of every field, or a server to expose. It asks for no key, and `/stats` repeats the
//! headers of the last request, credentials included.
//!
//! Invariants: a request's prompt and output tokens depend only on its body and the options; every request that took a
//! slot gives it back, whether it completes, fails or its client leaves; `peak_running` never exceeds `slots`.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    dev::{Server, ServerHandle},
    web,
};

mod answers;
mod ask;
mod backend;
mod control;
mod form;
mod frames;
mod generation;
mod pace;
mod routes;
mod stream;
mod texts;
mod words;

#[cfg(test)]
mod tests;

use backend::Backend;

/// The largest body that is read, in bytes.
const MAX_BODY: usize = 64 << 20;
/// How long an idle connection is kept, so that a gateway's pool is not cut under load.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// How the mock answers.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Time from taking a slot to the first chunk.
    pub ttft: Duration,
    /// Time per output token.
    pub token: Duration,
    /// How many requests generate at once; others wait in order of arrival. 0 = unlimited.
    pub slots: usize,
    /// Length of an answer, in tokens; a request can only ask for less.
    pub tokens: u32,
    /// Worker threads; 0 counts as 1.
    pub workers: usize,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self { ttft: Duration::ZERO, token: Duration::ZERO, slots: 0, tokens: 64, workers: 1 }
    }
}

/// A mock that is bound and serves while [`MockServer::run`] is polled.
pub struct MockServer {
    addr: SocketAddr,
    server: Server,
}

/// Prepares a mock on `listener`. Connections made before [`MockServer::run`] wait in the listener's backlog.
pub fn start(listener: TcpListener, options: MockOptions) -> io::Result<MockServer> {
    let addr = listener.local_addr()?;
    let workers = options.workers.max(1);
    let backend = web::Data::new(Backend::new(options));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(backend.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .configure(routes::configure)
            .default_service(web::to(routes::unknown))
    })
    .workers(workers)
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    // A client that leaves while its answer is still being made is noticed only so.
    .h1_allow_half_closed(false)
    .disable_signals()
    .shutdown_timeout(1)
    .listen(listener)?
    .run();
    Ok(MockServer { addr, server })
}

impl MockServer {
    /// Where the mock listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops the mock from elsewhere: `handle.stop(false).await` cuts what still runs.
    pub fn handle(&self) -> ServerHandle {
        self.server.handle()
    }

    /// Serves until the handle stops it.
    pub async fn run(self) -> io::Result<()> {
        self.server.await
    }
}

impl fmt::Debug for MockServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}
