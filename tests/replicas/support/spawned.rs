//! A child process that is killed with its value.

use super::wait::until_within;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use uuid::Uuid;

/// A port that is free now, outside the range of outgoing connections: what is started again on it finds it free.
pub fn free_port() -> u16 {
    let mut dice = Uuid::new_v4().as_u128();
    for _ in 0..1000 {
        let port = 10_000 + u16::try_from(dice % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
        dice = dice.rotate_right(7);
    }
    panic!("no free port");
}

/// Sends the signal of this name to processes; whether all of them are there.
pub fn signal(name: &str, pids: &[u32]) -> bool {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let kill = format!("kill -s {name} {} 2>&1", pids.join(" "));
    Command::new("sh").args(["-c", &kill]).output().unwrap().status.success()
}

/// A running program; its output goes to `<name>.log` in a folder.
pub struct Spawned {
    child: Child,
    log: PathBuf,
}

impl Spawned {
    /// Starts `command` with its output appended to the log.
    pub fn start(folder: &Path, name: &str, mut command: Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = || Stdio::from(File::options().create(true).append(true).open(&log).unwrap());
        let child = command.stdin(Stdio::null()).stdout(output()).stderr(output()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written, over all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends the signal of this name.
    pub fn signal(&self, name: &str) {
        assert!(signal(name, &[self.pid()]), "{name} to {}: {}", self.pid(), self.log());
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    /// Waits for the end, at most so long; the exit code, `None` after a signal.
    pub async fn exit_within(&mut self, bound: Duration) -> Option<i32> {
        until_within(bound, "the process ends", async || self.status()).await.code()
    }

    /// `kill -9`, and gone.
    pub fn kill(&mut self) {
        // Both fail when it has ended already. A stopped process is killed as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.kill();
    }
}
