//! A Redis of the test's own.

use super::spawned::{Spawned, free_port};
use super::wait::until;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A server that keeps nothing on disk: started again, it is empty.
pub struct Redis {
    process: Spawned,
    folder: TempDir,
    pub address: SocketAddr,
}

fn spawn(folder: &TempDir, address: SocketAddr) -> Spawned {
    let mut command = Command::new("redis-server");
    let port = address.port().to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
    command.current_dir(folder.path());
    Spawned::start(folder.path(), "redis", command)
}

impl Redis {
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let redis = Self { process: spawn(&folder, address), folder, address };
        redis.answers().await;
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Its address through `wire`.
    pub fn url_through(&self, wire: &super::Wire) -> String {
        format!("redis://{}", wire.address)
    }

    async fn answers(&self) {
        let ping = async || self.command("PING").await.filter(|answer| answer.starts_with("+PONG"));
        until("Redis answers", ping).await;
    }

    /// Sends one command in the inline form and gives the first piece of its answer; `None` when nobody answers.
    pub async fn command(&self, text: &str) -> Option<String> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.address).await.ok()?;
            socket.write_all(format!("{text}\r\n").as_bytes()).await.ok()?;
            let mut answer = vec![0; 1 << 20];
            let read = socket.read(&mut answer).await.ok()?;
            answer.truncate(read);
            Some(String::from_utf8_lossy(&answer).into_owned())
        };
        timeout(Duration::from_secs(2), exchange).await.ok().flatten()
    }

    /// Hangs: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// `kill -9`: connections are reset and refused.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, empty.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.folder, self.address);
        self.answers().await;
    }
}
