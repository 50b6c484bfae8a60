//! Schemas of what is read and of what is written. A type may look different in the two: a price is read as a number or a
//! string, and written as a string.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where the definitions of what is read stand until they are sorted in.
const INPUTS: &str = "#/components/inputs/";
const SCHEMAS: &str = "#/components/schemas/";

/// Definitions met so far.
#[derive(Debug)]
pub(super) struct Schemas {
    inputs: SchemaGenerator,
    outputs: SchemaGenerator,
}

fn generator(place: &str, settings: SchemaSettings) -> SchemaGenerator {
    let place = place.trim_start_matches('#').trim_end_matches('/').to_owned();
    settings
        .with(|settings| {
            settings.definitions_path = place.into();
            settings.meta_schema = None;
        })
        .into_generator()
}

impl Schemas {
    pub(super) fn new() -> Self {
        Self {
            inputs: generator(INPUTS, SchemaSettings::draft2020_12().for_deserialize()),
            outputs: generator(SCHEMAS, SchemaSettings::draft2020_12().for_serialize()),
        }
    }

    /// Makes schemas of what is read.
    pub(super) const fn inputs(&mut self) -> &mut SchemaGenerator {
        &mut self.inputs
    }

    /// The schema of what is written.
    pub(super) fn output<T: JsonSchema>(&mut self) -> Value {
        self.outputs.subschema_for::<T>().to_value()
    }

    /// Some fields of a `T`, and its version.
    pub(super) fn patch<T: JsonSchema>(&mut self) -> Value {
        let mut schema = T::json_schema(&mut self.inputs).to_value();
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("required");
            schema.remove("description");
        }
        let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
        fields.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut).for_each(|field| {
            field.remove("default");
        });
        versioned(schema)
    }

    /// A `T` without the field that names it, and its version.
    pub(super) fn replacement<T: JsonSchema>(&mut self, name: &str) -> Value {
        let mut schema = T::json_schema(&mut self.inputs).to_value();
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|field| field != name);
        }
        versioned(schema)
    }

    /// Puts the definitions into the document. What is read and looks different from what is written under the same
    /// name gets a name of its own.
    pub(super) fn finish(mut self, document: &mut Value) {
        let mut schemas = self.outputs.take_definitions(true);
        schemas.values_mut().for_each(drop_write_only);
        let inputs = self.inputs.take_definitions(true);
        let renamed = differing(&inputs, &schemas);
        let name = |name: &str| if renamed.contains(name) { format!("{name}Input") } else { name.to_owned() };
        for (old, mut schema) in inputs {
            retarget(&mut schema, &name);
            schemas.insert(name(&old), schema);
        }
        retarget(document, &name);
        if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
            components.insert("schemas".to_owned(), Value::Object(schemas));
        }
    }
}

/// Takes `version`, too.
fn versioned(mut schema: Value) -> Value {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let about = "The version that is changed; 409 if it is not the current one.";
        fields.insert(
            "version".to_owned(),
            json!({"type": "integer", "format": "int64", "description": about}),
        );
    }
    schema
}

/// Secrets are not in answers.
fn drop_write_only(schema: &mut Value) {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.retain(|_, field| field.get("writeOnly") != Some(&Value::Bool(true)));
    }
}

/// The schema of a value that cannot be null, as none in a query can.
pub(super) fn nullable(mut schema: Value) -> Value {
    if let Some(types) = schema.get_mut("type").filter(|types| types.is_array())
        && let Some(only) = types.as_array().and_then(|all| all.iter().find(|one| *one != "null")).cloned()
    {
        *types = only;
    }
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.retain(|word| !word.is_null());
    }
    let null = |one: &Value| one.get("type").is_some_and(|kind| kind == "null");
    let Some(choices) = schema.get("anyOf").and_then(Value::as_array) else {
        return schema;
    };
    let mut others = choices.iter().filter(|one| !null(one)).cloned();
    match (others.next(), others.next()) {
        (Some(only), None) if choices.len() == 2 => match (only, schema) {
            (Value::Object(only), Value::Object(mut schema)) => {
                schema.remove("anyOf");
                schema.extend(only);
                Value::Object(schema)
            }
            (only, _) => only,
        },
        _ => schema,
    }
}

/// Names under which something else is read than written, and those that refer to them.
fn differing(inputs: &Map<String, Value>, outputs: &Map<String, Value>) -> BTreeSet<String> {
    let plain = |schema: &Value| schema.to_string().replace(INPUTS, SCHEMAS);
    let differs = |(name, schema): &(&String, &Value)| {
        outputs.get(*name).map(Value::to_string).is_some_and(|other| other != plain(schema))
    };
    let mut found: BTreeSet<String> = inputs.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    loop {
        let refers = |schema: &Value| {
            let text = schema.to_string();
            found.iter().any(|name| text.contains(&format!("\"{INPUTS}{name}\"")))
        };
        let more: Vec<_> = inputs
            .iter()
            .filter(|(name, schema)| outputs.contains_key(*name) && !found.contains(*name) && refers(schema))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Lets references to what is read point to where it stands.
fn retarget(value: &mut Value, name: &impl Fn(&str) -> String) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get_mut("$ref")
                && let Some(old) = target.strip_prefix(INPUTS)
            {
                *target = format!("{SCHEMAS}{}", name(old));
            }
            object.values_mut().for_each(|value| retarget(value, name));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| retarget(value, name)),
        _ => {}
    }
}
