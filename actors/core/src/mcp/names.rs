//! Names of servers, and of tools where the tools of several servers stand together: `server__tool`.
//!
//! Invariant: what [`merged`] makes of a fit server name and any tool name, [`split`] takes apart again. A server
//! name has no `__` in it and does not end with `_`, so the first `__` is the border.

const BORDER: &str = "__";

/// Longest name of a server.
pub const SERVER_MAX: usize = 64;

/// Whether a name is fit for a server: it stands in a path and before a border.
pub fn is_server_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let border = name.contains(BORDER) || name.ends_with('_');
    begins && name.len() <= SERVER_MAX && name.bytes().all(allowed) && !border
}

/// The name of a server's tool among those of others.
pub fn merged(server: &str, tool: &str) -> String {
    [server, BORDER, tool].concat()
}

/// Server and tool of a merged name.
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(BORDER).filter(|(server, tool)| !server.is_empty() && !tool.is_empty())
}
