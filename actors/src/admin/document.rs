//! JSON documents of the management API: read with the field named on error, and patched field by field.

use super::fields::FieldError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Top-level fields, each once, with their text untouched, so that a decimal keeps its digits.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
struct Fields(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            fields.insert(name, value);
        }
        Ok(Fields(fields))
    }
}

/// A struct from an object alone: serde would take an array for its fields in their order, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Objects of a list, for `deserialize_with`.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(object)| object).collect())
}

/// An object or null, for `deserialize_with`.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Object<T>>::deserialize(deserializer)?;
    Ok(object.map(|Object(object)| object))
}

/// Reads a document; an error names the field.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, FieldError> {
    value(text).map(|Object(document)| document)
}

/// The same of any value.
pub fn value<T: DeserializeOwned>(text: &[u8]) -> Result<T, FieldError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        named(path, error.inner())
    })?;
    deserializer.end().map_err(|error| named(String::new(), &error))?;
    Ok(value)
}

/// Where serde says no more than a message, the field is in it: "unknown field `x`", "missing field `x`".
fn named(path: String, error: &serde_json::Error) -> FieldError {
    let text = error.to_string();
    let message = untold(text.split(" at line ").next().unwrap_or(&text));
    let mentioned = message.contains(" field `").then(|| message.split('`').nth(1)).flatten();
    let field = match mentioned {
        Some(name) if path.is_empty() || path == "." || path == name => name.to_owned(),
        Some(name) if !path.ends_with(name) => format!("{path}.{name}"),
        _ if path == "." => String::new(),
        _ => path,
    };
    FieldError { field, message }
}

/// The message without the value that was sent, which may be a secret in the wrong place: `invalid type: string "x",
/// expected i64`.
fn untold(message: &str) -> String {
    let repeats = ["invalid type: ", "invalid value: ", "unknown variant "]
        .iter()
        .any(|begin| message.starts_with(begin));
    match (message.split_once(['"', '`']), message.rsplit_once(", expected ")) {
        (Some((given, _)), Some((_, expected))) if repeats => {
            format!("{}, expected {expected}", given.trim_end())
        }
        _ => message.to_owned(),
    }
}

/// A patch: the fields to change, and the version it was made for.
#[derive(Debug)]
pub struct Patch {
    fields: Fields,
    pub version: Option<i64>,
}

impl<'de> Deserialize<'de> for Patch {
    /// A whole object, whose `version` is a field like others.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Fields::deserialize(deserializer).map(|fields| Self { fields, version: None })
    }
}

impl Patch {
    /// The text of a field.
    pub fn raw(&self, field: &str) -> Option<&RawValue> {
        self.fields.0.get(field).map(|raw| &**raw)
    }

    /// Sets a field.
    pub fn set(&mut self, field: &str, value: Box<RawValue>) {
        self.fields.0.insert(field.to_owned(), value);
    }

    /// Takes a field out.
    pub fn remove(&mut self, field: &str) -> Option<Box<RawValue>> {
        self.fields.0.remove(field)
    }

    /// Reads a patch document.
    pub fn read(text: &[u8]) -> Result<Self, FieldError> {
        let mut fields: Fields = read(text)?;
        let version = match fields.0.remove("version") {
            None => None,
            Some(raw) => Some(
                serde_json::from_str(raw.get())
                    .map_err(|_| FieldError::new("version", "must be a whole number"))?,
            ),
        };
        Ok(Self { fields, version })
    }

    /// Sets `field` to `text` unless the document has it.
    pub fn default_field(&mut self, field: &str, text: &str) -> Result<(), FieldError> {
        if !self.fields.0.contains_key(field) {
            let raw = serde_json::value::to_raw_value(text).map_err(|error| FieldError::new(field, error))?;
            self.fields.0.insert(field.to_owned(), raw);
        }
        Ok(())
    }

    /// The document without its version, as text.
    pub fn text(&self) -> Result<Vec<u8>, FieldError> {
        serde_json::to_vec(&self.fields).map_err(|error| FieldError::new("", error))
    }

    /// The document on its own, not laid over another.
    pub fn whole<T: DeserializeOwned>(&self) -> Result<T, FieldError> {
        read(&self.text()?)
    }

    /// `current` with the patch laid over it, read as a whole so that the same rules hold as on create.
    pub fn over<T: Serialize + DeserializeOwned>(self, current: &T) -> Result<T, FieldError> {
        let unreadable = |error: serde_json::Error| FieldError::new("", error);
        let text = serde_json::to_string(current).map_err(unreadable)?;
        let mut fields: Fields = serde_json::from_str(&text).map_err(unreadable)?;
        fields.0.extend(self.fields.0);
        read(&serde_json::to_vec(&fields).map_err(unreadable)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fields::PriceField;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        #[serde(default)]
        price: Option<PriceField>,
        #[serde(default, deserialize_with = "objects")]
        parts: Vec<Part>,
    }

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Part {
        size: u32,
    }

    #[test]
    fn an_error_names_its_field() {
        for (text, field) in [
            (r#"{"name":1}"#, "name"),
            (r#"{"name":"a","colour":1}"#, "colour"),
            (r#"{}"#, "name"),
            (r#"{"name":"a","price":"x"}"#, "price"),
            (r#"{"name":"a","price":true}"#, "price"),
            (r#"{"name":"a","price":0.00000000000001}"#, "price"),
            (r#"{"name":"a","parts":[{"size":1},{"size":-1}]}"#, "parts[1].size"),
            (r#"{"name":"a","parts":[{"size":1,"x":2}]}"#, "parts[0].x"),
            (r#"{"name":"a"}{"#, ""),
            ("[]", ""),
            (r#"["a",null,[]]"#, ""),
            (r#"{"name":"a","parts":[{"size":1},[2]]}"#, "parts[1]"),
        ] {
            assert_eq!(
                read::<Thing>(text.as_bytes()).map_err(|error| error.field),
                Err(field.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_does_not_repeat_what_was_sent() {
        for (text, message) in [
            (r#"{"name":12345}"#, "invalid type: integer, expected a string"),
            (r#"{"name":"a","parts":[{"size":"hush\", expected x"}]}"#, "invalid type: string, expected u32"),
            (r#"{"name":"a","parts":[{"size":-7}]}"#, "invalid value: integer, expected u32"),
            (r#"{"name":[]}"#, "invalid type: sequence, expected a string"),
        ] {
            assert_eq!(read::<Thing>(text.as_bytes()).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn a_patch_changes_its_fields_alone_and_clears_with_null() {
        let current: Thing = read(br#"{"name":"a","price":5e-7,"parts":[{"size":1}]}"#).unwrap();
        let renamed = Patch::read(br#"{"name":"b","version":3}"#).unwrap();
        assert_eq!(renamed.version, Some(3));
        let renamed = renamed.over(&current).unwrap();
        assert_eq!((renamed.name.as_str(), renamed.price, renamed.parts.len()), ("b", current.price, 1));
        let cleared = Patch::read(br#"{"price":null}"#).unwrap().over(&renamed).unwrap();
        assert_eq!(cleared.price, None);
        let unknown = Patch::read(br#"{"nmae":"b"}"#).unwrap().over(&current);
        assert_eq!(unknown.unwrap_err().field, "nmae");
        assert_eq!(Patch::read(br#"{"version":"x"}"#).unwrap_err().field, "version");
        assert_eq!(Patch::read(br#"{"price":1,"price":2}"#).unwrap_err().field, "price");
    }
}
