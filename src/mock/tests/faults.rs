//! Slots, clients that leave, and the modes of `POST /control`.

use super::*;

fn one_slot() -> Running {
    Running::new(MockOptions { slots: 1, tokens: 4, ..MockOptions::default() })
}

#[test]
fn a_waiting_request_runs_when_the_one_before_it_leaves() {
    let mock = one_slot();
    mock.control("*", "stall");
    let stalled = mock.begin("/v1/chat/completions", &chat(false));
    mock.until("running", 1);
    mock.control("*", "ok");
    let waiting = mock.begin("/v1/chat/completions", &chat(false));
    mock.until("waiting", 1);
    drop(stalled);
    assert_eq!(Reply::read(waiting).status, 200);
    let stats = mock.until("running", 0);
    assert_eq!([&stats["cancelled"], &stats["completed"], &stats["peak_running"]], [1, 1, 1]);
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place_and_generates_nothing() {
    let mock = one_slot();
    mock.control("*", "stall");
    let stalled = mock.begin("/v1/chat/completions", &chat(false));
    mock.until("running", 1);
    let waiting = mock.begin("/v1/completions", &json!({"model": "late", "prompt": "x"}));
    mock.until("waiting", 1);
    drop(waiting);
    mock.until("waiting", 0);
    drop(stalled);
    let stats = mock.until("running", 0);
    assert_eq!(stats["cancelled"], 2);
    assert_eq!([&stats["output_tokens"], &stats["models"]["late"]], [&json!(0), &Value::Null]);
}

#[test]
fn a_client_that_leaves_a_stream_stops_it() {
    let mock = Running::new(MockOptions { token: Duration::from_secs(60), ..MockOptions::default() });
    let mut socket = mock.begin("/v1/chat/completions", &chat(true));
    // The head and the first chunk are there; the first token is a minute away.
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    mock.until("running", 1);
    drop(socket);
    let stats = mock.until("running", 0);
    assert_eq!([&stats["cancelled"], &stats["completed"], &stats["output_tokens"]], [1, 0, 0]);
}

#[test]
fn a_failing_model_answers_500_and_the_others_do_not() {
    let mock = Running::of(2);
    mock.control("m", "fail");
    let answer = mock.post("/v1/chat/completions", &chat(true));
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["error"]["type"], "server_error");
    assert_eq!(mock.post("/v1/embeddings", &json!({"model": "other", "input": "x"})).status, 200);
    mock.control("*", "ok");
    assert_eq!(mock.post("/v1/chat/completions", &chat(false)).status, 200);
}

#[test]
fn a_cut_stream_ends_after_half_its_chunks_without_a_terminator() {
    let mock = Running::of(6);
    mock.control("m", "cut");
    let (chunks, whole) = mock.post("/v1/chat/completions", &chat(true)).chunks();
    // Half of role, six tokens, finish and terminator.
    assert_eq!(chunks.len(), 4);
    assert!(!whole && !chunks.concat().contains("[DONE]"));
    let stats = mock.until("running", 0);
    assert_eq!([&stats["failed"], &stats["completed"], &stats["output_tokens"]], [1, 0, 3]);
}

#[test]
fn a_cut_json_answer_is_shorter_than_its_length_says() {
    let mock = Running::of(6);
    mock.control("*", "cut");
    let answer = mock.post("/v1/chat/completions", &chat(false));
    let (_, after) = answer.head.split_once("content-length: ").unwrap();
    let promised: usize = after.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(answer.raw.len(), promised / 2);
    assert_eq!(mock.until("running", 0)["failed"], 1);
}

#[test]
fn a_slow_model_is_slow_even_when_the_pace_is_zero() {
    let mock = Running::of(2);
    mock.control("*", "slow");
    let begun = Instant::now();
    assert_eq!(mock.post("/v1/chat/completions", &chat(false)).status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[test]
fn a_control_with_a_fault_names_the_field() {
    let mock = Running::of(2);
    for (body, field) in [
        (json!({"mode": "ok"}), "model"),
        (json!({"model": "*"}), "mode"),
        (json!({"model": "*", "mode": "explode"}), "mode"),
        (json!({"model": 3, "mode": "ok"}), "model"),
        (json!({"model": "", "mode": "ok"}), "model"),
        (json!({"model": "*", "mode": "ok", "colour": 1}), "colour"),
    ] {
        let answer = mock.post("/control", &body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"]["param"], field, "{body}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(field), "{body}");
    }
}

#[test]
fn the_headers_of_the_last_request_can_be_seen() {
    let mock = Running::of(2);
    assert_eq!(mock.stats()["last_headers"], Value::Null);
    mock.post("/v1/chat/completions", &chat(false));
    let stats = mock.stats();
    assert_eq!(stats["last_headers"]["x-trace"], "a");
    assert_eq!(stats["authorization_seen"], json!(["Bearer upstream-key"]));
}
