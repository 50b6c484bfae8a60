use super::super::sse::{Splitter, Verdict};
use super::*;
use bytes::Bytes;
use obleth_core::ledger::UsageSource;
use proptest::prelude::*;

/// What a stream was found to be.
struct Metered {
    meter: StreamMeter,
    notes: Vec<Note>,
    out: Vec<u8>,
}

impl Metered {
    /// input, cached, output, reasoning
    fn usage(&self) -> Option<(u64, u64, u64, u64)> {
        self.meter.usage().map(|u| {
            assert_eq!(u.source, UsageSource::Upstream);
            (u.input, u.cached_input, u.output, u.reasoning)
        })
    }

    fn terminals(&self) -> usize {
        self.notes.iter().filter(|note| note.terminal).count()
    }

    fn failed(&self) -> Option<UpstreamFault> {
        self.notes.iter().find_map(|note| note.failed)
    }
}

/// Runs a stream of `events` through splitter and meter, dropping the extra usage chunk.
fn metered(path: &str, stream: &[u8]) -> Metered {
    let mut meter = StreamMeter::new(Route::of(path).unwrap());
    let (mut splitter, mut notes, mut out) = (Splitter::new(), Vec::new(), Vec::new());
    let mut on_event = |event: &Event<'_>| {
        let note = meter.event(event);
        notes.push(note);
        if note.usage_only { Verdict::Drop } else { Verdict::Pass }
    };
    for chunk in stream.chunks(70_000) {
        splitter.feed(Bytes::copy_from_slice(chunk), &mut out, &mut on_event);
    }
    splitter.finish(&mut out, &mut on_event);
    Metered { meter, notes, out: out.concat() }
}

fn data(events: &[&str]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_chat_stream_is_metered_and_its_extra_chunk_dropped() {
    let stream = data(&[
        r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hel"},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"lo\n"},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}}"#,
        "[DONE]",
    ]);
    let run = metered(CHAT, stream.as_bytes());
    assert_eq!(run.usage(), Some((9, 8, 3, 0)));
    assert_eq!(run.meter.counted(), (6, 2));
    let flags: Vec<_> = run.notes.iter().map(|n| (n.first_token, n.usage_only, n.terminal)).collect();
    assert_eq!(
        flags,
        [
            (false, false, false),
            (true, false, false),
            (false, false, false),
            (false, true, false),
            (false, false, true)
        ]
    );
    assert!(!String::from_utf8(run.out).unwrap().contains("prompt_tokens"));
    assert!(run.meter.is_complete());
}

#[test]
fn usage_in_a_chunk_with_choices_is_kept_and_the_last_wins() {
    let stream = data(&[
        r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#,
        r#"{"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#,
    ]);
    let run = metered(CHAT, stream.as_bytes());
    assert_eq!((run.usage(), run.meter.output_tokens_so_far()), (Some((5, 0, 2, 0)), 2));
    assert!(run.notes.iter().all(|note| !note.usage_only));
    assert_eq!(run.out, stream.as_bytes());
    assert!(!run.meter.is_complete());
}

#[test]
fn an_empty_choices_chunk_without_usage_passes() {
    let stream = data(&[r#"{"choices":[],"prompt_filter_results":[{}],"usage":null}"#, r#"{"choices":[]}"#]);
    let run = metered(CHAT, stream.as_bytes());
    assert_eq!(run.out, stream.as_bytes());
    assert_eq!((run.usage(), run.meter.counted()), (None, (0, 0)));
}

#[test]
fn every_kind_of_generated_text_counts() {
    for (delta, bytes) in [
        (r#"{"content":"é"}"#, 2),
        (r#"{"reasoning_content":"abc"}"#, 3),
        (r#"{"reasoning":"abc","reasoning_content":"abc"}"#, 3),
        (r#"{"refusal":"no"}"#, 2),
        (r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":"}}]}"#, 6),
        (r#"{"function_call":{"arguments":"12"}}"#, 2),
        (r#"{"content":[{"type":"text","text":"abc"}]}"#, 3),
    ] {
        let stream = data(&[&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#)]);
        assert_eq!(metered(CHAT, stream.as_bytes()).meter.counted(), (bytes, 1), "{delta}");
    }
    let text = data(&[r#"{"choices":[{"text":"abc"},{"text":"d"}]}"#]);
    assert_eq!(metered("/v1/completions", text.as_bytes()).meter.counted(), (4, 1));
}

#[test]
fn progress_is_the_larger_of_bytes_and_events() {
    let event = data(&[r#"{"choices":[{"delta":{"content":"a"}}]}"#]);
    assert_eq!(metered(CHAT, event.repeat(3).as_bytes()).meter.output_tokens_so_far(), 3);
    let long = data(&[r#"{"choices":[{"delta":{"content":"abcdefghi"}}]}"#]);
    assert_eq!(metered(CHAT, long.as_bytes()).meter.output_tokens_so_far(), 3);
}

#[test]
fn an_error_event_is_a_failure() {
    for (error, status) in [
        (r#"{"error":{"message":"x","type":"BadRequest","param":null,"code":400}}"#, Some(400)),
        (r#"{"error":{"message":"x","code":"503"}}"#, Some(503)),
        (r#"{"error":{"message":"x","code":"server_error"}}"#, None),
        (r#"{"object":"error","message":"x","type":"InternalServerError","code":500}"#, Some(500)),
    ] {
        let run = metered(CHAT, data(&[error, "[DONE]"]).as_bytes());
        assert_eq!((run.failed(), run.terminals()), (Some(UpstreamFault { status }), 1), "{error}");
    }
    let null = data(&[r#"{"choices":[{"delta":{"content":"\"error\":{}"}}],"error":null}"#]);
    assert_eq!(metered(CHAT, null.as_bytes()).failed(), None);
}

const MESSAGES: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":5,"cache_read_input_tokens":70,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"thinking_delta","thinking":"hm"}}

event: content_block_delta
data: {"type":"content_block_delta","index":2,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"#;

#[test]
fn a_messages_stream_is_metered() {
    let run = metered("/v1/messages", MESSAGES.as_bytes());
    assert_eq!(run.usage(), Some((100, 70, 15, 0)));
    assert_eq!(run.meter.counted(), (11, 3));
    assert_eq!((run.terminals(), run.notes.last().unwrap().terminal), (1, true));
    assert_eq!(run.out, MESSAGES.as_bytes());
}

#[test]
fn a_cut_messages_stream_knows_its_prompt_but_not_its_answer() {
    let cut = MESSAGES.split("event: message_delta").next().unwrap();
    let run = metered("/v1/messages", cut.as_bytes());
    assert_eq!((run.usage(), run.meter.input_tokens()), (None, Some(100)));
    assert!(!run.meter.is_complete());
}

#[test]
fn a_message_delta_may_bring_or_repeat_the_prompt() {
    let with = |start: &str, delta: &str| {
        let stream = data(&[
            &format!(r#"{{"type":"message_start","message":{{"usage":{start}}}}}"#),
            &format!(r#"{{"type":"message_delta","delta":{{}},"usage":{delta}}}"#),
        ]);
        metered("/v1/messages", stream.as_bytes()).usage()
    };
    assert_eq!(
        with(
            r#"{"input_tokens":0,"output_tokens":0}"#,
            r#"{"input_tokens":9,"output_tokens":3,"cache_read_input_tokens":2}"#
        ),
        Some((11, 2, 3, 0))
    );
    assert_eq!(
        with(r#"{"input_tokens":9,"output_tokens":1}"#, r#"{"input_tokens":0,"output_tokens":0}"#),
        Some((9, 0, 0, 0))
    );
    assert_eq!(with(r#"{"input_tokens":9}"#, "null"), None);
    assert_eq!(with(r#"{"input_tokens":9,"output_tokens":1}"#, r#"{"input_tokens":9}"#), None);
}

#[test]
fn a_messages_error_ends_the_stream() {
    let stream = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
    let run = metered("/v1/messages", stream.as_bytes());
    assert_eq!((run.failed(), run.terminals()), (Some(UpstreamFault { status: None }), 1));
}

fn responses(last: &str, text: &str) -> String {
    [
        r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","output":[],"usage":null}}"#,
        r#"event: response.output_text.delta
data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"m","output_index":0,"content_index":0,"delta":"Hi","logprobs":[]}"#,
        r#"event: response.function_call_arguments.delta
data: {"type":"response.function_call_arguments.delta","sequence_number":5,"delta":"{}"}"#,
        r#"event: response.output_text.done
data: {"type":"response.output_text.done","sequence_number":6,"text":"Hi"}"#,
        &format!(
            "event: {last}\ndata: {{\"type\":\"{last}\",\"sequence_number\":7,\"response\":{{\"id\":\"resp_1\",\"error\":null,\
             \"output\":[{{\"type\":\"message\",\"content\":[{{\"type\":\"output_text\",\"text\":\"{text}\"}}]}}],\
             \"usage\":{{\"input_tokens\":37,\"input_tokens_details\":{{\"cached_tokens\":4}},\"output_tokens\":11,\
             \"output_tokens_details\":{{\"reasoning_tokens\":2}},\"total_tokens\":48}},\"user\":null,\"metadata\":{{}}}}}}"
        ),
        "",
    ]
    .join("\n\n")
}

#[test]
fn a_responses_stream_is_metered() {
    for last in ["response.completed", "response.incomplete", "response.failed"] {
        let run = metered("/v1/responses", responses(last, "Hi").as_bytes());
        assert_eq!((run.usage(), run.meter.counted()), (Some((37, 4, 11, 2)), (4, 2)), "{last}");
        assert_eq!((run.terminals(), run.meter.next_sequence()), (1, 8));
        assert_eq!(run.failed().is_some(), last == "response.failed");
    }
    let error =
        data(&[r#"{"type":"error","code":"server_error","message":"x","param":null,"sequence_number":3}"#]);
    let run = metered("/v1/responses", error.as_bytes());
    assert_eq!((run.failed(), run.meter.next_sequence()), (Some(UpstreamFault::default()), 4));
}

#[test]
fn the_end_of_a_response_too_long_to_hold_is_still_seen() {
    let stream = responses("response.completed", &"lorem ".repeat(40_000));
    let run = metered("/v1/responses", stream.as_bytes());
    assert_eq!((run.usage(), run.terminals()), (Some((37, 4, 11, 2)), 1));
    assert_eq!(run.out, stream.as_bytes());
}

#[test]
fn sounds_transcripts_and_images_bring_their_usage() {
    let speech = data(&[
        r#"{"type":"speech.audio.delta","audio":"AAAA"}"#,
        r#"{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}"#,
    ]);
    let run = metered("/v1/audio/speech", speech.as_bytes());
    assert_eq!((run.usage(), run.meter.counted(), run.terminals()), (Some((14, 0, 101, 0)), (0, 1), 1));
    assert_eq!(run.out, speech.as_bytes());

    let transcript = data(&[
        r#"{"type":"transcript.text.delta","delta":"Hello"}"#,
        r#"{"type":"transcript.text.done","text":"Hello","usage":{"type":"tokens","input_tokens":14,"output_tokens":2,"total_tokens":16}}"#,
    ]);
    let run = metered("/v1/audio/transcriptions", transcript.as_bytes());
    assert_eq!((run.usage(), run.meter.counted(), run.terminals()), (Some((14, 0, 2, 0)), (5, 1), 1));

    let image = format!(
        "event: image_generation.completed\ndata: {{\"type\":\"image_generation.completed\",\"b64_json\":\"{}\",\
         \"usage\":{{\"total_tokens\":100,\"input_tokens\":50,\"output_tokens\":50}}}}\n\n",
        "A".repeat(300_000)
    );
    let run = metered("/v1/images/generations", image.as_bytes());
    assert_eq!((run.usage(), run.terminals()), (Some((50, 0, 50, 0)), 0));
    assert!(run.meter.is_complete());
    assert_eq!(run.out, image.as_bytes());
}

#[test]
fn events_that_are_no_json_count_for_nothing() {
    for event in [
        "",
        "hello",
        "{",
        "[1]",
        r#"{"choices":"#,
        r#"{"choices":[{"delta":"#,
        r#"{"usage":{"prompt_tokens":1"#,
    ] {
        let run = metered(CHAT, data(&[event]).as_bytes());
        assert_eq!((run.usage(), run.meter.counted(), run.failed()), (None, (0, 0), None), "{event}");
    }
}

proptest! {
    #[test]
    fn arbitrary_streams_do_no_harm(parts in prop::collection::vec(prop::sample::select(vec![
        "data: ", "\n\n", "\n", "event: message_start", "event: error", "{", "}", "[", "]", "\"usage\":", "\"choices\":", "\"delta\":",
        "\"type\":\"response.completed\"", "\"message\":", "\"error\":", "\"response\":", ":", ",", "\"x\"", "\"", "1", "[DONE]",
    ]), 0..60)) {
        for path in [CHAT, "/v1/responses", "/v1/messages", "/v1/audio/speech"] {
            metered(path, parts.concat().as_bytes());
        }
    }

    #[test]
    fn the_text_counted_is_the_text_sent(texts in prop::collection::vec(".{0,12}", 0..8)) {
        let stream: String = texts.iter().map(|text| {
            let chunk = serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]});
            format!("data: {chunk}\n\n")
        }).collect();
        let bytes: usize = texts.iter().map(String::len).sum();
        let events = texts.iter().filter(|text| !text.is_empty()).count();
        let expected = (u64::try_from(bytes).unwrap(), u64::try_from(events).unwrap());
        prop_assert_eq!(metered(CHAT, stream.as_bytes()).meter.counted(), expected);
    }
}

#[test]
fn an_extra_chunk_whose_choice_says_nothing_is_dropped_and_one_that_says_something_is_not() {
    let usage = r#""usage":{"prompt_tokens":9,"total_tokens":12,"completion_tokens":3}"#;
    for (choices, extra) in [
        (r#"[{"index":0,"delta":{}}]"#, true),
        (r#"[{"index":0,"delta":{},"finish_reason":null,"logprobs":null}]"#, true),
        (r#"[{"index":0,"delta":{}},{"index":1,"text":""}]"#, true),
        ("[ ]", true),
        ("null", false),
        (r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#, false),
        (r#"[{"index":0,"delta":{"content":"a"}}]"#, false),
        (r#"[{"index":0,"delta":{}},{"index":1,"delta":{"content":"a"}}]"#, false),
    ] {
        let run = metered(CHAT, data(&[&format!(r#"{{"choices":{choices},{usage}}}"#)]).as_bytes());
        assert_eq!(run.out.is_empty(), extra, "{choices}");
        assert_eq!(run.usage(), Some((9, 0, 3, 0)), "{choices}");
    }
}
