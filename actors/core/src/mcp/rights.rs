//! Who may call which tool: `server/tool` globs of the tenant and of the key; both hold.
//!
//! `*` stands for any characters, none included, `?` for one. They do not reach over the border between server
//! and tool, which is the first `/`: a server's name has none, a tool's may. A glob without one is a server with
//! all its tools.

use std::str::Chars;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob {
    server: Box<str>,
    /// `None`: all.
    tool: Option<Box<str>>,
}

impl Glob {
    fn read(text: &str) -> Self {
        match text.split_once('/') {
            None => Self { server: text.into(), tool: None },
            Some((server, tool)) => Self { server: server.into(), tool: (tool != "*").then(|| tool.into()) },
        }
    }

    fn allows(&self, server: &str, tool: &str) -> bool {
        matches(&self.server, server) && self.tool.as_ref().is_none_or(|glob| matches(glob, tool))
    }
}

/// The list of a tenant or of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolGlobs(Arc<[Glob]>);

impl ToolGlobs {
    /// Reads a list.
    pub fn of<'a>(globs: impl IntoIterator<Item = &'a str>) -> Self {
        Self(globs.into_iter().map(Glob::read).collect())
    }
}

/// The lists that hold for a caller; `None` = all tools.
#[derive(Clone, Copy, Debug)]
pub struct Rights<'a> {
    pub tenant: Option<&'a ToolGlobs>,
    pub key: Option<&'a ToolGlobs>,
}

impl Rights<'_> {
    fn all(&self, holds: impl Fn(&[Glob]) -> bool) -> bool {
        [self.tenant, self.key].into_iter().flatten().all(|list| holds(&list.0))
    }

    /// Whether this tool of this server may be called.
    pub fn may_call(&self, server: &str, tool: &str) -> bool {
        self.all(|list| list.iter().any(|glob| glob.allows(server, tool)))
    }

    /// Whether there may be a tool of this server that may be called.
    pub fn may_reach(&self, server: &str) -> bool {
        self.all(|list| list.iter().any(|glob| matches(&glob.server, server)))
    }

    /// Whether some tool of this server might not be called, so that its lists must be looked through.
    pub fn is_limited(&self, server: &str) -> bool {
        !self.all(|list| list.iter().any(|glob| glob.tool.is_none() && matches(&glob.server, server)))
    }
}

/// Whether a glob matches a text, in time of at most their product.
fn matches(glob: &str, text: &str) -> bool {
    let (mut glob, mut text) = (glob.chars(), text.chars());
    // Where to go on when what follows the last star does not match: one character further in the text.
    let mut again: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut next_glob, mut next_text) = (glob.clone(), text.clone());
        match (next_glob.next(), next_text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((next_glob.clone(), text.clone()));
                glob = next_glob;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                (glob, text) = (next_glob, next_text);
            }
            _ => {
                let Some((after, mut from)) = again.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                (glob, text) = (after.clone(), from.clone());
                again = Some((after, from));
            }
        }
    }
}
