//! Headers that repeat what the body says: they must agree (revision 2026-07-28, "Server Validation").
//!
//! What stands in the body decides. A header that is not there is the server's to judge.

use super::message::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::borrow::Cow;

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// The values that came under each of the mirroring headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mirrored<'a> {
    /// `MCP-Protocol-Version`; `Err`: several, or not visible ASCII.
    pub version: Mirror<'a>,
    /// `Mcp-Method`.
    pub method: Mirror<'a>,
    /// `Mcp-Name`.
    pub name: Mirror<'a>,
}

/// One header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mirror<'a> {
    #[default]
    Absent,
    Says(&'a str),
    /// Repeated, or not text.
    Unreadable,
}

impl<'a> Mirror<'a> {
    /// What it says.
    pub const fn text(self) -> Option<&'a str> {
        match self {
            Self::Says(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// The first header that does not agree with the message.
pub fn disagreement(message: &Message<'_>, said: &Mirrored<'_>) -> Option<&'static str> {
    let differs = |mirror: Mirror<'_>, body: Option<&str>| match (mirror, body) {
        (Mirror::Unreadable, _) => true,
        (Mirror::Absent, _) | (Mirror::Says(_), None) => false,
        (Mirror::Says(header), Some(body)) => header != body,
    };
    let name = match said.name {
        Mirror::Says(text) => Some(decoded(text)),
        Mirror::Absent | Mirror::Unreadable => None,
    };
    let method = Some(&*message.method).filter(|method| !method.is_empty());
    let misnamed = match (&name, &message.name) {
        // It cannot be read, and so agrees with nothing.
        (Some(None), _) => true,
        (Some(Some(header)), Some(body)) => header != body,
        (Some(Some(_)) | None, _) => said.name == Mirror::Unreadable,
    };
    if differs(said.version, message.version.as_deref()) {
        Some("MCP-Protocol-Version")
    } else if differs(said.method, method) {
        Some("Mcp-Method")
    } else if misnamed {
        Some("Mcp-Name")
    } else {
        None
    }
}

/// What a mirrored value stands for. `None`: nothing.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return Some(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(inner).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// A value as such a header carries it.
pub fn encoded(value: &str) -> Cow<'_, str> {
    let plain = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) && value.trim() == value;
    if plain && !(value.starts_with(PREFIX) && value.ends_with(SUFFIX)) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(value)))
}
