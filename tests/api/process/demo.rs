//! `obleth demo`.

use super::{Obleth, free_ports};
use crate::support::{Caller, run, until};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A demo that has introduced itself.
struct Demo {
    process: Obleth,
    told: String,
}

impl Demo {
    /// Runs in `directory`, which is also where temporary files go.
    async fn start(directory: &Path, arguments: &[&str]) -> Self {
        let ports = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let temporary = directory.join("tmp");
        std::fs::create_dir_all(&temporary).unwrap();
        let variables = [
            ("OBLETH_PROXY_LISTEN", ports[0].as_str()),
            ("OBLETH_ADMIN_LISTEN", &ports[1]),
            ("OBLETH_METRICS_LISTEN", &ports[2]),
            ("TMPDIR", temporary.to_str().unwrap()),
        ];
        let arguments: Vec<&str> = std::iter::once("demo").chain(arguments.iter().copied()).collect();
        let mut process = Obleth::spawn(directory, &arguments, &variables);
        let told = until("the demo introduces itself", async || {
            assert!(process.runs(), "{}", process.stderr());
            let told = process.stdout();
            (told.lines().filter(|line| line.starts_with("curl")).count() == 2 && told.ends_with('\n'))
                .then_some(told)
        })
        .await;
        Self { process, told }
    }

    /// What stands behind `name:`.
    fn value(&self, name: &str) -> &str {
        let line = self.told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name}: in {}", self.told)).trim()
    }

    /// Runs the printed line that begins with `curl` and names `path`.
    fn paste(&self, path: &str) -> Value {
        let line = self.told.lines().find(|line| line.starts_with("curl") && line.contains(path)).unwrap();
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    async fn interrupt(&mut self) -> Duration {
        let asked = Instant::now();
        self.process.signal("INT");
        assert_eq!(self.process.exit().await, Some(0), "{}", self.process.stderr());
        asked.elapsed()
    }
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn the_demo_prints_lines_that_work_and_leaves_nothing_behind() {
    run(async {
        let directory = TempDir::new().unwrap();
        let mut demo = Demo::start(directory.path(), &[]).await;
        for name in ["proxy", "management", "metrics", "mock"] {
            assert!(demo.value(name).starts_with("http://127.0.0.1:"), "{name}");
        }
        assert!(demo.value("api key").starts_with("sk_") && demo.value("api key").len() == 51);
        assert_eq!(demo.value("model"), "demo-model");
        assert!(demo.value("admin token").len() >= 16);
        let answer = demo.paste("/v1/chat/completions");
        assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{answer}");
        let logs = demo.paste("/api/v1/usage/logs");
        assert_eq!(logs["data"][0]["status"], 200, "{logs}");
        assert_eq!(files(&directory.path().join("tmp")), 1);
        let took = demo.interrupt().await;
        println!("Ctrl-C ends the demo after {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(files(&directory.path().join("tmp")), 0, "the temporary folder is gone");
    });
}

#[test]
fn a_demo_in_a_folder_keeps_its_data() {
    run(async {
        let directory = TempDir::new().unwrap();
        let kept = directory.path().join("kept");
        let arguments = ["--directory", kept.to_str().unwrap()];
        let mut first = Demo::start(directory.path(), &arguments).await;
        first.paste("/v1/chat/completions");
        let key = first.value("api key").to_owned();
        first.interrupt().await;
        let mut second = Demo::start(directory.path(), &arguments).await;
        assert_ne!(second.value("api key"), key, "a key is shown once, so each run makes one");
        let proxy = second.value("proxy").trim_start_matches("http://").parse().unwrap();
        Caller::new(proxy, Some(&key)).chat("demo-model").await.expect(200);
        let management = second.value("management").trim_start_matches("http://").parse().unwrap();
        let admin = Caller::new(management, Some(second.value("admin token")));
        let logs = admin.get("/api/v1/usage/logs").await.expect(200).json();
        assert_eq!(logs["data"].as_array().unwrap().len(), 2, "{logs}");
        second.interrupt().await;
        assert_eq!(files(&directory.path().join("tmp")), 0);
    });
}
