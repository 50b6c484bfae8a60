//! Parameters of a tool that a stateless client mirrors into headers (`x-mcp-header`), made for a client that is none.

use super::headers::encoded;
use super::object::{Object, text};
use serde_json::value::RawValue;

/// What a schema says beside a parameter that is mirrored.
pub(super) const MARK: &str = "x-mcp-header";
/// Objects within objects that are looked into.
const DEPTH: usize = 16;

/// The headers `Mcp-Param-{name}` of a call with these arguments, by this schema: names behind the prefix, and values.
pub(super) fn mirrored(schema: &RawValue, arguments: &RawValue) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(schema, arguments, DEPTH, &mut found);
    found
}

fn collect(schema: &RawValue, value: &RawValue, depth: usize, found: &mut Vec<(String, String)>) {
    let (Some(schema), Some(value)) = (Object::read(schema.get()), Object::read(value.get())) else { return };
    let Some(properties) = schema.get("properties").and_then(|value| Object::read(value.get())) else {
        return;
    };
    for (name, schema) in properties.members() {
        let Some(value) = value.given(name) else { continue };
        let mark = Object::read(schema.get()).and_then(|schema| Some(schema.text(MARK)?.into_owned()));
        if let (Some(mark), Some(value)) = (mark, scalar(value)) {
            found.push((mark, encoded(&value).into_owned()));
        } else if depth > 0 {
            collect(schema, value, depth - 1, found);
        }
    }
}

/// A string as it is, a number or a truth value as it stands.
fn scalar(value: &RawValue) -> Option<String> {
    let raw = value.get();
    if raw.starts_with('"') {
        return text(value).map(std::borrow::Cow::into_owned);
    }
    (!raw.starts_with(['{', '['])).then(|| raw.to_owned())
}
