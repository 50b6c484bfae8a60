//! One JSON-RPC message of a client, read once.
//!
//! Is: what the gateway must know of it, and its text with a few members changed. Is not: a check of the
//! protocol beyond that; the server judges the rest. A batch is no message: the protocol has none since
//! 2025-06-18, and one call is one row.

use super::object::{Object, quoted, text};
use super::{STATELESS, rights};
use serde_json::value::RawValue;
use std::borrow::Cow;

const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// Calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// Lists tools.
pub const TOOLS_LIST: &str = "tools/list";
/// Opens a session.
pub const INITIALIZE: &str = "initialize";
/// Keeps a stream of notifications open.
pub const LISTEN: &str = "subscriptions/listen";
/// Says that a request is not wanted any more.
pub const CANCELLED: &str = "notifications/cancelled";

/// How methods without an answer begin.
const NOTIFICATIONS: &str = "notifications/";

/// Longest id of a request, as text.
const ID_MAX: usize = 1024;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Has an id and wants an answer.
    Request,
    Notification,
    /// Answers a request of the server (in sessions).
    Response,
}

/// Which rules a request follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: the client that leaves does not take its call back.
    Session,
    /// From 2026-07-28 on: it does.
    Stateless,
}

/// Why a body is no message that can be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No JSON, or not in UTF-8.
    NotJson,
    /// Not one JSON-RPC object.
    NotOne,
    /// Names a member twice, or in a spelling that some would take for another.
    Ambiguous,
    /// What every message must have is missing, or wrong.
    Invalid(&'static str),
    /// A parameter has the wrong type, or is missing.
    Wrong(&'static str),
}

impl Malformed {
    /// The code of JSON-RPC.
    pub const fn code(self) -> i64 {
        match self {
            Self::NotJson => -32700,
            Self::NotOne | Self::Ambiguous | Self::Invalid(_) => -32600,
            Self::Wrong(_) => -32602,
        }
    }

    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotJson => "the body is not JSON in UTF-8",
            Self::NotOne => "the body must be one JSON-RPC 2.0 message; batches are not carried",
            Self::Ambiguous => "the message repeats a member, or spells one in another way",
            Self::Invalid(what) | Self::Wrong(what) => what,
        }
    }
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub kind: Kind,
    /// Of a request: a string or a number, as it stands.
    pub id: Option<&'a RawValue>,
    /// Empty for a response.
    pub method: Cow<'a, str>,
    /// What `Mcp-Name` mirrors: `params.name`, or `params.uri` of a resource.
    pub name: Option<Cow<'a, str>>,
    /// The protocol version in `_meta`.
    pub version: Option<Cow<'a, str>>,
    object: Object<'a>,
    params: Option<Object<'a>>,
    meta: Option<Object<'a>>,
}

impl<'a> Message<'a> {
    /// Reads a body.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let body = std::str::from_utf8(body).map_err(|_| Malformed::NotJson)?;
        let value: &RawValue = serde_json::from_str(body).map_err(|_| Malformed::NotJson)?;
        if !value.get().starts_with('{') {
            return Err(Malformed::NotOne);
        }
        let object = Object::read(value.get()).ok_or(Malformed::Ambiguous)?;
        if object.mimics(&["jsonrpc", "id", "method", "params", "result", "error"]) {
            return Err(Malformed::Ambiguous);
        }
        if object.text("jsonrpc").as_deref() != Some("2.0") {
            return Err(Malformed::NotOne);
        }
        let id = object.get("id").map(id).transpose()?;
        let Some(method) = object.get("method") else {
            return response(object, id);
        };
        let method = text(method).ok_or(Malformed::Invalid("method must be a string"))?;
        // Without an id nobody is answered, or should be: who calls so evades limits a minute, or what is cut from lists.
        if id.is_none() && !method.starts_with(NOTIFICATIONS) {
            return Err(Malformed::Invalid("only notifications may be without an id"));
        }
        let params = object.given("params").map(|value| inner(value, "params must be an object"));
        let params = params.transpose()?;
        if params.as_ref().is_some_and(|params| params.mimics(&["name", "uri", "_meta", "arguments"])) {
            return Err(Malformed::Ambiguous);
        }
        let meta = params.as_ref().and_then(|params| params.given("_meta"));
        let meta = meta.map(|value| inner(value, "params._meta must be an object")).transpose()?;
        let named = match &*method {
            TOOLS_CALL | "prompts/get" => Some("name"),
            "resources/read" => Some("uri"),
            _ => None,
        };
        let name = named.and_then(|member| params.as_ref()?.text(member));
        if method == TOOLS_CALL && name.is_none() {
            return Err(Malformed::Wrong("params.name must name the tool"));
        }
        let version = meta.as_ref().and_then(|meta| meta.text(PROTOCOL_VERSION));
        let kind = if id.is_some() { Kind::Request } else { Kind::Notification };
        Ok(Self { kind, id, method, name, version, object, params, meta })
    }

    /// The id of a message that cannot be carried, to answer it: if it has one that can be read.
    pub fn id_of(body: &'a [u8]) -> Option<&'a RawValue> {
        let body = std::str::from_utf8(body).ok()?;
        Object::read(body)?.get("id").and_then(|value| id(value).ok())
    }

    /// The tool that is called.
    pub fn tool(&self) -> Option<&str> {
        if self.method == TOOLS_CALL { self.name.as_deref() } else { None }
    }

    /// A member of `params`.
    pub fn param(&self, name: &str) -> Option<&'a RawValue> {
        self.params.as_ref()?.get(name)
    }

    /// Which rules it follows; `header`: what `MCP-Protocol-Version` says.
    pub fn era(&self, header: Option<&str>) -> Era {
        let stateless = self.version.is_some() || header.is_some_and(|version| version >= STATELESS);
        if stateless && self.method != INITIALIZE { Era::Stateless } else { Era::Session }
    }

    /// Whether `_meta` says what each stateless request must.
    pub fn has_envelope(&self) -> bool {
        let meta = self.meta.as_ref();
        self.version.is_some() && meta.is_some_and(|meta| meta.given(CLIENT_CAPABILITIES).is_some())
    }

    /// The same call under another tool's name.
    pub fn renamed(&self, tool: &str) -> String {
        self.with_params(&[("name", &quoted(tool))])
    }

    /// The same call as a stateless request of a client that can do nothing.
    pub fn stateless(&self, tool: &str, client: &str) -> String {
        let version = quoted(STATELESS);
        let envelope =
            [(PROTOCOL_VERSION, version.as_str()), (CLIENT_CAPABILITIES, "{}"), (CLIENT_INFO, client)];
        let none = Object::default();
        let meta = self.meta.as_ref().unwrap_or(&none).with(&envelope);
        self.with_params(&[("name", &quoted(tool)), ("_meta", &meta)])
    }

    fn with_params(&self, changes: &[(&str, &str)]) -> String {
        let none = Object::default();
        let params = self.params.as_ref().unwrap_or(&none).with(changes);
        self.object.with(&[("params", &params)])
    }

    /// Whether the caller may send it to this server.
    pub fn is_allowed(&self, rights: &rights::Rights<'_>, server: &str) -> bool {
        match self.tool() {
            Some(tool) => rights.may_call(server, tool),
            None => rights.may_reach(server),
        }
    }
}

fn response<'a>(object: Object<'a>, id: Option<&'a RawValue>) -> Result<Message<'a>, Malformed> {
    let answers = object.get("result").is_some() || object.get("error").is_some();
    if !answers || object.get("params").is_some() {
        return Err(Malformed::NotOne);
    }
    let (method, name, version) = (Cow::Borrowed(""), None, None);
    Ok(Message { kind: Kind::Response, id, method, name, version, object, params: None, meta: None })
}

/// An id: a string or a number.
fn id(value: &RawValue) -> Result<&RawValue, Malformed> {
    let fit = value.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    if fit && value.get().len() <= ID_MAX {
        Ok(value)
    } else {
        Err(Malformed::Invalid("id must be a string or a number, of at most 1024 bytes"))
    }
}

fn inner<'a>(value: &'a RawValue, what: &'static str) -> Result<Object<'a>, Malformed> {
    if !value.get().starts_with('{') {
        return Err(Malformed::Wrong(what));
    }
    Object::read(value.get()).ok_or(Malformed::Ambiguous)
}
