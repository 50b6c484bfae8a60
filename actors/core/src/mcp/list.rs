//! Messages of servers that are changed on their way: lists of tools for a client that may not use all of them, and
//! results of servers with sessions for clients without.
//!
//! Fails closed: what looks like a message but cannot be read for certain is not passed on.

use super::object::{Object, quoted};
use serde_json::value::RawValue;

/// A message that cannot be read for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// A message and its result, if it is a response with an object for a result.
fn read(message: &str) -> Result<Option<(Object<'_>, Object<'_>)>, Unclear> {
    let value: &RawValue = serde_json::from_str(message).map_err(|_| Unclear)?;
    if !value.get().starts_with('{') {
        return Err(Unclear);
    }
    let message = Object::read(value.get()).ok_or(Unclear)?;
    let Some(result) = message.get("result").map(RawValue::get).filter(|text| text.starts_with('{')) else {
        return Ok(None);
    };
    let result = Object::read(result).ok_or(Unclear)?;
    Ok(Some((message, result)))
}

/// The message of a server with sessions as one without says it: a result that does not say so is complete.
/// `None`: it passes as it is.
pub fn completed(message: &str) -> Result<Option<String>, Unclear> {
    let Some((message, result)) = read(message)? else { return Ok(None) };
    if result.get("resultType").is_some() {
        return Ok(None);
    }
    let result = result.with(&[("resultType", &quoted("complete"))]);
    Ok(Some(message.with(&[("result", &result)])))
}

/// The message of a server without the tools that `allows` refuses. `None`: it lists no tools and passes as it is.
///
/// A list that is cut for one caller is nobody else's: where it says who may keep it, it says `private`.
pub fn filtered(message: &str, allows: impl Fn(&str) -> bool) -> Result<Option<String>, Unclear> {
    let Some((message, result)) = read(message)? else { return Ok(None) };
    let Some(tools) = result.get("tools").map(RawValue::get).filter(|text| text.starts_with('[')) else {
        return Ok(None);
    };
    let tools: Vec<&RawValue> = serde_json::from_str(tools).map_err(|_| Unclear)?;
    let allowed = |tool: &&RawValue| {
        let name = Object::read(tool.get()).and_then(|tool| Some(tool.text("name")?.into_owned()));
        name.is_some_and(|name| allows(&name))
    };
    let kept: Vec<&str> = tools.into_iter().filter(allowed).map(RawValue::get).collect();
    let kept = format!("[{}]", kept.join(","));
    let private = quoted("private");
    let mut changes = vec![("tools", kept.as_str())];
    if result.get("cacheScope").is_some() {
        changes.push(("cacheScope", &private));
    }
    let result = result.with(&changes);
    Ok(Some(message.with(&[("result", &result)])))
}
