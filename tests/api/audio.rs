//! Sound: forms whose file passes untouched, answers that are no text.

use crate::routes::{stage, usage};
use crate::support::{Answer, Caller, Stage, Step, json as json_answer, run};
use actix_web::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};

/// A transcription form: its content type and its body.
fn form(model: &str, file: &[u8]) -> (&'static str, Bytes) {
    let mut body = Vec::new();
    body.extend_from_slice(b"--B0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"model.wav\"\r\ncontent-type: audio/wav\r\n\r\n");
    body.extend_from_slice(file);
    body.extend_from_slice(
        format!("\r\n--B0\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--B0\r\ncontent-disposition: form-data; name=\"temperature\"\r\n\r\n0.50\r\n--B0--\r\n").as_bytes(),
    );
    ("multipart/form-data; boundary=B0", body.into())
}

async fn transcribe(stage: &Stage, body: (&str, Bytes)) -> (Answer, Value) {
    let request = stage
        .caller
        .request(Method::POST, "/v1/audio/transcriptions")
        .insert_header(("content-type", body.0));
    let answer = Caller::send(request, body.1).await;
    let row = stage.row_of(&answer).await;
    (answer, row)
}

#[test]
fn a_transcription_form_changes_in_its_model_alone() {
    run(async {
        let stage = stage().await;
        let file: Vec<u8> =
            (0..=255_u8).cycle().take(300_000).chain(*b"\r\n--B\r\nname=\"model\"\r\n").collect();
        for (answer, expected) in [
            (json_answer(200, r#"{"text":"Hi","usage":{"type":"tokens","input_tokens":30,"output_tokens":2,"total_tokens":32}}"#), (30, 2, "upstream")),
            (json_answer(200, r#"{"text":"Hello, it is me.","usage":{"type":"duration","seconds":3}}"#), (1024, 4, "counted")),
            ("HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 16\r\n\r\nHello, it is me.".into(), (1024, 4, "counted")),
        ] {
            stage.answer(answer);
            let (got, row) = transcribe(&stage, form("m", &file)).await;
            assert_eq!(got.status, 200, "{}", got.text());
            let sent = stage.upstream.last();
            assert_eq!(sent.target, "/v1/audio/transcriptions");
            assert!(sent.body == form("org/up", &file).1, "only the model's name changes");
            assert_eq!(sent.header("content-type"), Some("multipart/form-data; boundary=B0"));
            let (input, _, output, source, _) = usage(&row);
            assert_eq!((input, output, source), expected);
            assert_eq!((&row["route"], &row["bytes_in"]), (&json!("/v1/audio/*"), &json!(form("m", &file).1.len())));
        }
        stage.stop().await;
    });
}

#[test]
fn a_form_that_can_be_read_in_two_ways_is_refused() {
    run(async {
        let stage = stage().await;
        let part = |name: &str, value: &str| {
            format!("--B0\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let kind = "multipart/form-data; boundary=B0";
        for (kind, body) in [
            (kind, part("model", "m") + &part("model", "n") + "--B0--\r\n"),
            (kind, part("file", "x") + "--B0--\r\n"),
            (kind, part("model", "m")),
            (kind, String::new()),
            (kind, "preamble\r\n".to_owned() + &part("model", "m") + "--B0--\r\n"),
            (kind, part("model", "m") + "--B0--\r\ntrailing"),
            ("multipart/form-data", part("model", "m") + "--B0--\r\n"),
            ("multipart/form-data; boundary=B0; boundary=B1", part("model", "m") + "--B0--\r\n"),
            (kind, part("model", "") + "--B0--\r\n"),
        ] {
            let (answer, row) = transcribe(&stage, (kind, body.clone().into())).await;
            assert_eq!(answer.status, 400, "{kind} {body}");
            assert!(["invalid_request", "model_required"].contains(&&*answer.error_code()), "{body}");
            assert_eq!(row["usage_source"], "none");
        }
        assert_eq!(stage.upstream.seen().len(), 0);
        stage.stop().await;
    });
}

#[test]
fn speech_passes_byte_for_byte() {
    run(async {
        let stage = stage().await;
        let sound: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
        let body = json!({"model": "m", "input": "Hello there, this is said.", "voice": "alloy"});
        let mut sized =
            format!("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: {}\r\n\r\n", sound.len())
                .into_bytes();
        sized.extend_from_slice(&sound);
        let mut chunked = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
            sound.len()
        )
        .into_bytes();
        chunked.extend_from_slice(&sound);
        chunked.extend_from_slice(b"\r\n0\r\n\r\n");
        for script in [sized, chunked] {
            stage.play(vec![Step::Send(script.into())]);
            let (answer, row) = stage.ask("/v1/audio/speech", &body).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("audio/mpeg")));
            assert!(answer.body == sound);
            let (input, _, output, source, _) = usage(&row);
            assert_eq!((input, output, source), (7, 0, "counted"));
            assert_eq!(row["bytes_out"], sound.len());
        }
        stage.stop().await;
    });
}
