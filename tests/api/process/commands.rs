//! Commands, exit codes and messages.

use super::{Obleth, Serving, free_ports};
use crate::support::{ADMIN_TOKEN, Caller, Upstream, chat_answer, run};
use std::net::TcpListener;
use tempfile::TempDir;

/// Runs a command to its end; exit code, stdout, stderr.
async fn ended(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let directory = TempDir::new().unwrap();
    let mut process = Obleth::spawn(directory.path(), arguments, variables);
    let code = process.exit().await;
    (code, process.stdout(), process.stderr())
}

const FAULTY: [(&str, &str); 4] = [
    ("OBLETH_ADMIN_TOKEN", "short"),
    ("OBLETH_PROXY_LISTEN", "nowhere"),
    ("OBLETH_GLOBAL_MAX_IN_FLIGHT", "0"),
    ("OBLETH_UPSTREAM_BASE_URL", "ftp://x"),
];

#[test]
fn faults_of_the_configuration_are_told_together_and_end_with_2() {
    run(async {
        for command in ["check-config", "serve"] {
            let (code, _, told) = ended(&[command], &FAULTY).await;
            assert_eq!(code, Some(2), "{command}: {told}");
            for (name, _) in FAULTY {
                assert!(told.contains(name), "{command} does not name {name}: {told}");
            }
        }
        let (code, _, told) = ended(&[], &FAULTY).await;
        assert_eq!(code, Some(2), "serve is the default: {told}");
    });
}

#[test]
fn a_sound_configuration_is_printed_without_its_secrets() {
    run(async {
        let (code, told, _) = ended(&["check-config"], &[("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN)]).await;
        assert_eq!(code, Some(0));
        assert!(told.contains("OBLETH_GLOBAL_MAX_IN_FLIGHT=256\n"), "{told}");
        assert!(!told.contains(ADMIN_TOKEN), "{told}");
    });
}

#[test]
fn help_and_version_end_with_0_and_bad_usage_with_2() {
    run(async {
        let (code, told, _) = ended(&["--help"], &[]).await;
        assert_eq!(code, Some(0));
        for command in
            ["serve", "demo", "mock", "migrate", "check-config", "rotate-encryption-key", "simulate"]
        {
            assert!(told.contains(command), "{told}");
        }
        let (code, told, _) = ended(&["--version"], &[]).await;
        assert_eq!((code, told.trim()), (Some(0), concat!("obleth ", env!("CARGO_PKG_VERSION"))));
        for wrong in [&["fly"][..], &["--fly"], &["mock", "--tokens", "0"], &["demo", "--directory"]] {
            let (code, _, told) = ended(wrong, &[]).await;
            assert_eq!(code, Some(2), "{wrong:?}: {told}");
        }
    });
}

#[test]
fn migrate_can_be_run_again_and_needs_no_token() {
    run(async {
        let directory = TempDir::new().unwrap();
        for told in ["applied", "up to date"] {
            let mut process = Obleth::spawn(directory.path(), &["migrate"], &[]);
            assert_eq!(process.exit().await, Some(0), "{}", process.stderr());
            assert!(process.stdout().contains(told), "{}", process.stdout());
        }
        assert!(directory.path().join("obleth.db").exists());
        let faulty = [("OBLETH_DATABASE_URL", "mysql://x/y")];
        let (code, _, told) = ended(&["migrate"], &faulty).await;
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains("OBLETH_DATABASE_URL"), "{told}");
    });
}

#[test]
fn a_port_in_use_is_named_and_ends_with_1() {
    run(async {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let ports = free_ports().map(|port| format!("127.0.0.1:{port}"));
        for name in ["OBLETH_PROXY_LISTEN", "OBLETH_ADMIN_LISTEN", "OBLETH_METRICS_LISTEN"] {
            let mut variables = vec![
                ("OBLETH_PROXY_LISTEN", ports[0].as_str()),
                ("OBLETH_ADMIN_LISTEN", &ports[1]),
                ("OBLETH_METRICS_LISTEN", &ports[2]),
                ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ];
            variables.retain(|(variable, _)| *variable != name);
            variables.push((name, &address));
            let (code, _, told) = ended(&["serve"], &variables).await;
            assert_eq!(code, Some(1), "{told}");
            let message = format!("obleth: cannot listen on {name} ({address})");
            assert!(told.contains(&message) && !told.contains("panicked"), "{told}");
        }
    });
}

#[test]
fn a_database_that_cannot_be_written_is_named_and_ends_with_1() {
    run(async {
        let ports = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let url = "sqlite:///nonexistent/folder/obleth.db";
        let variables = [
            ("OBLETH_PROXY_LISTEN", ports[0].as_str()),
            ("OBLETH_ADMIN_LISTEN", &ports[1]),
            ("OBLETH_METRICS_LISTEN", &ports[2]),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ("OBLETH_DATABASE_URL", url),
        ];
        for command in ["serve", "migrate"] {
            let (code, _, told) = ended(&[command], &variables).await;
            assert_eq!(code, Some(1), "{command}: {told}");
            assert!(told.contains("obleth: "), "{command}: {told}");
            let why = ["unable to open database file", "No such file or directory"];
            assert!(why.iter().any(|why| told.contains(why)), "{command}: {told}");
            assert!(told.contains("/nonexistent/folder/obleth.db"), "{command}: {told}");
            assert!(!told.contains("panicked"), "{command}: {told}");
        }
    });
}

#[test]
fn a_second_server_on_the_same_file_is_refused() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let mut serving = Serving::start(&upstream, &[]).await;
        let ports = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let url = format!("sqlite://{}", serving.directory.path().join("obleth.db").display());
        let variables = [
            ("OBLETH_PROXY_LISTEN", ports[0].as_str()),
            ("OBLETH_ADMIN_LISTEN", &ports[1]),
            ("OBLETH_METRICS_LISTEN", &ports[2]),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ("OBLETH_DATABASE_URL", &url),
        ];
        let (code, _, told) = ended(&["serve"], &variables).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("is served by another obleth"), "{told}");
        let caller = serving.furnish().await;
        caller.chat("m").await.expect(200);
        serving.process.signal("INT");
        assert_eq!(serving.process.exit().await, Some(0));
    });
}

#[test]
fn a_killed_gateway_starts_again_with_its_registry_and_its_rows() {
    run(async {
        let upstream = Upstream::always(chat_answer(1, 1)).await;
        let mut serving = Serving::start(&upstream, &[]).await;
        let caller = serving.furnish().await;
        let id = caller.chat("m").await.expect(200).header("x-request-id").unwrap().to_owned();
        let path = format!("/api/v1/usage/logs/{id}");
        serving.admin.get(&path).await.expect(200);
        serving.process.signal("KILL");
        assert_eq!(serving.process.exit().await, None);
        let again = Serving::start_in(serving.directory, &upstream, &[]).await;
        let caller = Caller::new(again.proxy, caller.credential.as_deref());
        caller.chat("m").await.expect(200);
        again.admin.get(&path).await.expect(200);
    });
}
