//! A child process on ports and files of its own, killed with its value.

use crate::support::{ADMIN_TOKEN, Caller, Upstream, until};
use serde_json::json;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Ports that are free now. They are held together while they are picked, so they differ.
pub fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A run of the binary; its output goes to files in `directory`.
pub struct Obleth {
    child: Child,
    directory: PathBuf,
}

impl Obleth {
    /// Starts the binary with these variables only, besides `PATH`, in `directory`.
    pub fn spawn(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let output = |name: &str| Stdio::from(File::create(directory.join(name)).unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_obleth"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        Self { child, directory: directory.to_owned() }
    }

    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.join("stdout")).unwrap()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.join("stderr")).unwrap()
    }

    /// Sends the signal of this name.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn runs(&mut self) -> bool {
        self.status().is_none()
    }

    /// Waits for the end; the exit code, `None` after a signal.
    pub async fn exit(&mut self) -> Option<i32> {
        until("the process ends", async || self.status()).await.code()
    }
}

impl Drop for Obleth {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `GET` on a connection of its own; `None` when nobody answers.
pub async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    let text = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(text.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    (!answer.is_empty()).then_some(answer)
}

/// `obleth serve`, ready.
pub struct Serving {
    pub process: Obleth,
    pub proxy: SocketAddr,
    pub admin: Caller,
    pub metrics: SocketAddr,
    pub directory: TempDir,
}

impl Serving {
    pub async fn start(upstream: &Upstream, variables: &[(&str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), upstream, variables).await
    }

    /// On the database in `directory`.
    pub async fn start_in(directory: TempDir, upstream: &Upstream, variables: &[(&str, &str)]) -> Self {
        let addresses = free_ports().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let texts = addresses.map(|address| address.to_string());
        let base = upstream.base();
        let own = [
            ("OBLETH_PROXY_LISTEN", texts[0].as_str()),
            ("OBLETH_ADMIN_LISTEN", &texts[1]),
            ("OBLETH_METRICS_LISTEN", &texts[2]),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ("OBLETH_UPSTREAM_BASE_URL", &base),
        ];
        let all: Vec<_> = own.into_iter().chain(variables.iter().copied()).collect();
        let mut process = Obleth::spawn(directory.path(), &["serve"], &all);
        until("the gateway is ready", async || {
            assert!(process.runs(), "{}", process.stderr());
            get(addresses[0], "/ready").await.filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
        let admin = Caller::new(addresses[1], Some(ADMIN_TOKEN));
        Self { process, proxy: addresses[0], admin, metrics: addresses[2], directory }
    }

    /// The text of `/metrics`.
    pub async fn metrics(&self) -> String {
        Caller::new(self.metrics, None).get("/metrics").await.expect(200).text()
    }

    /// Makes model `m` and a tenant with a key.
    pub async fn furnish(&self) -> Caller {
        self.admin.post("/api/v1/models", &json!({"model_name": "m"})).await.expect(201);
        let tenant = self.admin.post("/api/v1/tenants", &json!({"name": "acme"})).await.expect(201).json();
        let path = format!("/api/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
        let key = self.admin.post(&path, &json!({"name": "k"})).await.expect(201).json();
        Caller::new(self.proxy, key["secret"].as_str())
    }
}
