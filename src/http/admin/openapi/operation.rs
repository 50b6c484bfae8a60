//! One operation as it is described: what it asks for, takes, gives and refuses.

use super::errors;
use super::examples;
use super::schemas::{Schemas, nullable};
use crate::error::Code;
use obleth_actors::admin::Role;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// An operation that is being described.
pub struct Operation<'a> {
    schemas: &'a mut Schemas,
    /// The `operationId`.
    name: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
    /// Statuses of errors.
    refusals: BTreeSet<u16>,
}

impl std::fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operation({})", self.name)
    }
}

impl<'a> Operation<'a> {
    /// What every route refuses, and what follows from its role and from a name in its path.
    pub(super) fn new(schemas: &'a mut Schemas, role: Role, name: String, named: bool) -> Self {
        let always = [
            Code::InvalidRequest,
            Code::Unauthorized,
            Code::TooManyFailures,
            Code::Internal,
            Code::StoreUnavailable,
        ];
        let forbidden = (role > Role::Viewer).then_some(Code::RoleForbidden);
        let missing = named.then_some(Code::NotFound);
        let codes = always.into_iter().chain(forbidden).chain(missing);
        let refusals = codes.map(Code::status).collect();
        Self { schemas, name, parameters: Vec::new(), body: None, responses: Map::new(), refusals }
    }

    /// Its query: the fields of `Q`.
    pub fn asks<Q: JsonSchema>(mut self) -> Self {
        let schema = Q::json_schema(self.schemas.inputs()).to_value();
        let required = |name: &str| {
            let required = schema.get("required").and_then(Value::as_array);
            required.is_some_and(|names| names.iter().any(|one| one == name))
        };
        let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        for (name, field) in fields {
            let mut field = nullable(field.clone());
            let mut parameter = json!({"name": name, "in": "query", "required": required(name)});
            if let (Some(about), Some(parameter)) = (
                field.as_object_mut().and_then(|field| field.remove("description")),
                parameter.as_object_mut(),
            ) {
                parameter.insert("description".to_owned(), about);
            }
            set(&mut parameter, "schema", field);
            self.parameters.push(parameter);
        }
        self
    }

    /// Its query lacks these.
    pub fn without(mut self, names: &[&str]) -> Self {
        let lacks = |parameter: &Value| {
            parameter.get("name").and_then(Value::as_str).is_some_and(|name| names.contains(&name))
        };
        self.parameters.retain(|parameter| !lacks(parameter));
        self
    }

    /// Its body: a `T`.
    pub fn takes<T: JsonSchema>(self) -> Self {
        let schema = self.schemas.inputs().subschema_for::<T>().to_value();
        self.body(schema, true)
    }

    /// Its body: a `T`, or nothing.
    pub fn may_take<T: JsonSchema>(self) -> Self {
        let schema = self.schemas.inputs().subschema_for::<T>().to_value();
        self.body(schema, false)
    }

    /// Its body: some fields of a `T`, and its version.
    pub fn patches<T: JsonSchema>(self) -> Self {
        let schema = self.schemas.patch::<T>();
        self.body(schema, true)
    }

    /// Its body: a `T`, whose `name` is in the path, and its version.
    pub fn replaces<T: JsonSchema>(self, name: &str) -> Self {
        let schema = self.schemas.replacement::<T>(name);
        self.body(schema, true)
    }

    fn body(mut self, schema: Value, required: bool) -> Self {
        let mut content = json!({"schema": schema});
        if let Some(example) = examples::of(&self.name, "request") {
            set(&mut content, "example", example);
        }
        self.body = Some(json!({"required": required, "content": {"application/json": content}}));
        self.refusals.insert(Code::BodyTooLarge.status());
        self
    }

    /// It answers a `T`.
    pub fn gives<T: JsonSchema>(self, status: u16) -> Self {
        let mut content = json!({"schema": self.schemas.output::<T>()});
        if let Some(example) = examples::of(&self.name, "response") {
            set(&mut content, "example", example);
        }
        self.answer(status, json!({"application/json": content}))
    }

    /// It answers a text of this kind.
    pub fn gives_text(self, media: &str, status: u16) -> Self {
        self.answer(status, json!({media: {"schema": {"type": "string"}}}))
    }

    /// It answers 204.
    pub fn gives_nothing(self) -> Self {
        self.answer(204, Value::Null)
    }

    fn answer(mut self, status: u16, content: Value) -> Self {
        let about = match status {
            201 => "Made.",
            204 => "Done.",
            _ => "The answer.",
        };
        let mut answer = json!({"description": about, "headers": {"x-request-id": errors::request_id()}});
        if !content.is_null() {
            set(&mut answer, "content", content);
        }
        self.responses.insert(status.to_string(), answer);
        self
    }

    /// It refuses with these, besides what all refuse with.
    pub fn refuses(mut self, codes: &[Code]) -> Self {
        self.refusals.extend(codes.iter().map(|code| code.status()));
        self
    }

    pub(super) fn finish(mut self) -> Map<String, Value> {
        for status in self.refusals {
            self.responses
                .insert(status.to_string(), json!({"$ref": format!("#/components/responses/{status}")}));
        }
        let mut operation = Map::new();
        operation.insert("parameters".to_owned(), Value::Array(self.parameters));
        operation.insert("responses".to_owned(), Value::Object(self.responses));
        operation.extend(self.body.map(|body| ("requestBody".to_owned(), body)));
        operation
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}
