//! A PostgreSQL that is away, silent, or comes back.

use super::backend::Database;
use super::rows;
use obleth_schema::{Store, StoreError, groups};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// "About five seconds".
const SOON: Duration = Duration::from_secs(6);

async fn unavailable_soon(store: &Store) {
    let start = Instant::now();
    let group = rows::group("g");
    let (ping, read, write) =
        tokio::join!(store.ping(), groups::by_id(store, "x"), groups::insert(store, &group));
    for outcome in [ping, read.map(drop), write] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
    assert!(start.elapsed() < SOON, "took {:?}", start.elapsed());
}

fn store_at(address: SocketAddr) -> Store {
    Store::connect(&format!("postgres://u:p@{address}/d").parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (store, start) = (store_at(address), Instant::now());
    unavailable_soon(&store).await;
    assert!(start.elapsed() < Duration::from_secs(2), "a refusal is not waited for");
    assert!(store.ping().await.unwrap_err().to_string().contains("error connecting to server"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers() {
    // The kernel accepts the connection; nobody reads it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store_at(listener.local_addr().unwrap());
    unavailable_soon(&store).await;
    let start = Instant::now();
    assert!(matches!(store.migrate().await, Err(StoreError::Unavailable { .. })));
    assert!(start.elapsed() < SOON);
}

/// A connection that was being made while the line was cut may fail once more.
async fn available_soon(store: &Store) {
    let start = Instant::now();
    while let Err(error) = store.ping().await {
        assert!(start.elapsed() < SOON, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_recovers_when_the_server_returns() {
    let Some(database) = Database::postgres().await else { return };
    let line = Line::to(&database).await;
    let store = Store::connect(&line.url.parse().unwrap()).unwrap();
    store.migrate().await.unwrap();

    line.set(CUT);
    unavailable_soon(&store).await;
    line.set(OPEN);
    available_soon(&store).await;
    groups::insert(&store, &rows::group("after the cut")).await.unwrap();

    line.set(SILENT);
    unavailable_soon(&store).await;
    line.set(OPEN);
    available_soon(&store).await;
    groups::insert(&store, &rows::group("after the silence")).await.unwrap();
    assert_eq!(groups::all(&store).await.unwrap().len(), 3, "a write in the dark was not done");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_ends_is_replaced() {
    use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
    let Some(database) = Database::postgres().await else { return };
    let store = database.migrated().await;
    let mut killer = AsyncPgConnection::establish(&database.text).await.unwrap();
    let end_all = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for n in 0..5 {
        killer.batch_execute(end_all).await.unwrap();
        groups::insert(&store, &rows::group(&format!("g{n}"))).await.unwrap();
    }
    database.remove().await;
}

const OPEN: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;

/// A forwarder in front of the server.
struct Line {
    url: String,
    mode: Arc<AtomicU8>,
    changed: Arc<Notify>,
}

impl Line {
    async fn to(database: &Database) -> Self {
        let (user, rest) = database.text.rsplit_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{name}", listener.local_addr().unwrap());
        let mode = Arc::new(AtomicU8::new(OPEN));
        let changed = Arc::new(Notify::new());
        tokio::spawn(accept(listener, server.to_owned(), Arc::clone(&mode), Arc::clone(&changed)));
        Self { url, mode, changed }
    }

    /// `CUT` ends the connections and refuses new ones, `SILENT` holds them and forwards nothing. Both end
    /// what was open.
    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

async fn accept(listener: TcpListener, server: String, mode: Arc<AtomicU8>, changed: Arc<Notify>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(forward(client, server.clone(), Arc::clone(&mode), Arc::clone(&changed)));
    }
}

async fn forward(mut client: TcpStream, server: String, mode: Arc<AtomicU8>, changed: Arc<Notify>) {
    let turn = changed.notified();
    match mode.load(Ordering::SeqCst) {
        CUT => return,
        SILENT => return turn.await,
        _ => {}
    }
    let mut server = TcpStream::connect(server).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        () = turn => {}
    }
    // A silent line keeps the sockets: the client must notice by itself.
    if mode.load(Ordering::SeqCst) == SILENT {
        changed.notified().await;
    }
}
