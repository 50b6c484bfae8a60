//! JSON answers, written as text: no tree is built, and only the model's name needs escaping.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Bytes, Path},
};
use uuid::Uuid;

use super::{
    ask::{self, Api, Ask},
    words,
};

/// The models that `GET /v1/models` lists; requests may name any other.
const MODELS: [&str; 2] = ["demo-model", "demo-embedding"];
/// One embedding as JSON and as base64 of little-endian `f32`.
const VECTOR: &str = "[0.25,-0.5,0.125,0.0625,-0.25,0.5,-0.125,0.375]";
const VECTOR_BASE64: &str = "\"AACAPgAAAL8AAAA+AACAPQAAgL4AAAA/AAAAvgAAwD4=\"";
/// One grey pixel.
const PNG_BASE64: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";
/// What a spoken answer carries: bytes that are no JSON and no UTF-8.
const AUDIO: [u8; 8] = [0xFF, 0xFB, 0x90, 0x64, 0x00, 0x0D, 0x0A, 0xFF];
const AUDIO_REPEATS: usize = 256;

/// A request with all that its answer says.
pub(super) struct Answer {
    pub(super) ask: Ask,
    /// Output tokens of each choice.
    pub(super) tokens: u32,
    /// A bound of the client made the answer shorter.
    bounded: bool,
    /// Without the prefix of the route.
    id: uuid::fmt::Simple,
    /// Seconds since 1970.
    created: i64,
    /// The model's name as a JSON string.
    model: String,
}

impl Answer {
    pub(super) fn new(ask: Ask, longest: u32) -> Self {
        let tokens = if ask.api.writes_text() { ask.bound.unwrap_or(longest).min(longest) } else { 0 };
        let tokens = if ask.api == Api::Transcriptions { longest } else { tokens };
        Self {
            tokens,
            bounded: ask.bound.is_some_and(|bound| bound < longest),
            id: Uuid::new_v4().simple(),
            created: chrono::Utc::now().timestamp(),
            model: serde_json::Value::from(ask.model.as_str()).to_string(),
            ask,
        }
    }

    /// The members every answer of OpenAI's chat and completions begins with.
    pub(super) fn opening(&self, prefix: &str, object: &str) -> String {
        let Self { id, created, model, .. } = self;
        format!(r#"{{"id":"{prefix}-{id}","object":"{object}","created":{created},"model":{model}"#)
    }

    pub(super) fn finish_reason(&self) -> &'static str {
        if self.bounded { "length" } else { "stop" }
    }

    pub(super) fn stop_reason(&self) -> &'static str {
        if self.bounded { "max_tokens" } else { "end_turn" }
    }

    /// Usage of chat and completions.
    pub(super) fn usage(&self) -> String {
        let prompt = self.ask.prompt_tokens;
        let output = u64::from(self.tokens).saturating_mul(u64::from(self.ask.choices));
        let total = prompt.saturating_add(output);
        format!(
            r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#
        )
    }

    /// The content type and the whole body.
    pub(super) fn body(&self) -> (&'static str, Bytes) {
        let json = match self.ask.api {
            Api::Chat => self.chat(),
            Api::Completions => self.completions(),
            Api::Responses => self.responses("completed"),
            Api::Messages => self.messages(),
            Api::Embeddings => self.embeddings(),
            Api::Rerank => self.rerank(),
            Api::Score => self.score(),
            Api::Moderations => self.moderations(),
            Api::Transcriptions => self.transcription(),
            Api::Images => self.images(),
            Api::Speech => return ("audio/mpeg", Bytes::from(AUDIO.repeat(AUDIO_REPEATS))),
            Api::CountTokens => format!(r#"{{"input_tokens":{}}}"#, self.ask.prompt_tokens),
        };
        ("application/json", Bytes::from(json))
    }

    fn chat(&self) -> String {
        let (text, finish) = (words::text(self.tokens), self.finish_reason());
        let choices = list(self.ask.choices, |i| {
            format!(
                r#"{{"index":{i},"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"{finish}"}}"#
            )
        });
        let opening = self.opening("chatcmpl", "chat.completion");
        format!(r#"{opening},"choices":{choices},"usage":{}}}"#, self.usage())
    }

    fn completions(&self) -> String {
        let (text, finish) = (words::text(self.tokens), self.finish_reason());
        let choices = list(self.ask.choices, |i| {
            format!(r#"{{"index":{i},"text":"{text}","logprobs":null,"finish_reason":"{finish}"}}"#)
        });
        let opening = self.opening("cmpl", "text_completion");
        format!(r#"{opening},"choices":{choices},"usage":{}}}"#, self.usage())
    }

    /// A response object; without output and usage unless it is finished.
    pub(super) fn responses(&self, status: &str) -> String {
        let Self { id, created, model, .. } = self;
        let (done, incomplete) = (status == "completed", self.bounded);
        let (output, usage) = if done {
            (format!("[{}]", self.responses_item("completed")), self.responses_usage())
        } else {
            ("[]".to_owned(), "null".to_owned())
        };
        let status = if done && incomplete { "incomplete" } else { status };
        let details = if status == "incomplete" { r#"{"reason":"max_output_tokens"}"# } else { "null" };
        let bound = self.ask.bound.map_or("null".to_owned(), |bound| bound.to_string());
        format!(
            r#"{{"id":"resp_{id}","object":"response","created_at":{created},"status":"{status}","background":false,"error":null,"incomplete_details":{details},"instructions":null,"max_output_tokens":{bound},"model":{model},"output":{output},"parallel_tool_calls":true,"previous_response_id":null,"temperature":1.0,"text":{{"format":{{"type":"text"}}}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{usage},"metadata":{{}}}}"#
        )
    }

    /// The one message of a response; without content while it is in progress.
    pub(super) fn responses_item(&self, status: &str) -> String {
        let id = &self.id;
        let content =
            if status == "completed" { format!("[{}]", self.responses_part(true)) } else { "[]".to_owned() };
        format!(
            r#"{{"id":"msg_{id}","type":"message","status":"{status}","role":"assistant","content":{content}}}"#
        )
    }

    pub(super) fn responses_part(&self, whole: bool) -> String {
        let text = if whole { words::text(self.tokens) } else { String::new() };
        format!(r#"{{"type":"output_text","text":"{text}","annotations":[],"logprobs":[]}}"#)
    }

    pub(super) fn message_id(&self) -> String {
        format!("msg_{}", self.id)
    }

    fn responses_usage(&self) -> String {
        let (input, output) = (self.ask.prompt_tokens, self.tokens);
        let total = input.saturating_add(u64::from(output));
        format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":0}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{total}}}"#
        )
    }

    fn messages(&self) -> String {
        let content = format!(r#"[{{"type":"text","text":"{}"}}]"#, words::text(self.tokens));
        self.message(&content, &format!(r#""{}""#, self.stop_reason()), self.tokens)
    }

    /// An Anthropic message.
    pub(super) fn message(&self, content: &str, stop_reason: &str, output: u32) -> String {
        let Self { id, model, .. } = self;
        let input = self.ask.prompt_tokens;
        format!(
            r#"{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":{content},"stop_reason":{stop_reason},"stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output}}}}}"#
        )
    }

    fn embeddings(&self) -> String {
        let (model, prompt) = (&self.model, self.ask.prompt_tokens);
        let vector = if self.ask.base64 { VECTOR_BASE64 } else { VECTOR };
        let data =
            list(self.ask.items, |i| format!(r#"{{"object":"embedding","index":{i},"embedding":{vector}}}"#));
        format!(
            r#"{{"object":"list","data":{data},"model":{model},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}}}}"#
        )
    }

    fn rerank(&self) -> String {
        let Self { id, model, .. } = self;
        let results = list(self.ask.items, |i| {
            format!(r#"{{"index":{i},"relevance_score":{:.6}}}"#, 1.0 / (f64::from(i) + 1.0))
        });
        let prompt = self.ask.prompt_tokens;
        format!(
            r#"{{"id":"rerank-{id}","model":{model},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt}}},"results":{results}}}"#
        )
    }

    fn score(&self) -> String {
        let data = list(self.ask.items, |i| {
            format!(r#"{{"index":{i},"object":"score","score":{:.6}}}"#, 1.0 / (f64::from(i) + 1.0))
        });
        let prompt = self.ask.prompt_tokens;
        let opening = self.opening("score", "list");
        format!(
            r#"{opening},"data":{data},"usage":{{"prompt_tokens":{prompt},"total_tokens":{prompt},"completion_tokens":0,"prompt_tokens_details":null}}}}"#
        )
    }

    fn moderations(&self) -> String {
        let Self { id, model, .. } = self;
        let results = list(self.ask.items, |_| {
            r#"{"flagged":false,"categories":{"hate":false,"violence":false},"category_scores":{"hate":0.0,"violence":0.0}}"#
                .to_owned()
        });
        format!(r#"{{"id":"modr-{id}","model":{model},"results":{results}}}"#)
    }

    fn transcription(&self) -> String {
        let (input, output) = (self.ask.prompt_tokens, self.tokens);
        let total = input.saturating_add(u64::from(output));
        format!(
            r#"{{"text":"{}","usage":{{"type":"tokens","input_tokens":{input},"input_token_details":{{"text_tokens":0,"audio_tokens":{input}}},"output_tokens":{output},"total_tokens":{total}}}}}"#,
            words::text(output)
        )
    }

    fn images(&self) -> String {
        let (created, input) = (self.created, self.ask.prompt_tokens);
        format!(
            r#"{{"created":{created},"data":[{{"b64_json":"{PNG_BASE64}"}}],"usage":{{"input_tokens":{input},"input_tokens_details":{{"text_tokens":{input},"image_tokens":0}},"output_tokens":0,"total_tokens":{input}}}}}"#
        )
    }
}

fn list(items: u32, item: impl Fn(u32) -> String) -> String {
    let items: Vec<_> = (0..items).map(item).collect();
    format!("[{}]", items.join(","))
}

pub(super) async fn models() -> HttpResponse {
    let data: Vec<_> = MODELS.iter().map(|name| model_json(name)).collect();
    HttpResponse::Ok().json(serde_json::json!({"object": "list", "data": data}))
}

pub(super) async fn model(name: Path<String>) -> HttpResponse {
    if MODELS.contains(&name.as_str()) {
        return HttpResponse::Ok().json(model_json(&name));
    }
    let message = format!("the model `{name}` does not exist");
    ask::error(StatusCode::NOT_FOUND, "invalid_request_error", "model_not_found", "model", &message)
}

fn model_json(name: &str) -> serde_json::Value {
    serde_json::json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "obleth-mock"})
}
