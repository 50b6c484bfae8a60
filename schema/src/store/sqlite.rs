//! SQLite: one connection that writes, several that read.

use super::queue::{Manager, Queue};
use crate::error::StoreError;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection};
use diesel_async::pooled_connection::{ManagerConfig, RecyclingMethod};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use std::time::{Duration, Instant};

pub(crate) type Conn = SyncConnectionWrapper<SqliteConnection>;
pub(crate) type Pooled = PooledConnection<'static, Conn>;

/// The file allows one writer at a time: a queue of tasks in front of one connection is fair and cheap, many
/// connections that spin on a locked file are neither.
#[derive(Clone)]
pub(crate) struct Sqlite {
    writer: Queue<Manager<Conn>>,
    readers: Queue<Manager<Conn>>,
}

/// Connections that only read. More than this many reports at a time wait for each other.
const READERS: u32 = 4;
/// How long a caller waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// `NORMAL` may lose the last transactions when the machine (not the process) dies, never the integrity of
/// the file. `busy_timeout` is for other processes.
const PRAGMAS: &str = "PRAGMA busy_timeout = 5000; \
     PRAGMA synchronous = NORMAL; \
     PRAGMA foreign_keys = ON;";
/// WAL lets readers go on while the writer writes. The file keeps it.
const WAL: &str = "PRAGMA journal_mode = WAL;";
/// How long the change to it is tried, and the pause between two tries: while others use a file that is new to
/// it, SQLite refuses the change at once, whatever `busy_timeout` says.
const WAL_PATIENCE: Duration = Duration::from_secs(5);
const WAL_PAUSE: Duration = Duration::from_millis(2);

impl Sqlite {
    pub(crate) fn open(path: &str) -> Self {
        Self { writer: pool(path, 1), readers: pool(path, READERS) }
    }

    /// The connection that writes.
    pub(crate) async fn writer(&self) -> Result<Pooled, StoreError> {
        self.writer.checkout().await
    }

    /// A connection that reads.
    pub(crate) async fn reader(&self) -> Result<Pooled, StoreError> {
        self.readers.checkout().await
    }
}

fn pool(path: &str, size: u32) -> Queue<Manager<Conn>> {
    let mut config = ManagerConfig::default();
    // A file does not go away under a connection: no test query on each use.
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(|path| Box::pin(establish(path.to_owned())));
    let limits = Pool::builder().max_size(size).connection_timeout(TURN);
    let for_ever = limits.idle_timeout(None).max_lifetime(None);
    Queue::new(for_ever, Manager::new_with_config(path, config))
}

async fn establish(path: String) -> ConnectionResult<Conn> {
    let opened = tokio::task::spawn_blocking(move || open_file(&path)).await;
    opened
        .unwrap_or_else(|_| Err(ConnectionError::BadConnection("opening was cut off".into())))
        .map(Conn::new)
}

fn open_file(path: &str) -> ConnectionResult<SqliteConnection> {
    use diesel::connection::SimpleConnection as _;
    let mut conn = SqliteConnection::establish(path)?;
    conn.batch_execute(PRAGMAS).map_err(ConnectionError::CouldntSetupConfiguration)?;
    let begun = Instant::now();
    while let Err(error) = conn.batch_execute(WAL) {
        if !is_locked(&error) || begun.elapsed() >= WAL_PATIENCE {
            return Err(ConnectionError::CouldntSetupConfiguration(error));
        }
        std::thread::sleep(WAL_PAUSE);
    }
    Ok(conn)
}

fn is_locked(error: &diesel::result::Error) -> bool {
    use diesel::result::Error::DatabaseError;
    matches!(error, DatabaseError(_, information) if information.message() == "database is locked")
}
