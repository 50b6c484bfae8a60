//! Reads variables and collects what is wrong with them.

use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What is no variable of the configuration.
const FOREIGN: [&str; 4] =
    ["OBLETH_TEST_", "OBLETH_CACHE_DIR", "OBLETH_SECRET_", "OBLETH_NEW_ENCRYPTION_KEY"];

/// An environment, and the faults found in it so far.
#[derive(Debug)]
pub struct Env {
    values: BTreeMap<String, String>,
    read: BTreeSet<&'static str>,
    faults: Vec<String>,
}

impl Env {
    /// The environment of the process.
    pub fn process() -> Self {
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("OBLETH_"))?;
            Some((name, value.into_string()))
        };
        let mut faults = Vec::new();
        let mut values = BTreeMap::new();
        for (name, value) in std::env::vars_os().filter_map(ours) {
            match value {
                Ok(value) => {
                    values.insert(name, value);
                }
                Err(_) => faults.push(format!("{name} is not valid UTF-8")),
            }
        }
        Self { values, read: BTreeSet::new(), faults }
    }

    /// An environment of these variables.
    pub fn of<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { values: values.collect(), read: BTreeSet::new(), faults: Vec::new() }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.read.insert(name);
        self.values.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// A secret.
    pub fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.text(name).map(SecretString::from)
    }

    /// A value read by its own parser, which says what is wrong.
    pub fn parsed<T, E: Display>(
        &mut self,
        name: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name).unwrap_or_else(|| default.to_owned());
        parse(&text).map_err(|why| self.fault(format!("{name} {why}"))).ok()
    }

    /// A whole number in `range`, `default` when unset.
    pub fn number<N>(&mut self, name: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Display + Copy,
    {
        self.optional_number(name, range).unwrap_or(default)
    }

    /// A whole number in `range`, if set.
    pub fn optional_number<N>(&mut self, name: &'static str, range: RangeInclusive<N>) -> Option<N>
    where
        N: FromStr + PartialOrd + Display + Copy,
    {
        let text = self.text(name)?;
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(format!("{name} must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        match self.text(name).as_deref().map(str::trim) {
            None => default,
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(_) => {
                self.fault(format!("{name} must be true or false"));
                default
            }
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, text: String) {
        self.faults.push(text);
    }

    /// Variables that are set and that nobody read. Test and tool variables of this repository are not meant, nor
    /// secrets that a document refers to.
    pub fn unknown(&self) -> Vec<String> {
        let foreign = |name: &&String| FOREIGN.iter().all(|prefix| !name.starts_with(prefix));
        self.values
            .keys()
            .filter(|name| !self.read.contains(name.as_str()))
            .filter(foreign)
            .cloned()
            .collect()
    }

    /// All faults.
    pub fn into_faults(self) -> Vec<String> {
        self.faults
    }
}
