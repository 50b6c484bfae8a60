//! One `obleth serve` that keeps its ports and its journal over restarts.

use super::client::Caller;
use super::door::Door;
use super::spawned::{Spawned, free_port};
use super::wait::{get, until_within};
use super::{ADMIN_TOKEN, ENCRYPTION_KEY};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A start may wait for migrations of another replica, and an end for its grace.
const PATIENCE: Duration = Duration::from_secs(60);

/// A replica: a process, or the place where one was.
pub struct Replica {
    process: Spawned,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
}

fn spawn(folder: &Path, variables: &[(String, String)]) -> Spawned {
    // Figures are those of a release build.
    let built = std::env::var_os("OBLETH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_obleth").into());
    let mut command = Command::new(built);
    command
        .arg("serve")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(folder);
    Spawned::start(folder, "obleth", command)
}

impl Replica {
    /// Starts it in `folder`, which becomes its own, with these variables besides its addresses. It may not be ready.
    pub fn spawn(folder: PathBuf, variables: &[(String, String)]) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let [proxy, admin, metrics] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let journal = folder.join("journal").display().to_string();
        let own = [
            ("OBLETH_PROXY_LISTEN", proxy.to_string()),
            ("OBLETH_ADMIN_LISTEN", admin.to_string()),
            ("OBLETH_METRICS_LISTEN", metrics.to_string()),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            ("OBLETH_ENCRYPTION_KEY", ENCRYPTION_KEY.to_owned()),
            ("OBLETH_JOURNAL_DIR", journal),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let variables = [own.to_vec(), variables.to_vec()].concat();
        let process = spawn(&folder, &variables);
        Self { process, variables, folder, proxy, admin, metrics }
    }

    /// Waits until `/ready` says yes.
    pub async fn ready(&mut self) {
        let process = &mut self.process;
        until_within(PATIENCE, "the replica is ready", async || {
            assert!(process.runs(), "{}", process.log());
            get(self.proxy, "/ready").await.filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
    }

    /// The status of `/ready`; `None` when nobody answers.
    pub async fn readiness(&self) -> Option<u16> {
        get(self.proxy, "/ready").await?.split(' ').nth(1)?.parse().ok()
    }

    /// A caller of its management API.
    pub fn api(&self) -> Caller {
        Caller::new(self.admin, Some(ADMIN_TOKEN))
    }

    /// A caller of its data plane with a key.
    pub fn client(&self, key: &str) -> Caller {
        Caller::new(self.proxy, Some(key))
    }

    /// Where load reaches it.
    pub fn door(&self) -> Door {
        Door::plain(self.proxy)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn runs(&mut self) -> bool {
        self.process.runs()
    }

    /// `kill -9`, and gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM; it goes on until it is done.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits for its end; the exit code, `None` after a signal.
    pub async fn exit(&mut self) -> Option<i32> {
        self.process.exit_within(PATIENCE).await
    }

    /// Hangs: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Sets a variable from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it again on the same ports and journal, without waiting until it is ready; ends it before if it runs.
    pub fn respawn(&mut self) {
        self.process.kill();
        self.process = spawn(&self.folder, &self.variables);
    }

    /// Starts it again, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.respawn();
        self.ready().await;
    }

    /// The value of a series of its `/metrics`, labels and all; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = Caller::new(self.metrics, None).get("/metrics").await.expect(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}
