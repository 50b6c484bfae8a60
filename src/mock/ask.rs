//! What a request asks for: read once, shallowly, from JSON or a form.

use actix_web::{HttpResponse, http::StatusCode};
use serde::Deserialize;

use super::{
    form,
    texts::{self, List, Texts},
};

/// Bytes of an audio file that count as one token.
const AUDIO_BYTES_PER_TOKEN: u64 = 1024;
/// The most choices one request may ask for.
const MAX_CHOICES: u32 = 128;

/// The shape an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    CountTokens,
    Embeddings,
    Rerank,
    Score,
    Moderations,
    Transcriptions,
    Speech,
    Images,
}

impl Api {
    /// Every route that generates, with its shape.
    pub(super) const ALL: [(&'static str, Api); 13] = [
        ("/v1/chat/completions", Api::Chat),
        ("/v1/completions", Api::Completions),
        ("/v1/responses", Api::Responses),
        ("/v1/messages", Api::Messages),
        ("/v1/messages/count_tokens", Api::CountTokens),
        ("/v1/embeddings", Api::Embeddings),
        ("/v1/rerank", Api::Rerank),
        ("/v1/score", Api::Score),
        ("/v1/moderations", Api::Moderations),
        ("/v1/audio/transcriptions", Api::Transcriptions),
        ("/v1/audio/translations", Api::Transcriptions),
        ("/v1/audio/speech", Api::Speech),
        ("/v1/images/generations", Api::Images),
    ];

    /// Whether it generates text, token by token, and can stream it.
    pub(super) fn writes_text(self) -> bool {
        matches!(self, Api::Chat | Api::Completions | Api::Responses | Api::Messages)
    }

    /// The member that holds the prompt and must be there, if there is one.
    fn prompt_member(self) -> &'static str {
        match self {
            Api::Chat | Api::Messages | Api::CountTokens => "messages",
            Api::Completions | Api::Images => "prompt",
            Api::Rerank => "documents",
            Api::Score => "text_2",
            Api::Transcriptions => "file",
            Api::Responses | Api::Embeddings | Api::Moderations | Api::Speech => "input",
        }
    }
}

/// A request, measured.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) api: Api,
    pub(super) model: String,
    pub(super) stream: bool,
    /// The client wants the usage chunk of a chat or completions stream.
    pub(super) include_usage: bool,
    /// The bound the client set on output tokens.
    pub(super) bound: Option<u32>,
    pub(super) choices: u32,
    /// How many inputs (embeddings, moderations), documents (rerank) or texts (score) it carries.
    pub(super) items: u32,
    pub(super) prompt_tokens: u64,
    /// Embeddings as base64 instead of a list of numbers.
    pub(super) base64: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
    encoding_format: Option<String>,
    messages: Option<List>,
    documents: Option<List>,
    prompt: Option<Texts>,
    input: Option<Texts>,
    system: Option<Texts>,
    instructions: Option<Texts>,
    query: Option<Texts>,
    text_1: Option<Texts>,
    text_2: Option<Texts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    pub(super) fn read(api: Api, content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        if api == Api::Transcriptions {
            return Self::from_form(api, content_type, body);
        }
        let body: Body = serde_json::from_slice(body).map_err(|_| Refusal::of_json(body))?;
        body.ask(api)
    }

    fn from_form(api: Api, content_type: &str, body: &[u8]) -> Result<Self, Refusal> {
        let form = form::read(content_type, body)
            .ok_or_else(|| Refusal::new("file", "the body must be multipart/form-data".to_owned()))?;
        let audio = form.file_bytes.div_ceil(AUDIO_BYTES_PER_TOKEN);
        Ok(Self {
            api,
            model: form.model.filter(|m| !m.is_empty()).ok_or_else(|| Refusal::missing("model"))?,
            stream: false,
            include_usage: false,
            bound: None,
            choices: 1,
            items: 1,
            prompt_tokens: texts::tokens(form.prompt_bytes).saturating_add(audio),
            base64: false,
        })
    }
}

impl Body {
    fn ask(self, api: Api) -> Result<Ask, Refusal> {
        let bound = self.bound()?;
        let choices = self.n.unwrap_or(1);
        if choices == 0 || choices > MAX_CHOICES {
            return Err(Refusal::new("n", format!("n must be from 1 to {MAX_CHOICES}")));
        }
        let main = self.main_prompt(api).ok_or_else(|| Refusal::missing(api.prompt_member()))?;
        let beside = [self.system, self.instructions, self.query, self.text_1];
        let bytes = beside.iter().flatten().fold(main.bytes, |sum, t| sum.saturating_add(t.bytes));
        Ok(Ask {
            api,
            model: self.model.filter(|m| !m.is_empty()).ok_or_else(|| Refusal::missing("model"))?,
            stream: self.stream.unwrap_or(false),
            include_usage: self.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
            bound,
            choices: if matches!(api, Api::Chat | Api::Completions) { choices } else { 1 },
            items: main.items,
            prompt_tokens: texts::tokens(bytes),
            base64: self.encoding_format.as_deref() == Some("base64"),
        })
    }

    fn bound(&self) -> Result<Option<u32>, Refusal> {
        let bounds = [
            ("max_completion_tokens", self.max_completion_tokens),
            ("max_output_tokens", self.max_output_tokens),
            ("max_tokens", self.max_tokens),
        ];
        if let Some((name, _)) = bounds.iter().find(|(_, bound)| *bound == Some(0)) {
            return Err(Refusal::new(name, format!("{name} must be at least 1")));
        }
        Ok(bounds.iter().filter_map(|(_, bound)| *bound).min())
    }

    fn main_prompt(&self, api: Api) -> Option<Texts> {
        match api.prompt_member() {
            "messages" => self.messages.map(|list| list.0),
            "documents" => self.documents.map(|list| list.0),
            "prompt" => self.prompt,
            "text_2" => self.text_2,
            _ => self.input,
        }
    }
}

/// An answer other than 200, in the OpenAI envelope.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) param: String,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(param: &str, message: String) -> Self {
        Self { param: param.to_owned(), message }
    }

    pub(super) fn missing(param: &str) -> Self {
        Self::new(param, format!("{param} is required"))
    }

    /// Parses a second time, to name the member that is wrong.
    fn of_json(body: &[u8]) -> Self {
        let json = &mut serde_json::Deserializer::from_slice(body);
        match serde_path_to_error::deserialize::<_, Body>(json) {
            Err(error) => {
                let path = error.path().to_string();
                let param = if path == "." { String::new() } else { path };
                Self { message: error.into_inner().to_string(), param }
            }
            Ok(_) => Self::new("", "the body holds more than one JSON value".to_owned()),
        }
    }

    pub(super) fn response(&self) -> HttpResponse {
        error(StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request", &self.param, &self.message)
    }
}

/// One error answer; an empty `param` is written as null.
pub(super) fn error(status: StatusCode, kind: &str, code: &str, param: &str, message: &str) -> HttpResponse {
    let param = (!param.is_empty()).then_some(param);
    let body = serde_json::json!({"error": {"message": message, "type": kind, "param": param, "code": code}});
    HttpResponse::build(status).json(body)
}
