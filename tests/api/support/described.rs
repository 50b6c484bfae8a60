//! Every answer of the management API that any test gets is compared with what the OpenAPI document says of it.

use super::Answer;
use obleth::http::admin::{Place, TABLE, describe};
use serde_json::Value;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(describe);

/// Panics if the document does not describe an answer of this status, or describes another one.
pub fn check(method: &str, path: &str, answer: &Answer) {
    let Some(path) = path.strip_prefix("/api/v1") else { return };
    let Some(place) = TABLE.iter().find(|place| is_at(place, path)) else { return };
    let name = place.path.replace(":.+}", "}");
    let Some(operation) = DOCUMENT["paths"][name].get(method.to_lowercase()) else { return };
    if answer.status == 404 && answer.text().contains("there is no such route") {
        // The other listener, or a path that is written in another way.
        return;
    }
    let what = format!("{method} {path} answered {}", answer.status);
    let response = &operation["responses"][answer.status.to_string()];
    assert!(response.is_object(), "{what}, which is not described: {}", answer.text());
    let response = resolved(response);
    for (header, described) in response["headers"].as_object().unwrap() {
        assert!(described["required"] != true || answer.header(header).is_some(), "{what} without {header}");
    }
    let Some(content) = response.get("content") else {
        return assert!(answer.body.is_empty(), "{what} with a body");
    };
    let kind = answer.header("content-type").unwrap_or_default().split(';').next().unwrap();
    let described = content.get(kind).unwrap_or_else(|| panic!("{what} with {kind}"));
    if kind == "application/json"
        && let Err(fault) = fits(&described["schema"], &answer.json())
    {
        panic!("{what}, but not as described: {fault} in {}", answer.text());
    }
}

fn is_at(place: &Place, path: &str) -> bool {
    let Some((before, rest)) = place.path.split_once('{') else { return place.path == path };
    let (name, after) = rest.split_once('}').unwrap();
    let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some_and(|middle| !middle.is_empty() && (name.ends_with(":.+") || !middle.contains('/')))
}

fn resolved(schema: &Value) -> &Value {
    match schema["$ref"].as_str() {
        Some(target) => {
            DOCUMENT.pointer(target.trim_start_matches('#')).unwrap_or_else(|| panic!("{target}"))
        }
        None => schema,
    }
}

/// Whether a value is what a schema says, and has no field that it does not name.
pub fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    fits_at("", schema, value, true)
}

fn fits_at(at: &str, schema: &Value, value: &Value, whole: bool) -> Result<(), String> {
    let schema = resolved(schema);
    if let Some(kinds) = schema.get("type") {
        let one = std::slice::from_ref(kinds);
        let kinds = kinds.as_array().map_or(one, Vec::as_slice);
        if !kinds.iter().any(|kind| is(kind.as_str().unwrap(), value)) {
            return Err(format!("{at} is no {kinds:?}"));
        }
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return Err(format!("{at} is no word of {}", schema["enum"]));
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let whole = whole && schema.get("properties").is_none();
        if !choices.iter().any(|choice| fits_at(at, choice, value, whole).is_ok()) {
            return Err(format!("{at} is none of {choices:?}"));
        }
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        fits_at(&format!("{at}[{number}]"), schema.get("items").unwrap_or(&Value::Null), item, true)?;
    }
    match value.as_object() {
        Some(fields) => fields_fit(at, schema, fields, whole),
        None => Ok(()),
    }
}

fn fields_fit(
    at: &str,
    schema: &Value,
    fields: &serde_json::Map<String, Value>,
    whole: bool,
) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{at} has no {name}"));
        }
    }
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(field), _) => fits_at(&at, field, value, true)?,
            (None, Some(Value::Bool(true))) => {}
            (None, Some(any @ Value::Object(_))) => fits_at(&at, any, value, true)?,
            (None, _) if whole && schema.get("properties").is_some() => {
                return Err(format!("{at} is not described"));
            }
            (None, _) => {}
        }
    }
    Ok(())
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the document has a type {other}"),
    }
}
