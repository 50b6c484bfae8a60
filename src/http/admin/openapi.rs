//! `GET /openapi.json`: the management API in OpenAPI 3.1, made from the routing table and the types that the handlers
//! read and write.
//!
//! Is: the description. Is not: a second place where a field, a status or a role is written down.

use super::ok;
use super::place::{Entry, Place};
use super::table::TABLE;
use actix_web::{HttpRequest, HttpResponse};
use obleth_actors::shapes::{Id, Name, RequestId};
use schemars::{JsonSchema, SchemaGenerator};
use schemas::Schemas;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

mod errors;
mod examples;
mod operation;
mod schemas;

pub use operation::Operation;

/// Made once: it says the same as long as the process lives.
static DOCUMENT: LazyLock<Value> = LazyLock::new(describe);

/// `GET /openapi.json`.
pub async fn document(request: HttpRequest) -> HttpResponse {
    ok(&request, &*DOCUMENT)
}

/// Some JSON object.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) struct AnyObject(Map<String, Value>);

/// The whole description.
pub fn describe() -> Value {
    let mut schemas = Schemas::new();
    let paths: Map<_, _> = TABLE.iter().map(|place| (name_of(place), path(place, &mut schemas))).collect();
    let responses = errors::all(&mut schemas);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "obleth management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": responses,
        },
    });
    schemas.finish(&mut document);
    document
}

const ABOUT: &str = "Bodies are JSON, up to 1 MiB (a document to import: 64 MiB). Unknown fields and parameters are \
    refused with a 400 that names them. A field that is absent in a PATCH stays as it is; with `version` the call is \
    refused with a 409 if the object is not of that version. A change is in force before its answer leaves.";

/// As OpenAPI writes it.
fn name_of(place: &Place) -> String {
    place.path.replace(":.+}", "}")
}

fn path(place: &Place, schemas: &mut Schemas) -> Value {
    let name = name_of(place);
    let parameters: Vec<Value> = name
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": segment(name, schemas.inputs())}))
        .collect();
    let mut path = Map::new();
    for entry in place.entries {
        let mut operation = operation(entry, &name, !parameters.is_empty(), schemas);
        operation.extend([("parameters".to_owned(), merged(&parameters, operation.get("parameters")))]);
        path.insert(entry.method.to_ascii_lowercase(), Value::Object(operation));
    }
    Value::Object(path)
}

fn operation(entry: &Entry, path: &str, named: bool, schemas: &mut Schemas) -> Map<String, Value> {
    let tag = path.split('/').nth(1).unwrap_or_default();
    let id = entry.name.replace("::", "_");
    let begun = Operation::new(schemas, entry.role, id.clone(), named);
    let mut operation = (entry.describe)(begun).finish();
    let role = entry.role.as_str();
    operation.extend([
        ("operationId".to_owned(), id.into()),
        ("summary".to_owned(), entry.about.into()),
        ("description".to_owned(), format!("Takes a token of the role `{role}`, or one above it.").into()),
        ("tags".to_owned(), json!([tag])),
        ("x-role".to_owned(), role.into()),
    ]);
    operation
}

fn merged(path: &[Value], query: Option<&Value>) -> Value {
    let query = query.and_then(Value::as_array).into_iter().flatten();
    path.iter().chain(query).cloned().collect()
}

/// A segment of a path.
fn segment(name: &str, generator: &mut SchemaGenerator) -> Value {
    let schema = match name {
        "id" => generator.subschema_for::<Id>(),
        "request_id" => generator.subschema_for::<RequestId>(),
        _ => generator.subschema_for::<Name>(),
    };
    schema.to_value()
}
