//! Which route a path is, and what is known of it before the body is read.
//!
//! Invariant: a path matches byte for byte or not at all, so what is forwarded is what was matched. Nothing
//! is decoded, collapsed or trimmed.

use super::field::{Field, FieldSet};
use std::borrow::Cow;
use std::fmt;

/// The last segment of an audio or image path: 1 to 64 of `[a-z0-9_-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl Segment {
    /// The longest segment.
    pub const MAX: usize = 64;

    /// A segment; `None` when a byte or the length is not allowed.
    pub fn of(text: &str) -> Option<Self> {
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        if text.is_empty() || !text.as_bytes().iter().all(allowed) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// The segment as it stood in the path.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The event shapes of a streamed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Unnamed events, `choices`, `[DONE]`.
    Chunks,
    /// `response.*` events with sequence numbers.
    Responses,
    /// `message_start` … `message_stop`.
    Messages,
}

/// A route that takes a POST body and names a model; and the one of MCP, which does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    ChatCompletions,
    Completions,
    Embeddings,
    Responses,
    Messages,
    CountTokens,
    Rerank,
    Score,
    Moderations,
    Audio(Segment),
    Images(Segment),
    /// `/mcp` and `/mcp/{server}`: a pipeline of its own, forwarded to other paths.
    Mcp,
}

/// What every route reads.
const COMMON: FieldSet = FieldSet::of(&[Field::Model, Field::Stream]);

impl Route {
    /// The route at exactly this raw path.
    pub fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::ChatCompletions,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/messages/count_tokens" => Self::CountTokens,
            "/v1/rerank" => Self::Rerank,
            "/v1/score" => Self::Score,
            "/v1/moderations" => Self::Moderations,
            _ => match path.strip_prefix("/v1/audio/") {
                Some(rest) => Self::Audio(Segment::of(rest)?),
                None => Self::Images(Segment::of(path.strip_prefix("/v1/images/")?)?),
            },
        })
    }

    /// The path, for the upstream.
    pub fn path(&self) -> Cow<'static, str> {
        match self {
            Self::Audio(segment) => Cow::Owned(format!("/v1/audio/{}", segment.as_str())),
            Self::Images(segment) => Cow::Owned(format!("/v1/images/{}", segment.as_str())),
            fixed => Cow::Borrowed(fixed.label()),
        }
    }

    /// The path for metrics and the ledger: as many values as there are variants.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Rerank => "/v1/rerank",
            Self::Score => "/v1/score",
            Self::Moderations => "/v1/moderations",
            Self::Audio(_) => "/v1/audio/*",
            Self::Images(_) => "/v1/images/*",
            Self::Mcp => "mcp",
        }
    }

    /// The shape of its streamed events.
    pub const fn dialect(&self) -> Dialect {
        match self {
            Self::Responses => Dialect::Responses,
            Self::Messages | Self::CountTokens => Dialect::Messages,
            _ => Dialect::Chunks,
        }
    }

    /// Whether the answer is text made token by token: it has an output bound and may be a stream.
    pub const fn generates(&self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }

    /// Whether the upstream sends the usage of a stream only when `stream_options.include_usage` asks.
    pub const fn usage_must_be_asked(&self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// The names of the output bound, the one that wins upstream first. The last one is the one to insert:
    /// on chat the older name, which every server obeys.
    pub const fn output_fields(&self) -> &'static [Field] {
        match self {
            Self::ChatCompletions => &[Field::MaxCompletionTokens, Field::MaxTokens],
            Self::Completions | Self::Messages => &[Field::MaxTokens],
            Self::Responses => &[Field::MaxOutputTokens],
            _ => &[],
        }
    }

    /// The fields whose text makes up the prompt.
    pub const fn input_fields(&self) -> &'static [Field] {
        use Field::*;
        match self {
            Self::ChatCompletions => &[Messages, Tools, Functions, Documents],
            Self::Completions => &[Prompt, Suffix],
            Self::Embeddings => &[Input, Messages],
            Self::Responses => &[Input, Instructions, Tools],
            Self::Messages | Self::CountTokens => &[Messages, System, Tools],
            Self::Rerank => &[Query, Documents],
            Self::Score => &[Text1, Text2, Data1, Data2, Queries, Items, Documents],
            Self::Moderations => &[Input],
            Self::Audio(_) => &[Input, Instructions, Prompt],
            Self::Images(_) => &[Prompt],
            Self::Mcp => &[],
        }
    }

    /// Every field the gateway reads on this route; all others pass unread.
    pub(super) const fn reads(&self) -> FieldSet {
        let own: &[Field] = match self {
            Self::ChatCompletions | Self::Completions => &[Field::StreamOptions, Field::N, Field::BestOf],
            Self::Images(_) => &[Field::N],
            _ => &[],
        };
        COMMON
            .and(FieldSet::of(own))
            .and(FieldSet::of(self.output_fields()))
            .and(FieldSet::of(self.input_fields()))
    }
}

#[cfg(test)]
mod tests;
