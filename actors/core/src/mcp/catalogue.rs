//! The tools of one server as it listed them, and of several servers as one list.

use super::list::Unclear;
use super::message::Era;
use super::names::merged;
use super::object::{Object, quoted, text};
use super::params::{MARK, mirrored};
use super::rights::Rights;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Tools of one server that are kept.
pub const TOOLS_MAX: usize = 4096;
/// How long a list stands whose server says nothing of it.
pub const USUAL: Duration = Duration::from_secs(30);
/// Whatever the server says, it is asked again after this long, and not before that short.
const LONGEST: Duration = Duration::from_secs(300);
const SHORTEST: Duration = Duration::from_secs(1);

/// A tool: its object around the place of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: Box<str>,
    before: Box<str>,
    after: Box<str>,
    /// Some parameter of it may be mirrored into a header.
    mirrors: bool,
}

impl Tool {
    fn read(value: &RawValue) -> Option<Self> {
        let object = Object::read(value.get())?;
        let name = object.get("name")?;
        // Where the value stands in the text of its object: both are parts of one string.
        let at = name.get().as_ptr().addr().checked_sub(value.get().as_ptr().addr())?;
        let before = value.get().get(..at)?;
        let after = value.get().get(at.checked_add(name.get().len())?..)?;
        let mirrors = value.get().contains(MARK);
        Some(Self { name: text(name)?.into(), before: before.into(), after: after.into(), mirrors })
    }

    /// Its object under another name.
    fn write(&self, name: &str, out: &mut String) {
        out.push_str(&self.before);
        out.push_str(&quoted(name));
        out.push_str(&self.after);
    }
}

/// What a server offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    pub era: Era,
    /// The revision that is spoken with it.
    pub version: Arc<str>,
    pub tools: Vec<Tool>,
    /// How long the list stands.
    pub ttl: Duration,
    /// Anybody may keep it.
    pub public: bool,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub tools: Vec<Tool>,
    /// Hand it back as `cursor` for the next page.
    pub next: Option<String>,
    pub ttl: Option<Duration>,
    pub public: bool,
}

impl Page {
    /// Reads the result of `tools/list`. Tools that cannot be read are left out.
    pub fn read(result: &str) -> Result<Self, Unclear> {
        let result = Object::read(result).ok_or(Unclear)?;
        let tools = result.get("tools").ok_or(Unclear)?;
        let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).map_err(|_| Unclear)?;
        let millis = result.get("ttlMs").and_then(|value| value.get().parse().ok());
        Ok(Self {
            tools: tools.into_iter().filter_map(Tool::read).collect(),
            next: result.text("nextCursor").map(Cow::into_owned),
            ttl: millis.map(Duration::from_millis),
            public: result.text("cacheScope").as_deref() == Some("public"),
        })
    }
}

impl Catalogue {
    /// The headers `Mcp-Param-{name}` that a stateless client would send with a call, without their prefix.
    pub fn mirrored(&self, tool: &str, arguments: &RawValue) -> Vec<(String, String)> {
        let mut named = self.tools.iter().filter(|known| &*known.name == tool && known.mirrors);
        let Some(tool) = named.next() else { return Vec::new() };
        let mut text = String::new();
        tool.write(&tool.name, &mut text);
        let schema = Object::read(&text).and_then(|tool| tool.get("inputSchema"));
        schema.map(|schema| mirrored(schema, arguments)).unwrap_or_default()
    }

    /// An empty one.
    pub fn new(era: Era, version: &str) -> Self {
        Self { era, version: version.into(), tools: Vec::new(), ttl: USUAL, public: true }
    }

    /// Takes in one more page; whether another may follow.
    pub fn add(&mut self, page: Page) -> bool {
        self.tools.extend(page.tools);
        let room = self.tools.len() < TOOLS_MAX;
        self.tools.truncate(TOOLS_MAX);
        self.ttl = page.ttl.map_or(self.ttl, |ttl| ttl.clamp(SHORTEST, LONGEST));
        self.public &= page.public;
        room && page.next.is_some()
    }
}

/// The tools of several servers as one JSON list: by server in the order given, each in its server's order; those
/// that the caller may not call are not there.
pub fn listed<'a>(servers: impl Iterator<Item = (&'a str, &'a Catalogue)>, rights: &Rights<'_>) -> String {
    let mut out = String::from("[");
    for (server, catalogue) in servers {
        for tool in catalogue.tools.iter().filter(|tool| rights.may_call(server, &tool.name)) {
            if out.len() > 1 {
                out.push(',');
            }
            tool.write(&merged(server, &tool.name), &mut out);
        }
    }
    out.push(']');
    out
}
