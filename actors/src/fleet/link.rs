//! The connection to Redis.
//!
//! Is: one multiplexed connection that is made again by itself, on the runtime of the databases' I/O, for callers on
//! any thread. Is not: a queue; a call while Redis is away fails at once. Invariants: no call takes longer than its
//! time-out, also when Redis is there but hangs; a call that failed may have been carried out all the same, so scripts
//! must bear being sent twice; nothing that is logged holds an address or a password.

use super::news::{self, News};
use super::url::RedisUrl;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long connecting may take, TLS and authentication included.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// How long a ping may take.
pub(super) const PONG: Duration = Duration::from_secs(1);
/// Between two pings. With [`PONG`]: a dead connection is noticed within 2 s.
pub(super) const PING_EVERY: Duration = Duration::from_millis(500);
/// Between two attempts to connect, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// A Lua script that Redis runs as one step.
#[derive(Clone)]
pub struct Script(Arc<redis::Script>);

impl Script {
    /// A script of this text.
    pub fn new(text: &str) -> Self {
        Self(Arc::new(redis::Script::new(text)))
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Script").field(&self.0.get_hash()).finish()
    }
}

/// Redis did not answer, or refused. Whether the call was carried out is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Away {
    #[error("there is no connection to Redis")]
    Down,
    #[error("Redis did not answer in time")]
    Late,
    #[error("Redis refused")]
    Refused,
}

/// Calls since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    pub calls: u64,
    pub failures: u64,
}

#[derive(Clone)]
enum State {
    /// The first attempt to connect runs.
    New,
    Up(MultiplexedConnection),
    Down,
}

struct Shared {
    client: Client,
    runtime: Handle,
    state: watch::Sender<State>,
    /// A call failed in a way that makes the connection suspect.
    suspect: Arc<Notify>,
    calls: AtomicU64,
    failures: AtomicU64,
    /// Redis answers, but with errors.
    refuses: AtomicBool,
}

/// The connection to Redis. Cheap to clone; it ends with the last clone.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Link {
    /// Begins to connect, on `runtime`. Redis may be away; a TLS provider must be installed for `rediss://`.
    pub fn start(url: &RedisUrl, runtime: &Handle) -> Result<Self, RedisError> {
        let client = url.client()?;
        let shared = Arc::new(Shared {
            client: client.clone(),
            runtime: runtime.clone(),
            state: watch::Sender::new(State::New),
            suspect: Arc::default(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refuses: AtomicBool::new(false),
        });
        runtime.spawn(keep(client, Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up(_))
    }

    /// How many calls there were.
    pub fn counts(&self) -> LinkCounts {
        LinkCounts {
            calls: self.shared.calls.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }

    /// Runs a script. From any thread; a caller that leaves does not take the call back.
    pub async fn call(
        &self,
        script: &Script,
        keys: &[&str],
        args: Vec<Vec<u8>>,
        within: Duration,
    ) -> Result<Value, Away> {
        let script = script.clone();
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let mut conn = shared.connection().await?;
            let mut invocation = script.0.prepare_invoke();
            keys.iter().for_each(|key| {
                invocation.key(key.as_str());
            });
            args.iter().for_each(|arg| {
                invocation.arg(arg.as_slice());
            });
            let answer = invocation.invoke_async(&mut conn).await;
            answer.map_err(|error| shared.note_error(&error))
        };
        self.run(work, within).await
    }

    /// Sends a message to all who listen on a channel.
    pub async fn publish(&self, channel: String, message: Vec<u8>, within: Duration) -> Result<(), Away> {
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let mut conn = shared.connection().await?;
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(channel).arg(message);
            let answer = publish.query_async::<Value>(&mut conn).await;
            answer.map_err(|error| shared.note_error(&error))
        };
        self.run(work, within).await.map(|_| ())
    }

    /// Listens on a channel, for as long as the receiver lives.
    pub fn subscribe(&self, channel: String) -> mpsc::Receiver<News> {
        news::listen(self.shared.client.clone(), &self.shared.runtime, channel)
    }

    async fn run(
        &self,
        work: impl Future<Output = Result<Value, Away>> + Send + 'static,
        within: Duration,
    ) -> Result<Value, Away> {
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        let bounded = self.shared.runtime.spawn(async move { timeout(within, work).await });
        let outcome = match bounded.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => {
                self.shared.suspect.notify_one();
                Err(Away::Late)
            }
            // The runtime ends.
            Err(_) => Err(Away::Down),
        };
        match outcome {
            Ok(_) if self.shared.refuses.swap(false, Ordering::Relaxed) => {
                tracing::info!("Redis does what it is asked to again");
            }
            Err(_) => _ = self.shared.failures.fetch_add(1, Ordering::Relaxed),
            Ok(_) => {}
        }
        outcome
    }
}

impl Shared {
    /// The connection there is. Only the very first attempt to make one is waited for.
    async fn connection(&self) -> Result<MultiplexedConnection, Away> {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::New)).await;
        match known.as_deref() {
            Ok(State::Up(conn)) => Ok(conn.clone()),
            _ => Err(Away::Down),
        }
    }

    fn note_error(&self, error: &RedisError) -> Away {
        if error.is_io_error() || error.is_unrecoverable_error() {
            self.suspect.notify_one();
            return Away::Down;
        }
        if !self.refuses.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "Redis refuses what it is asked to do");
        }
        Away::Refused
    }

    fn up(&self, conn: MultiplexedConnection) {
        match self.state.send_replace(State::Up(conn)) {
            State::Down => tracing::info!("Redis is back"),
            State::New | State::Up(_) => {}
        }
    }

    fn down(&self, reason: &str) {
        if !matches!(self.state.send_replace(State::Down), State::Down) {
            tracing::warn!(reason, "Redis is away");
        }
    }
}

/// Connects, and connects again, until the last handle is gone.
async fn keep(client: Client, shared: Weak<Shared>) {
    let mut pause = PAUSE.0;
    loop {
        let connected = connect(&client).await;
        let Some(present) = shared.upgrade() else { return };
        let reason = match connected {
            Ok(conn) => {
                present.up(conn.clone());
                drop(present);
                pause = PAUSE.0;
                watch_over(conn, &shared).await
            }
            Err(reason) => {
                drop(present);
                reason
            }
        };
        let Some(present) = shared.upgrade() else { return };
        present.down(&reason);
        drop(present);
        sleep(pause).await;
        pause = (2 * pause).min(PAUSE.1);
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, String> {
    // Each call has its own time-out.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let attempt = async {
        let mut conn = client.get_multiplexed_async_connection_with_config(&config).await?;
        // A server that still loads its data accepts connections, but nothing else.
        redis::cmd("PING").query_async::<Value>(&mut conn).await?;
        Ok::<_, RedisError>(conn)
    };
    match timeout(CONNECT, attempt).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

/// Pings until that fails, and says why it did.
async fn watch_over(mut conn: MultiplexedConnection, shared: &Weak<Shared>) -> String {
    loop {
        // The link itself is not held over the wait: its last handle may go meanwhile.
        let Some(suspect) = shared.upgrade().map(|present| Arc::clone(&present.suspect)) else {
            return String::new();
        };
        _ = timeout(PING_EVERY, suspect.notified()).await;
        match timeout(PONG, redis::cmd("PING").query_async::<Value>(&mut conn)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it does not answer".to_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
