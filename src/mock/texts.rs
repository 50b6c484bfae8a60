//! Measures the text in a request body without keeping it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Bytes that one token id in a prompt counts for, so that it makes one token.
const BYTES_PER_TOKEN: u64 = 4;

/// Members of a message whose strings are not text of the prompt.
const NOT_TEXT: [&str; 8] =
    ["role", "type", "id", "tool_call_id", "image_url", "input_audio", "source", "cache_control"];

/// What any JSON value holds as a prompt: a string, a list of strings, of token ids, of messages or of content parts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Texts {
    /// Bytes of text; a token id counts as four.
    pub(super) bytes: u64,
    /// How many inputs it is: the length of a list, but 1 for a list of token ids.
    pub(super) items: u32,
    /// A number, so part of a list of token ids.
    is_id: bool,
}

impl Texts {
    fn id() -> Self {
        Self { bytes: BYTES_PER_TOKEN, items: 1, is_id: true }
    }

    fn text(text: &str) -> Self {
        Self { bytes: u64::try_from(text.len()).unwrap_or(u64::MAX), items: 1, is_id: false }
    }
}

/// Tokens for so many bytes of prompt: one per four bytes begun, at least one.
pub(super) fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN).max(1)
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyText)
    }
}

struct AnyText;

impl<'de> Visitor<'de> for AnyText {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::text(text))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Texts, E> {
        Ok(Texts::id())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Texts, E> {
        Ok(Texts::id())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Texts, E> {
        Ok(Texts::id())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
        let mut sum = Texts::default();
        let mut ids = false;
        while let Some(item) = list.next_element::<Texts>()? {
            sum.bytes = sum.bytes.saturating_add(item.bytes);
            sum.items = sum.items.saturating_add(1);
            ids = item.is_id;
        }
        if ids {
            sum.items = 1;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut sum = Texts { bytes: 0, items: 1, is_id: false };
        while let Some(key) = map.next_key::<Member>()? {
            if key.is_text {
                sum.bytes = sum.bytes.saturating_add(map.next_value::<Texts>()?.bytes);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(sum)
    }
}

/// A member's name, looked at and dropped.
struct Member {
    is_text: bool,
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Member, E> {
                Ok(Member { is_text: !NOT_TEXT.contains(&name) })
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// A value that must be a list, as `messages` is.
#[derive(Debug, Clone, Copy)]
pub(super) struct List(pub(super) Texts);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyList;
        impl<'de> Visitor<'de> for OnlyList {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<List, A::Error> {
                AnyText.visit_seq(list).map(List)
            }
        }
        deserializer.deserialize_seq(OnlyList)
    }
}
