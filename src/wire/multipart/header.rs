//! The headers of a form and of its parts.

use super::FormFault;
use std::borrow::Cow;

/// The boundary of a multipart/form-data content type (RFC 2046 §5.1.1).
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    each_parameter(rest, |name, value| {
        // A second boundary makes the first unusable.
        if name.eq_ignore_ascii_case("boundary") {
            found = Some(if found.is_none() { value.into_owned() } else { String::new() });
        }
    })?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
    found.filter(|b: &String| {
        (1..=70).contains(&b.len()) && b.bytes().all(allowed) && !b.ends_with(' ') && !b.starts_with(' ')
    })
}

/// Whether a content type is that of a form.
pub fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("multipart/form-data")
}

/// The `;name=value` parameters of a header; `None` when they cannot be read.
fn each_parameter<'a>(text: &'a str, mut take: impl FnMut(&'a str, Cow<'a, str>)) -> Option<()> {
    let mut rest = text.trim_matches([' ', '\t', ';']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = match after.trim_start_matches([' ', '\t']).strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                let value = value.trim_matches([' ', '\t']);
                if value.is_empty() || !value.bytes().all(|b| is_token(b) || b"/:=?,()@".contains(&b)) {
                    return None;
                }
                (Cow::Borrowed(value), after)
            }
        };
        take(name, value);
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_matches([' ', '\t', ';']);
        }
    }
    Some(())
}

pub fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    let (plain, rest) = text.split_at(end);
    if let Some(after) = rest.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), after));
    }
    let mut value = String::from(plain);
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some((Cow::Owned(value), chars.as_str())),
            '\\' => value.push(chars.next()?),
            other => value.push(other),
        }
    }
}

pub fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| encoding.trim().eq_ignore_ascii_case(known))
}

/// `form-data; name="…"`, and whether there is a file name.
pub fn disposition(value: &str) -> Result<(Cow<'_, str>, bool), FormFault> {
    let (kind, rest) = value.split_once(';').ok_or(FormFault::Name)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(FormFault::Name);
    }
    let (mut found, mut twice, mut is_file) = (None, false, false);
    each_parameter(rest, |name, value| {
        if name.eq_ignore_ascii_case("name") {
            // An escape is undone by some readers and kept by others.
            twice |= matches!(value, Cow::Owned(_)) || found.replace(value).is_some();
        } else if name.eq_ignore_ascii_case("name*") {
            twice = true;
        } else if name.eq_ignore_ascii_case("filename") || name.eq_ignore_ascii_case("filename*") {
            is_file = true;
        }
    })
    .ok_or(FormFault::Headers)?;
    match found {
        Some(name) if !twice => Ok((name, is_file)),
        _ => Err(FormFault::Name),
    }
}
