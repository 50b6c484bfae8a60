//! The SSE frames of a stream, prepared when it begins: opening frames, one frame per token and choice, closing frames.

use actix_web::web::{BufMut, Bytes, BytesMut};

use super::{answers::Answer, ask::Api, words};

/// All frames of one stream.
#[derive(Debug)]
pub(super) struct Script {
    opening: Vec<Bytes>,
    /// Text before the word of a token frame, one per choice.
    heads: Vec<String>,
    /// Text after the word.
    tail: &'static str,
    /// Where the frames are numbered: the number of the first token frame, written after the tail and closed by `}`.
    numbered_from: Option<u32>,
    /// Tokens of each choice.
    tokens: u32,
    closing: Vec<Bytes>,
}

impl Script {
    pub(super) fn of(answer: &Answer) -> Self {
        match answer.ask.api {
            Api::Completions => completions(answer),
            Api::Responses => responses(answer),
            Api::Messages => messages(answer),
            _ => chat(answer),
        }
    }

    pub(super) fn frames(&self) -> u32 {
        count(&self.opening).saturating_add(self.token_frames()).saturating_add(count(&self.closing))
    }

    pub(super) fn is_token(&self, frame: u32) -> bool {
        frame.checked_sub(count(&self.opening)).is_some_and(|k| k < self.token_frames())
    }

    /// Tokens of each choice that are generated when this frame is due.
    pub(super) fn tokens_before(&self, frame: u32) -> u32 {
        match frame.checked_sub(count(&self.opening)) {
            None => 0,
            Some(k) if k < self.token_frames() => (k / self.choices()).saturating_add(1),
            Some(_) => self.tokens,
        }
    }

    pub(super) fn frame(&self, frame: u32) -> Option<Bytes> {
        let Some(k) = frame.checked_sub(count(&self.opening)) else {
            return at(&self.opening, frame);
        };
        match k.checked_sub(self.token_frames()) {
            None => self.token_frame(k),
            Some(k) => at(&self.closing, k),
        }
    }

    fn token_frame(&self, k: u32) -> Option<Bytes> {
        let choice = usize::try_from(k % self.choices()).ok()?;
        let (head, word) = (self.heads.get(choice)?, words::word(k / self.choices()));
        let mut frame = BytesMut::with_capacity(head.len() + self.tail.len() + 32);
        frame.put_slice(head.as_bytes());
        frame.put_slice(word.as_bytes());
        frame.put_slice(self.tail.as_bytes());
        if let Some(first) = self.numbered_from {
            frame.put_slice(first.saturating_add(k).to_string().as_bytes());
            frame.put_slice(b"}\n\n");
        }
        Some(frame.freeze())
    }

    fn choices(&self) -> u32 {
        u32::try_from(self.heads.len()).unwrap_or(u32::MAX).max(1)
    }

    fn token_frames(&self) -> u32 {
        self.tokens.saturating_mul(self.choices())
    }
}

fn count(frames: &[Bytes]) -> u32 {
    u32::try_from(frames.len()).unwrap_or(u32::MAX)
}

fn at(frames: &[Bytes], k: u32) -> Option<Bytes> {
    usize::try_from(k).ok().and_then(|k| frames.get(k)).cloned()
}

fn data(json: &str) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}

fn event(name: &str, json: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

fn chat(answer: &Answer) -> Script {
    let opening = answer.opening("chatcmpl", "chat.completion.chunk");
    let finish = answer.finish_reason();
    let choices = 0..answer.ask.choices;
    let role = |i| {
        data(&format!(
            r#"{opening},"choices":[{{"index":{i},"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}]}}"#
        ))
    };
    let head = |i| format!(r#"data: {opening},"choices":[{{"index":{i},"delta":{{"content":""#);
    let last = |i| {
        data(&format!(
            r#"{opening},"choices":[{{"index":{i},"delta":{{}},"logprobs":null,"finish_reason":"{finish}"}}]}}"#
        ))
    };
    Script {
        opening: choices.clone().map(role).collect(),
        heads: choices.clone().map(head).collect(),
        tail: "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
        numbered_from: None,
        tokens: answer.tokens,
        closing: choices.map(last).chain(usage(answer, &opening)).chain([done()]).collect(),
    }
}

fn completions(answer: &Answer) -> Script {
    let opening = answer.opening("cmpl", "text_completion");
    let finish = answer.finish_reason();
    let choices = 0..answer.ask.choices;
    let head = |i| format!(r#"data: {opening},"choices":[{{"index":{i},"text":""#);
    let last = |i| {
        data(&format!(
            r#"{opening},"choices":[{{"index":{i},"text":"","logprobs":null,"finish_reason":"{finish}"}}]}}"#
        ))
    };
    Script {
        opening: Vec::new(),
        heads: choices.clone().map(head).collect(),
        tail: "\",\"logprobs\":null,\"finish_reason\":null}]}\n\n",
        numbered_from: None,
        tokens: answer.tokens,
        closing: choices.map(last).chain(usage(answer, &opening)).chain([done()]).collect(),
    }
}

fn usage(answer: &Answer, opening: &str) -> Option<Bytes> {
    let usage = || data(&format!(r#"{opening},"choices":[],"usage":{}}}"#, answer.usage()));
    answer.ask.include_usage.then(usage)
}

fn done() -> Bytes {
    data("[DONE]")
}

fn messages(answer: &Answer) -> Script {
    let (reason, output) = (answer.stop_reason(), answer.tokens);
    let start = answer.message("[]", "null", 1);
    Script {
        opening: vec![
            event("message_start", &format!(r#"{{"type":"message_start","message":{start}}}"#)),
            event(
                "content_block_start",
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
            event("ping", r#"{"type":"ping"}"#),
        ],
        heads: vec![
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\""
                .to_owned(),
        ],
        tail: "\"}}\n\n",
        numbered_from: None,
        tokens: output,
        closing: vec![
            event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
            event(
                "message_delta",
                &format!(
                    r#"{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
                ),
            ),
            event("message_stop", r#"{"type":"message_stop"}"#),
        ],
    }
}

/// One numbered event; `members` are those between its type and its number.
fn numbered(name: &str, number: u32, members: &str) -> Bytes {
    event(name, &format!(r#"{{"type":"{name}",{members},"sequence_number":{number}}}"#))
}

fn responses(answer: &Answer) -> Script {
    let tokens = answer.tokens;
    let begun = format!(r#""response":{}"#, answer.responses("in_progress"));
    let place = format!(r#""item_id":"{}","output_index":0,"content_index":0"#, answer.message_id());
    let opening = vec![
        numbered("response.created", 0, &begun),
        numbered("response.in_progress", 1, &begun),
        numbered("response.output_item.added", 2, &item(answer, "in_progress")),
        numbered(
            "response.content_part.added",
            3,
            &format!(r#"{place},"part":{}"#, answer.responses_part(false)),
        ),
    ];
    let first = count(&opening);
    let after = |k: u32| first.saturating_add(tokens).saturating_add(k);
    let text = words::text(tokens);
    let closing = vec![
        numbered("response.output_text.done", after(0), &format!(r#"{place},"text":"{text}","logprobs":[]"#)),
        numbered(
            "response.content_part.done",
            after(1),
            &format!(r#"{place},"part":{}"#, answer.responses_part(true)),
        ),
        numbered("response.output_item.done", after(2), &item(answer, "completed")),
        responses_end(answer, after(3)),
    ];
    let name = "response.output_text.delta";
    Script {
        opening,
        heads: vec![format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",{place},\"logprobs\":[],\"delta\":\""
        )],
        tail: "\",\"sequence_number\":",
        numbered_from: Some(first),
        tokens,
        closing,
    }
}

fn item(answer: &Answer, status: &str) -> String {
    format!(r#""output_index":0,"item":{}"#, answer.responses_item(status))
}

fn responses_end(answer: &Answer, number: u32) -> Bytes {
    let name = if answer.finish_reason() == "length" { "response.incomplete" } else { "response.completed" };
    numbered(name, number, &format!(r#""response":{}"#, answer.responses("completed")))
}
