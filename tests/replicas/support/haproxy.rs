//! HAProxy with a configuration of the test's choice, and a certificate for it.

use super::door::Door;
use super::spawned::Spawned;
use super::wait::until;
use base64::Engine;
use rustls::pki_types::CertificateDer;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A certificate for `localhost` that signs itself, with its key, in one PEM file.
pub struct Certificate {
    folder: TempDir,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    pub fn make() -> Self {
        let folder = TempDir::new().unwrap();
        let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
            -keyout key.pem -out certificate.pem && cat certificate.pem key.pem > both.pem";
        let made = Command::new("sh").args(["-c", make]).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = std::fs::read_to_string(folder.path().join("certificate.pem")).unwrap();
        let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(lines).unwrap();
        Self { folder, der: CertificateDer::from(der) }
    }

    /// Certificate and key, as `crt` wants them.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("both.pem")
    }
}

/// A running HAProxy.
pub struct HaProxy {
    process: Spawned,
    _folder: TempDir,
    pub port: u16,
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, text).unwrap();
    path
}

impl HaProxy {
    /// What `haproxy -c` says against a configuration, warnings among it; empty when it is good.
    pub fn faults(text: &str) -> String {
        let folder = TempDir::new().unwrap();
        let path = write(folder.path(), text);
        let output = Command::new("haproxy").args(["-c", "-f"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let loud = said.contains("ALERT") || said.contains("WARNING");
        if output.status.success() && !loud { String::new() } else { format!("{} {said}", output.status) }
    }

    /// Starts it; `port` is the one that `text` binds.
    pub async fn start(text: &str, port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(write(folder.path(), text));
        let mut process = Spawned::start(folder.path(), "haproxy", command);
        until("HAProxy listens", async || {
            assert!(process.runs(), "{}", process.log());
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self { process, _folder: folder, port }
    }

    /// The way in, with TLS.
    pub fn door(&self, certificate: &Certificate) -> Door {
        Door::tls(self.port, certificate.der.clone())
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}
