//! A JSON object as its text: members in their order, values unread.
//!
//! Readers of JSON differ in what they make of a repeated name (the first or the last counts) and of `Name` for
//! `name` (some take it). Where rights are decided no two readers may differ, so both are refused.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Members of an object that is read here; `arguments` are not.
const MOST: usize = 256;

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object. `None`: it is none, repeats a name, or has too many members.
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The value of a member that is not `null`.
    pub fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| value.get() != "null")
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// Whether a member's name could be taken for one of `names`, but is not it.
    pub fn mimics(&self, names: &[&str]) -> bool {
        let folded = |own: &str, known: &str| {
            let fold = own.chars().map(|c| match c {
                '\u{17f}' => 's',
                '\u{212a}' => 'k',
                c => c.to_ascii_lowercase(),
            });
            fold.eq(known.chars())
        };
        self.0.iter().any(|(own, _)| names.iter().any(|known| own != known && folded(own, known)))
    }

    /// Its text with some members changed, and those appended that it does not have.
    pub fn with(&self, changes: &[(&str, &str)]) -> String {
        let size: usize = self.0.iter().map(|(name, value)| name.len() + value.get().len() + 4).sum();
        let mut out = String::with_capacity(size + 64);
        out.push('{');
        for (name, value) in &self.0 {
            let changed = changes.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
            push(&mut out, name, changed.unwrap_or_else(|| value.get()));
        }
        for (name, value) in changes.iter().filter(|(name, _)| self.get(name).is_none()) {
            push(&mut out, name, value);
        }
        out.push('}');
        out
    }
}

fn push(out: &mut String, name: &str, value: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(&quoted(name));
    out.push(':');
    out.push_str(value);
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    // A string always has a text.
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// The string that a value is.
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let text: Name<'_> = serde_json::from_str(value.get()).ok()?;
    Some(text.0)
}

/// A string that is borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    if members.len() >= MOST || members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("repeats a name, or has too many members"));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
