//! Answers to what is refused: one for each status, with its codes.

use super::schemas::Schemas;
use crate::error::{Code, Envelope, Fault};
use serde_json::{Map, Value, json};

/// What the management API refuses with, and when.
const REFUSALS: [(Code, &str); 12] = [
    (Code::InvalidRequest, "colour: unknown field `colour`"),
    (Code::Unauthorized, "an admin token is required: Authorization: Bearer ..."),
    (Code::RoleForbidden, "this takes a token of the role operator"),
    (Code::NotFound, "no such model"),
    (Code::Conflict, "a model has this name or alias already"),
    (Code::StaleVersion, "the version is stale: somebody changed this meanwhile"),
    (Code::BodyTooLarge, "the body is larger than 1048576 bytes"),
    (Code::TooManyFailures, "too many calls without a valid token from this address"),
    (Code::Internal, "an internal error"),
    (Code::StoreUnavailable, "the database is not available"),
    (Code::Restarting, "the registry is being restarted"),
    (Code::Overloaded, "too many writes are waiting"),
];

/// The header of every answer.
pub(super) fn request_id() -> Value {
    json!({"required": true, "description": "As it was sent, or made.", "schema": {"type": "string"}})
}

/// All of them, by status.
pub(super) fn all(schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses = Map::new();
    for (code, _) in REFUSALS {
        let status = code.status();
        let codes: Vec<_> = REFUSALS.into_iter().filter(|(code, _)| code.status() == status).collect();
        responses.insert(status.to_string(), response(status, &codes, schemas));
    }
    responses
}

fn response(status: u16, codes: &[(Code, &'static str)], schemas: &mut Schemas) -> Value {
    let names: Vec<_> = codes.iter().map(|(code, _)| format!("`{}`", code.name())).collect();
    let examples: Map<_, _> =
        codes.iter().map(|(code, text)| (code.name().to_owned(), example(*code, text))).collect();
    let seconds =
        json!({"required": true, "description": "Seconds.", "schema": {"type": "integer", "minimum": 1}});
    let mut headers = json!({"x-request-id": request_id()});
    let more = match status {
        401 => Some(("www-authenticate", json!({"required": true, "schema": {"type": "string"}}))),
        429 | 503 => Some(("retry-after", seconds)),
        _ => None,
    };
    if let (Some((name, header)), Some(headers)) = (more, headers.as_object_mut()) {
        headers.insert(name.to_owned(), header);
    }
    let schema = schemas.output::<Envelope<'_>>();
    json!({
        "description": names.join(", "),
        "headers": headers,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    })
}

/// As the gateway writes it.
fn example(code: Code, text: &'static str) -> Value {
    let fault = Fault::new(code, text);
    let fault = match text.split_once(": ") {
        Some((field, _)) if code == Code::InvalidRequest => fault.at(field),
        _ => fault,
    };
    json!({"value": fault.envelope("01990000-0000-7000-8000-000000000000")})
}
