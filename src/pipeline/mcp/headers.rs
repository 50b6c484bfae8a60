//! Headers of MCP, in both directions.

use crate::pipeline::arrival::Arrival;
use crate::pipeline::headers::passed_on;
use actix_web::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER,
};
use obleth_core::mcp::headers::{Mirror, Mirrored};
use obleth_core::registry::McpServer;
use secrecy::ExposeSecret;

pub(super) const MCP_SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const MCP_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
pub(super) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the server gets: the client's headers without whatever could hold a credential of the client, and the
/// operator's own.
pub(super) fn outgoing(
    client: &HeaderMap,
    arrival: &Arrival,
    server: &McpServer,
    session: Option<&str>,
) -> HeaderMap {
    let mut headers = passed_on(client, &arrival.request_id, arrival.trace.as_ref());
    for name in [ORIGIN, COOKIE, REFERER, MCP_SESSION_ID] {
        headers.remove(name);
    }
    if headers.contains_key(CONTENT_TYPE) {
        // Without parameters: a server that believed another charset would read another body than was read here.
        let plain = media_type(client).and_then(|text| HeaderValue::from_str(text).ok());
        headers.remove(CONTENT_TYPE);
        if let Some(value) = plain {
            headers.insert(CONTENT_TYPE, value);
        }
    }
    sign(&mut headers, server, session);
    headers
}

/// What the server gets with a request of the gateway's own.
pub(super) fn own(server: &McpServer, session: Option<&str>, version: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    if let Ok(value) = HeaderValue::from_str(version) {
        headers.insert(MCP_PROTOCOL_VERSION, value);
    }
    sign(&mut headers, server, session);
    headers
}

fn sign(headers: &mut HeaderMap, server: &McpServer, session: Option<&str>) {
    if let Some(value) = session.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert(MCP_SESSION_ID, value);
    }
    if let Some(value) = &server.auth_header
        && let Ok(value) = HeaderValue::from_str(value.expose_secret())
    {
        headers.insert(AUTHORIZATION, value);
    }
}

/// The type of a body, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

fn mirror(headers: &HeaderMap, name: HeaderName) -> Mirror<'_> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Mirror::Absent,
        (Some(value), None) => value.to_str().map_or(Mirror::Unreadable, |text| Mirror::Says(text.trim())),
        (Some(_), Some(_)) => Mirror::Unreadable,
    }
}

/// What the headers repeat of the body.
pub(super) fn mirrored(headers: &HeaderMap) -> Mirrored<'_> {
    Mirrored {
        version: mirror(headers, MCP_PROTOCOL_VERSION),
        method: mirror(headers, MCP_METHOD),
        name: mirror(headers, MCP_NAME),
    }
}

/// The session that a client names.
pub(super) fn session(headers: &HeaderMap) -> Mirror<'_> {
    mirror(headers, MCP_SESSION_ID)
}
