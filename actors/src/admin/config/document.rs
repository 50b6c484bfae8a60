//! A configuration document, read and checked as far as that goes without the database.

use super::super::document::{Patch, read, value};
use super::super::fields::{FieldError, check_name};
use super::super::groups::GroupSpec;
use super::super::keys::KeySpec;
use super::super::mcp_servers::McpServerSpec;
use super::super::models::ModelSpec;
use super::super::tenants::TenantSpec;
use super::secrets::{Trust, resolve};
use super::shape::{Entry, KeyEntry, McpServerEntry, ModelEntry};
use chrono::{DateTime, Utc};
use obleth_core::net::Outbound;
use obleth_core::registry::KeyDigest;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// An object of a section: what it shall be, and the id it has if it is made.
#[derive(Debug)]
pub(super) struct Item<S> {
    pub id: Option<Uuid>,
    pub spec: S,
}

/// A key of a document: the tenant by its name, the secret by its digest.
#[derive(Debug)]
pub(in crate::admin) struct KeyItem {
    pub tenant: String,
    pub hash: KeyDigest,
    pub prefix: String,
    /// After a rotation: the digest that works until then.
    pub previous: Option<(KeyDigest, DateTime<Utc>)>,
    pub spec: KeySpec,
}

/// A document. A section that is absent is untouched.
#[derive(Debug)]
pub(super) struct Wanted {
    pub groups: Option<Vec<Item<GroupSpec>>>,
    pub models: Option<Vec<Item<ModelSpec>>>,
    pub tenants: Option<Vec<Item<TenantSpec>>>,
    pub keys: Option<Vec<Item<KeyItem>>>,
    pub mcp_servers: Option<Vec<Item<McpServerSpec>>>,
}

/// A document as it is written. A section that is absent is untouched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Document")]
pub struct Sections {
    #[serde(default)]
    #[schemars(with = "Option<Vec<Entry<GroupSpec>>>")]
    groups: Option<Vec<Patch>>,
    #[serde(default)]
    #[schemars(with = "Option<Vec<ModelEntry>>")]
    models: Option<Vec<Patch>>,
    #[serde(default)]
    #[schemars(with = "Option<Vec<Entry<TenantSpec>>>")]
    tenants: Option<Vec<Patch>>,
    #[serde(default)]
    #[schemars(with = "Option<Vec<Entry<KeyEntry>>>")]
    keys: Option<Vec<Patch>>,
    #[serde(default)]
    #[schemars(with = "Option<Vec<McpServerEntry>>")]
    mcp_servers: Option<Vec<Patch>>,
}

/// Whether `text` is a document that could be imported, as far as that can be said without the database.
pub fn check(text: &[u8], trust: Trust, outbound: &Outbound) -> Result<(), FieldError> {
    Wanted::read(text, trust, outbound).map(|_| ())
}

impl Wanted {
    /// Reads a document; an error names the place.
    pub(super) fn read(text: &[u8], trust: Trust, outbound: &Outbound) -> Result<Self, FieldError> {
        let sections: Sections = read(text)?;
        let mut aliases = HashSet::new();
        Ok(Self {
            groups: section(
                "groups",
                sections.groups,
                |mut item| {
                    let (id, spec) = (item.id()?, item.whole::<GroupSpec>()?);
                    check_name("name", &spec.name)?;
                    Ok((Item { id, spec }, None))
                },
                |item| item.spec.name.clone(),
            )?,
            models: section(
                "models",
                sections.models,
                |mut item| {
                    let id = item.id()?;
                    refer(&mut item, trust)?;
                    let spec = item.whole::<ModelSpec>()?;
                    spec.check(outbound)?;
                    let repeated = spec.aliases.iter().position(|alias| !aliases.insert(alias.clone()));
                    Ok((Item { id, spec }, repeated.map(|at| format!("aliases[{at}]"))))
                },
                |item| item.spec.model_name.clone(),
            )?,
            tenants: section(
                "tenants",
                sections.tenants,
                |mut item| {
                    let (id, spec) = (item.id()?, item.whole::<TenantSpec>()?);
                    spec.check()?;
                    Ok((Item { id, spec }, None))
                },
                |item| item.spec.name.clone(),
            )?,
            keys: section(
                "keys",
                sections.keys,
                |item| Ok((key(item)?, None)),
                |item| item.spec.hash.to_hex(),
            )?,
            mcp_servers: section(
                "mcp_servers",
                sections.mcp_servers,
                |mut item| {
                    let id = item.id()?;
                    refer_field(&mut item, "auth_header", trust)?;
                    let spec = item.whole::<McpServerSpec>()?;
                    spec.check(outbound)?;
                    Ok((Item { id, spec }, None))
                },
                |item| item.spec.name.clone(),
            )?,
        })
    }
}

/// One section: each object read, none twice.
fn section<S>(
    name: &str,
    items: Option<Vec<Patch>>,
    mut make: impl FnMut(Patch) -> Result<(Item<S>, Option<String>), FieldError>,
    mark: impl Fn(&Item<S>) -> String,
) -> Result<Option<Vec<Item<S>>>, FieldError> {
    let Some(items) = items else {
        return Ok(None);
    };
    let (mut marks, mut ids) = (HashSet::new(), HashSet::new());
    let mut made = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let place = |field: &str| match field {
            "" => format!("{name}[{at}]"),
            field => format!("{name}[{at}].{field}"),
        };
        let (item, repeated) =
            make(item).map_err(|error| FieldError::new(place(&error.field), error.message))?;
        let again = item.id.is_some_and(|id| !ids.insert(id)).then(|| "id".to_owned());
        let twice = (!marks.insert(mark(&item))).then(String::new);
        if let Some(field) = repeated.or(again).or(twice) {
            return Err(FieldError::new(place(&field), "is a repetition"));
        }
        made.push(item);
    }
    Ok(Some(made))
}

/// Puts a value in place of a reference to a secret.
fn refer_field(item: &mut Patch, field: &str, trust: Trust) -> Result<(), FieldError> {
    if let Some(raw) = item.raw(field)
        && let Some(value) = resolve(field, raw, trust)?
    {
        item.set(field, value);
    }
    Ok(())
}

/// Puts values in place of references to the secrets of a model.
fn refer(item: &mut Patch, trust: Trust) -> Result<(), FieldError> {
    refer_field(item, "api_key", trust)?;
    let Some(raw) = item.raw("upstream_headers") else {
        return Ok(());
    };
    let Ok(headers) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(raw.get()) else {
        // Not an object: the document of the model says so.
        return Ok(());
    };
    let mut values = BTreeMap::new();
    for (name, raw) in headers {
        let value = resolve(format_args!("upstream_headers.{name}"), &raw, trust)?;
        values.insert(name, value.unwrap_or(raw));
    }
    let values = serde_json::value::to_raw_value(&values);
    item.set("upstream_headers", values.map_err(|error| FieldError::new("upstream_headers", error))?);
    Ok(())
}

fn key(mut item: Patch) -> Result<Item<KeyItem>, FieldError> {
    let id = item.id()?;
    let needed = |field: &str| FieldError::new(field, format_args!("missing field `{field}`"));
    let tenant: String = item.take("tenant")?.ok_or_else(|| needed("tenant"))?;
    check_name("tenant", &tenant)?;
    let hash = item.digest("key_hash")?.ok_or_else(|| needed("key_hash"))?;
    let prefix: Option<String> = item.take("key_prefix")?;
    let prefix = prefix.unwrap_or_else(|| "sk_".to_owned());
    // A whole secret here would be stored in the open.
    if prefix.len() > 16 || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(FieldError::new("key_prefix", "must be at most 16 visible ASCII characters"));
    }
    let until: Option<DateTime<Utc>> = item.take("previous_until")?;
    let previous = match (item.digest("previous_key_hash")?, until) {
        (Some(hash), Some(until)) => Some((hash, until)),
        (None, None) => None,
        _ => {
            let text = "previous_key_hash and previous_until go together";
            return Err(FieldError::new("previous_until", text));
        }
    };
    let spec: KeySpec = item.whole()?;
    spec.check()?;
    Ok(Item { id, spec: KeyItem { tenant, hash, prefix, previous, spec } })
}

/// Fields that are not part of an object's own document.
impl Patch {
    fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, FieldError> {
        let Some(raw) = self.remove(field) else {
            return Ok(None);
        };
        value(raw.get().as_bytes()).map_err(|error| FieldError::new(field, error.message))
    }

    fn id(&mut self) -> Result<Option<Uuid>, FieldError> {
        let id: Option<String> = self.take("id")?;
        let parse = |id: String| id.parse().map_err(|_| FieldError::new("id", "must be a UUID"));
        id.map(parse).transpose()
    }

    fn digest(&mut self, field: &str) -> Result<Option<KeyDigest>, FieldError> {
        let text: Option<String> = self.take(field)?;
        let parse = |text: String| {
            KeyDigest::from_hex(&text).ok_or_else(|| FieldError::new(field, "must be 64 hexadecimal digits"))
        };
        text.map(parse).transpose()
    }
}
