//! PostgreSQL: a database for each test on the server of the run, and a server of the test's own that may fail.

use super::spawned::signal;
use super::wait::until;
use actix_web::web::block;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

/// Makes a database of its own on the server of `OBLETH_TEST_POSTGRES_URL`; its address.
pub async fn fresh_database() -> String {
    let server = std::env::var("OBLETH_TEST_POSTGRES_URL").expect("OBLETH_TEST_POSTGRES_URL");
    database_on(&server).await
}

async fn database_on(server: &str) -> String {
    let name = format!("replicas_{}", Uuid::new_v4().simple());
    let mut connection = AsyncPgConnection::establish(server).await.expect("a PostgreSQL server");
    connection.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    let (base, _) = server.rsplit_once('/').unwrap();
    format!("{base}/{name}")
}

/// A server that `scripts/services.sh` has started in a folder of its own.
pub struct Postgres {
    folder: TempDir,
    /// The whole address of a database of the test's own.
    pub url: String,
    pub address: SocketAddr,
    /// PostgreSQL's programs.
    programs: PathBuf,
    stopped: std::cell::RefCell<Vec<u32>>,
}

fn services(folder: &TempDir, arguments: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services.sh");
    let output = Command::new("bash")
        .arg(script)
        .args(arguments)
        .env("OBLETH_SERVICES_DIR", folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Postgres {
    pub async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let (folder, variables) = block(move || {
            services(&folder, &["start", "postgres"]);
            let variables = services(&folder, &["env"]);
            (folder, variables)
        })
        .await
        .unwrap();
        let server = variables.trim().split_once('=').unwrap().1.to_owned();
        let address = server.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.parse().unwrap();
        let mut postgres = Self {
            folder,
            url: String::new(),
            address,
            programs: PathBuf::new(),
            stopped: Vec::new().into(),
        };
        let executable = format!("/proc/{}/exe", postgres.pid().expect("it runs"));
        postgres.programs = std::fs::read_link(executable).unwrap().parent().unwrap().to_owned();
        postgres.url = database_on(&server).await;
        postgres
    }

    /// Its address through `wire`.
    pub fn url_through(&self, wire: &super::Wire) -> String {
        self.url.replace(&self.address.to_string(), &wire.address.to_string())
    }

    fn data(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("postgres.data")).unwrap()
    }

    /// The process that the others are children of.
    fn pid(&self) -> Option<u32> {
        let file = std::fs::read_to_string(PathBuf::from(self.data()).join("postmaster.pid")).ok()?;
        let pid: u32 = file.lines().next()?.parse().ok()?;
        // A number left behind by a crash may belong to another program by now.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        name.starts_with("postgres").then_some(pid)
    }

    fn children(pid: u32) -> Vec<u32> {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Hangs as a whole: connections stay open, new ones are taken by the kernel, nothing is answered.
    pub fn pause(&self) {
        let pid = self.pid().expect("it runs");
        assert!(signal("STOP", &[pid]));
        let children = Self::children(pid);
        // One may have ended by itself meanwhile.
        children.iter().for_each(|child| _ = signal("STOP", &[*child]));
        let mut stopped = self.stopped.borrow_mut();
        stopped.extend(children);
        stopped.push(pid);
    }

    pub fn resume(&self) {
        self.stopped.borrow_mut().drain(..).for_each(|pid| _ = signal("CONT", &[pid]));
    }

    /// `kill -9` of all its processes: connections are reset and refused.
    pub async fn kill(&self) {
        let pid = self.pid().expect("it runs");
        let all = [vec![pid], Self::children(pid)].concat();
        all.iter().for_each(|pid| _ = signal("KILL", &[*pid]));
        self.stopped.borrow_mut().clear();
        let gone = |pid: &u32| !PathBuf::from(format!("/proc/{pid}/exe")).exists();
        until("PostgreSQL is gone", async || all.iter().all(gone).then_some(())).await;
        // Its number may live on for a while, as a process nobody has waited for: a new server takes that for the old one.
        let socket = format!(".s.PGSQL.{}.lock", self.address.port());
        for lock in ["postmaster.pid", &socket] {
            _ = std::fs::remove_file(PathBuf::from(self.data()).join(lock));
        }
    }

    /// Starts it again on the same port and data, and waits for the end of its recovery.
    pub async fn restart(&self) {
        let (data, program) = (self.data(), self.programs.join("pg_ctl"));
        let options = format!(
            "-p {} -k '{data}' -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300",
            self.address.port()
        );
        let log = format!("{data}/log");
        let start =
            "if [ $(id -u) -eq 0 ]; then exec runuser -u \"$(stat -c %U .)\" -- \"$@\"; fi; exec \"$@\"";
        let arguments = ["-D", &data, "-w", "-s", "-l", &log, "start", "-o", &options].map(str::to_owned);
        let status = block(move || {
            let mut command = Command::new("sh");
            command.args(["-c", start, "sh"]).arg(program).args(arguments).current_dir(data).status()
        });
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        assert!(status.await.unwrap().unwrap().success(), "{}", log());
        let answers = async || {
            let connecting = AsyncPgConnection::establish(&self.url);
            timeout(Duration::from_secs(2), connecting).await.ok()?.ok()
        };
        until("PostgreSQL answers", answers).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A stopped one does not end.
        self.resume();
        services(&self.folder, &["stop"]);
    }
}
