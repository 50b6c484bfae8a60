//! `kill -9`: every answer that was delivered has its row, and what was running is charged by its estimate.

use super::Serving;
use crate::support::{ADMIN_TOKEN, Caller, Dice, Seen, Socket, Step, Upstream};
use crate::support::{
    chat_answer, chat_body, chat_chunks, json as answer_of, post, run, silent_streams, sse,
};
use futures_util::future::join_all;
use obleth_core::units::Usd;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// Clients at a time.
const CLIENTS: u64 = 8;

/// What a request is to meet, by the first word of its id.
const KINDS: [&str; 6] = ["ok", "stream", "cut", "left", "error", "refused"];

/// The tokens of request `number`.
fn tokens(number: u64) -> (u64, u64) {
    (10 + number % 50, 1 + number % 7)
}

fn number_of(id: &str) -> u64 {
    id.rsplit('-').next().unwrap().parse().unwrap()
}

/// Answers as the request's id says.
fn script(seen: &Seen) -> Vec<Step> {
    let id = seen.header("x-request-id").unwrap();
    let (prompt, completion) = tokens(number_of(id));
    match id.split('-').next().unwrap() {
        "ok" => vec![Step::Send(chat_answer(prompt, completion))],
        "cut" => {
            let whole = chat_answer(prompt, completion);
            vec![Step::Send(whole.slice(..whole.len() - 10)), Step::Close]
        }
        "error" => vec![Step::Send(answer_of(500, r#"{"error":{"message":"no"}}"#))],
        _ => sse(&chat_chunks(&["Hello", " world"], Some((prompt, completion)))),
    }
}

/// What a client knows of a request of its own.
struct Known {
    id: String,
    /// The status, if the last byte of the answer came.
    status: Option<u16>,
}

/// One request on a connection of its own, read to its last byte; or left after the first ones.
async fn ask(proxy: SocketAddr, key: &str, kind: &str, id: &str) -> Option<u16> {
    let body = json!({
        "model": if kind == "refused" { "unknown" } else { "m" },
        "stream": matches!(kind, "stream" | "left"),
        "messages": [{"role": "user", "content": "Hello"}],
    });
    let text = post("/v1/chat/completions", key, id, &body).replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut socket = TcpStream::connect(proxy).await.ok()?;
    socket.write_all(text.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    if kind == "left" {
        let _ = socket.read_buf(&mut answer).await;
        return None;
    }
    // What came before the connection broke counts as well.
    let _ = socket.read_to_end(&mut answer).await;
    whole(&String::from_utf8(answer).unwrap())
}

/// The status of an answer that is here to its last byte.
fn whole(answer: &str) -> Option<u16> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let complete = match length {
        Some(length) => body.len() == length.trim().parse::<usize>().unwrap(),
        None => body.ends_with("0\r\n\r\n"),
    };
    complete.then_some(status)
}

/// Asks until the gateway is gone.
async fn client(proxy: SocketAddr, key: &str, next: &Cell<u64>) -> Vec<Known> {
    let mut known = Vec::new();
    while TcpStream::connect(proxy).await.is_ok() {
        let number = next.replace(next.get() + 1);
        let kind = KINDS[usize::try_from(number).unwrap() % KINDS.len()];
        let id = format!("{kind}-{number}");
        let status = ask(proxy, key, kind, &id).await;
        known.push(Known { id, status });
    }
    known
}

/// Makes model `m` with prices and a tenant; the secret of its key.
async fn furnish(serving: &Serving) -> String {
    let model = json!({
        "model_name": "m", "input_cost_per_token": "0.0000005", "output_cost_per_token": "0.0000015",
    });
    serving.admin.post("/api/v1/models", &model).await.expect(201);
    let tenant = serving.admin.post("/api/v1/tenants", &json!({"name": "acme"})).await.expect(201).json();
    let path = format!("/api/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
    let key = serving.admin.post(&path, &json!({"name": "k"})).await.expect(201).json();
    key["secret"].as_str().unwrap().to_owned()
}

async fn kill(serving: Serving) -> TempDir {
    let Serving { mut process, directory, .. } = serving;
    process.signal("KILL");
    assert_eq!(process.exit().await, None);
    directory
}

/// All rows by request id; each id has one.
async fn rows(admin: &Caller) -> BTreeMap<String, Value> {
    let (mut rows, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let page = admin.get(&format!("/api/v1/usage/logs?limit=1000{cursor}")).await.expect(200).json();
        for row in page["data"].as_array().unwrap() {
            let id = row["request_id"].as_str().unwrap().to_owned();
            assert!(rows.insert(id.clone(), row.clone()).is_none(), "{id} has two rows");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

/// Compares the ledger with what the clients know.
fn compare(known: &[Known], rows: &BTreeMap<String, Value>) {
    let (mut delivered, mut theirs, mut ours) = (0, Usd::ZERO, Usd::ZERO);
    for Known { id, status } in known {
        let Some(status) = *status else { continue };
        delivered += 1;
        let row = rows.get(id).unwrap_or_else(|| panic!("{id} was delivered and has no row"));
        let (prompt, completion) = tokens(number_of(id));
        let charged = if status == 200 { (prompt, completion) } else { (0, 0) };
        assert_eq!(row["status"], status, "{row}");
        assert_eq!(row["input_tokens"], charged.0, "{row}");
        assert_eq!(row["output_tokens"], charged.1, "{row}");
        theirs = theirs + Usd::from_pico(i128::from(charged.0 * 500_000 + charged.1 * 1_500_000));
        ours = ours + Usd::parse(row["cost_usd"].as_str().unwrap()).unwrap();
    }
    assert_eq!(theirs, ours);
    let sent: std::collections::BTreeSet<&str> = known.iter().map(|known| known.id.as_str()).collect();
    assert!(rows.keys().all(|id| sent.contains(id.as_str())), "a row that nobody asked for");
    println!("{} requests, {delivered} delivered, {} rows, {ours} USD", known.len(), rows.len());
    assert!(delivered > 0);
}

async fn killed_at_random_moments(variables: &[(&str, &str)]) {
    let kills = std::env::var("OBLETH_TEST_KILLS").map_or(4, |text| text.parse().unwrap());
    let seed = std::env::var("OBLETH_TEST_SEED").map_or(7, |text| text.parse().unwrap());
    println!("OBLETH_TEST_KILLS={kills} OBLETH_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let upstream = Upstream::start(script).await;
    let mut serving = Serving::start(&upstream, variables).await;
    let key = furnish(&serving).await;
    let (next, mut known) = (Cell::new(0), Vec::new());
    for _ in 0..kills {
        let moment = Duration::from_millis(100 + dice.below(300));
        let clients = join_all((0..CLIENTS).map(|_| client(serving.proxy, &key, &next)));
        let process = &serving.process;
        let death = async {
            sleep(moment).await;
            process.signal("KILL");
        };
        let (told, ()) = tokio::join!(clients, death);
        known.extend(told.into_iter().flatten());
        let directory = kill(serving).await;
        serving = Serving::start_in(directory, &upstream, variables).await;
    }
    let rows = rows(&serving.admin).await;
    compare(&known, &rows);
    let codes = |code: &str| rows.values().filter(|row| row["error_code"] == code).count();
    println!("{} interrupted, {} left", codes("gateway_restarted"), codes("client_left"));
}

#[test]
fn every_delivered_answer_has_its_one_row_after_kills_at_random_moments() {
    run(killed_at_random_moments(&[]));
}

#[test]
fn the_same_when_answers_wait_for_the_disk() {
    run(killed_at_random_moments(&[("OBLETH_LEDGER_SYNC", "always")]));
}

#[test]
fn streams_that_a_kill_interrupts_are_charged_by_their_estimate() {
    run(async {
        let upstream = silent_streams().await;
        let serving = Serving::start(&upstream, &[]).await;
        let key = furnish(&serving).await;
        let mut streams = Vec::new();
        for n in 0..10 {
            let body = json!({"model": "m", "stream": true, "max_tokens": 100, "messages": [{"role": "user", "content": "Tell me"}]});
            let text = post("/v1/chat/completions", &key, &format!("long-{n}"), &body);
            let mut stream = Socket::sent(serving.proxy, &text).await;
            assert!(stream.head().await.unwrap().starts_with("http/1.1 200"));
            assert!(!stream.chunk().await.unwrap().is_empty());
            streams.push(stream);
        }
        // The row of a later request takes what was opened before it along.
        let caller = Caller::new(serving.proxy, Some(&key));
        caller.post("/v1/chat/completions", &chat_body()).await.expect(200);
        let directory = kill(serving).await;
        let serving = Serving::start_in(directory, &upstream, &[]).await;
        let rows = rows(&serving.admin).await;
        assert_eq!(rows.len(), 11);
        for n in 0..10 {
            let row = &rows[&format!("long-{n}")];
            assert_eq!((&row["status"], &row["error_code"]), (&json!(500), &json!("gateway_restarted")));
            assert_eq!(row["usage_source"], "estimated", "{row}");
            assert_eq!(row["stream"], true);
            let tokens = row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
            assert_eq!(row["estimated_tokens"], tokens, "{row}");
            assert!(
                row["input_tokens"].as_u64() > Some(0) && row["output_tokens"].as_u64() > Some(0),
                "{row}"
            );
            assert_ne!(row["cost_usd"], "0");
        }
        let metrics = serving.metrics().await;
        for line in [
            "obleth_ledger_rows_total{result=\"interrupted\"} 10",
            "obleth_ledger_rows_total{result=\"lost\"} 0",
            "obleth_ledger_backlog 0",
        ] {
            assert!(metrics.contains(line), "{line} in {metrics}");
        }
    });
}

#[test]
fn two_processes_do_not_share_a_journal() {
    run(async {
        let upstream = Upstream::start(script).await;
        let serving = Serving::start(&upstream, &[]).await;
        let folder = serving.directory.path().join("obleth.db.journal").display().to_string();
        let other = TempDir::new().unwrap();
        let ports = super::free_ports().map(|port| format!("127.0.0.1:{port}"));
        let variables = [
            ("OBLETH_PROXY_LISTEN", ports[0].as_str()),
            ("OBLETH_ADMIN_LISTEN", &ports[1]),
            ("OBLETH_METRICS_LISTEN", &ports[2]),
            ("OBLETH_ADMIN_TOKEN", ADMIN_TOKEN),
            ("OBLETH_JOURNAL_DIR", &folder),
        ];
        let mut second = super::Obleth::spawn(other.path(), &["serve"], &variables);
        assert_eq!(second.exit().await, Some(1));
        assert!(second.stderr().contains("is the journal of another obleth"), "{}", second.stderr());
    });
}
