//! What a client receives from each route.

use super::*;

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

#[test]
fn a_chat_answer_has_one_word_per_token_and_its_usage() {
    let mock = Running::of(7);
    let answer = mock.post("/v1/chat/completions", &chat(false)).json();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.split(' ').count(), 7);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    // 17 bytes of text; the role is none.
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    assert_eq!(answer["usage"]["total_tokens"], 12);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    let stats = mock.stats();
    assert_eq!(stats["models"]["m"], json!({"requests": 1, "prompt_tokens": 5, "output_tokens": 7}));
    assert_eq!([&stats["completed"], &stats["running"], &stats["peak_running"]], [1, 0, 1]);
}

#[test]
fn a_bound_under_any_name_shortens_the_answer_and_never_lengthens_it() {
    let mock = Running::of(7);
    for (name, bound, tokens, reason) in [
        ("max_tokens", 3, 3, "length"),
        ("max_completion_tokens", 2, 2, "length"),
        ("max_output_tokens", 1, 1, "length"),
        ("max_tokens", 90, 7, "stop"),
    ] {
        let answer = mock.post("/v1/chat/completions", &with(chat(false), name, json!(bound))).json();
        assert_eq!(answer["usage"]["completion_tokens"], tokens, "{name}");
        assert_eq!(answer["choices"][0]["finish_reason"], reason, "{name}");
    }
}

#[test]
fn a_stream_has_one_chunk_per_token_and_usage_only_when_asked() {
    let mock = Running::of(5);
    let plain = mock.post("/v1/chat/completions", &chat(true)).events();
    // Role, tokens, finish, terminator.
    assert_eq!(plain.len(), 1 + 5 + 1 + 1);
    assert_eq!(plain.last().unwrap(), "[DONE]");
    assert!(!plain.iter().any(|event| event.contains("usage")));

    let asked = with(chat(true), "stream_options", json!({"include_usage": true}));
    let events = mock.post("/v1/chat/completions", &asked).events();
    assert_eq!(events.len(), plain.len() + 1);
    let chunks = parsed(&events[..events.len() - 1]);
    assert_eq!(chunks[7]["choices"], json!([]));
    assert_eq!(chunks[7]["usage"]["completion_tokens"], 5);
    let text: String =
        chunks[1..6].iter().map(|c| c["choices"][0]["delta"]["content"].as_str().unwrap()).collect();
    let whole = mock.post("/v1/chat/completions", &chat(false)).json();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
}

#[test]
fn several_choices_are_counted_and_interleaved() {
    let mock = Running::of(3);
    let whole = mock.post("/v1/completions", &json!({"model": "m", "prompt": [1, 2, 3], "n": 2})).json();
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
    assert_eq!([&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]], [3, 6]);
    let body = json!({"model": "m", "prompt": "x", "n": 2, "stream": true, "stream_options": {"include_usage": true}});
    let events = mock.post("/v1/completions", &body).events();
    let chunks = parsed(&events[..events.len() - 1]);
    let order: Vec<_> = chunks[..6].iter().map(|c| c["choices"][0]["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 6);
    assert_eq!(mock.stats()["output_tokens"], 12);
}

#[test]
fn an_anthropic_stream_begins_and_ends_as_its_clients_expect() {
    let mock = Running::of(2);
    let mut body = with(chat(true), "max_tokens", json!(2));
    let types: Vec<_> = parsed(&mock.post("/v1/messages", &body).events())
        .iter()
        .map(|e| e["type"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        types,
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    body["stream"] = json!(false);
    let answer = mock.post("/v1/messages", &body).json();
    assert_eq!([&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]], [5, 2]);
    assert_eq!(answer["stop_reason"], "end_turn");
    assert_eq!(mock.post("/v1/messages/count_tokens", &body).json(), json!({"input_tokens": 5}));
}

#[test]
fn a_responses_stream_is_numbered_without_gaps_and_carries_usage_at_its_end() {
    let mock = Running::of(3);
    let body = json!({"model": "m", "input": "Say hello", "stream": true});
    let events = parsed(&mock.post("/v1/responses", &body).events());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let usage = &last["response"]["usage"];
    assert_eq!([&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]], [3, 3, 6]);
    let bounded = json!({"model": "m", "input": "Say hello", "max_output_tokens": 1});
    let answer = mock.post("/v1/responses", &bounded).json();
    assert_eq!([&answer["status"], &answer["output"][0]["type"]], ["incomplete", "message"]);
}

#[test]
fn embeddings_come_one_per_input_as_numbers_or_base64() {
    let mock = Running::of(3);
    let body = json!({"model": "e", "input": ["one", "two", "three"]});
    let answer = mock.post("/v1/embeddings", &body).json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 3);
    assert_eq!(answer["data"][2]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let answer = mock.post("/v1/embeddings", &with(body, "encoding_format", json!("base64"))).json();
    assert!(answer["data"][0]["embedding"].is_string());
    let ids = mock.post("/v1/embeddings", &json!({"model": "e", "input": [1, 2, 3]})).json();
    assert_eq!(ids["data"].as_array().unwrap().len(), 1);
}

#[test]
fn the_remaining_routes_answer_in_their_shape() {
    let mock = Running::of(3);
    let rerank = json!({"model": "r", "query": "q", "documents": ["a", "b"]});
    assert_eq!(mock.post("/v1/rerank", &rerank).json()["results"][1]["index"], 1);
    let score = json!({"model": "r", "text_1": "q", "text_2": ["a", "b"]});
    assert_eq!(mock.post("/v1/score", &score).json()["data"].as_array().unwrap().len(), 2);
    let input = json!({"model": "o", "input": "text"});
    assert_eq!(mock.post("/v1/moderations", &input).json()["results"][0]["flagged"], false);
    let image = mock.post("/v1/images/generations", &json!({"model": "i", "prompt": "a pixel"})).json();
    assert!(image["data"][0]["b64_json"].is_string());
    let speech = mock.post("/v1/audio/speech", &input);
    assert!(speech.head.contains("content-type: audio/mpeg") && std::str::from_utf8(&speech.raw).is_err());
    assert_eq!(mock.get("/v1/models").json()["data"][0]["id"], "demo-model");
    assert_eq!(mock.get("/v1/models/demo-model").json()["object"], "model");
    assert_eq!(mock.get("/v1/models/none").json()["error"]["code"], "model_not_found");
    assert_eq!(mock.get("/v1/none").status, 404);
    assert_eq!(mock.get("/health").status, 200);
}

#[test]
fn a_transcription_reads_its_model_from_the_form() {
    let mock = Running::of(3);
    let body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--b--\r\n";
    let send = |content_type: &str| {
        Reply::read(mock.send("POST", "/v1/audio/transcriptions", content_type, body.as_bytes()))
    };
    let answer = send("multipart/form-data; boundary=b").json();
    assert_eq!(answer["text"], "A fair queue");
    assert_eq!(answer["usage"]["input_tokens"], 2);
    assert_eq!(mock.stats()["models"]["whisper"]["requests"], 1);
    assert_eq!(send("application/json").status, 400);
}

#[test]
fn a_bad_request_names_what_is_wrong() {
    let mock = Running::of(3);
    for (path, body, param) in [
        ("/v1/chat/completions", json!({"messages": []}), json!("model")),
        ("/v1/chat/completions", json!({"model": "m"}), json!("messages")),
        ("/v1/chat/completions", json!({"model": "m", "messages": "hi"}), json!("messages")),
        ("/v1/chat/completions", with(chat(false), "max_tokens", json!("many")), json!("max_tokens")),
        ("/v1/chat/completions", with(chat(false), "max_tokens", json!(0)), json!("max_tokens")),
        ("/v1/chat/completions", with(chat(false), "n", json!(1000)), json!("n")),
        ("/v1/embeddings", json!({"model": "m"}), json!("input")),
        ("/v1/embeddings", json!(3), Value::Null),
    ] {
        let answer = mock.post(path, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"]["param"], param, "{body}");
        assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    }
    let stats = mock.stats();
    assert_eq!([&stats["requests"], &stats["failed"], &stats["prompt_tokens"]], [8, 8, 0]);
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_length() {
    let mock = Running::of(3);
    let mut socket = TcpStream::connect(mock.addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = (64 << 20) + 1;
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut line = [0; 12];
    socket.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 413");
}
