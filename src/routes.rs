//! The data plane's routing table: exact raw paths, nothing decoded, nothing normalised. What is not here is
//! answered 404 and never forwarded.

use crate::wire::Route;

/// What a path of the data plane means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataRoute<'a> {
    /// `POST`: a model route.
    Model(Route),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{name}`; the name as it stands in the path.
    OneModel(&'a str),
    /// `GET /v1/limits`.
    Limits,
    /// `GET /v1/usage`.
    Usage,
    /// `/mcp/{server}`, or `/mcp` for all of them together; the name as it stands in the path.
    Mcp(Option<&'a str>),
    /// `GET /health`.
    Health,
    /// `GET /ready`.
    Ready,
    Unknown,
}

impl<'a> DataRoute<'a> {
    /// The route at exactly this raw path.
    pub fn of(path: &'a str) -> Self {
        match path {
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/v1/models" => Self::Models,
            "/v1/limits" => Self::Limits,
            "/v1/usage" => Self::Usage,
            "/mcp" => Self::Mcp(None),
            _ => match (Route::of(path), path.strip_prefix("/v1/models/"), path.strip_prefix("/mcp/")) {
                (Some(route), ..) => Self::Model(route),
                (None, Some(name), _) if !name.is_empty() => Self::OneModel(name),
                (None, _, Some(server)) if !server.is_empty() && !server.contains('/') => {
                    Self::Mcp(Some(server))
                }
                _ => Self::Unknown,
            },
        }
    }

    /// The method it answers, where that is one.
    pub const fn method(&self) -> Option<&'static str> {
        match self {
            Self::Model(_) => Some("POST"),
            Self::Models | Self::OneModel(_) | Self::Limits | Self::Usage | Self::Health | Self::Ready => {
                Some("GET")
            }
            Self::Mcp(_) | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_paths_are_known() {
        assert_eq!(DataRoute::of("/v1/chat/completions"), DataRoute::Model(Route::ChatCompletions));
        assert_eq!(DataRoute::of("/v1/limits"), DataRoute::Limits);
        assert_eq!(DataRoute::of("/v1/usage"), DataRoute::Usage);
        assert_eq!(DataRoute::of("/v1/models/org/name"), DataRoute::OneModel("org/name"));
        assert_eq!(DataRoute::of("/mcp"), DataRoute::Mcp(None));
        assert_eq!(DataRoute::of("/mcp/files"), DataRoute::Mcp(Some("files")));
        for path in [
            "/mcp/",
            "/mcp/a/b",
            "/mcp//a",
            "/MCP",
            "/",
            "",
            "/v1",
            "/v1/",
            "/v1/chat/completions/",
            "/v1//chat/completions",
            "//v1/chat/completions",
            "/v1/../v1/chat/completions",
            "/v1/chat/%63ompletions",
            "/v1/chat%2fcompletions",
            "/v1/%2e%2e/chat/completions",
            "/v1\\chat\\completions",
            "/V1/chat/completions",
            "/v1/audio/",
            "/v1/audio/a/b",
            "/v1/audio/..",
            "/v1/models/",
            "/v1/limits/",
            "/v1/usage/",
            "/v1/files",
            "/metrics",
            "/api/v1/models",
        ] {
            assert_eq!(DataRoute::of(path), DataRoute::Unknown, "{path}");
        }
    }
}
