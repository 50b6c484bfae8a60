//! Secrets that are shown once to the one who asked for them.

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use serde::Serialize;
use std::fmt::{self, Write};

/// Random bytes of a secret: 48 hexadecimal digits.
const SECRET_BYTES: usize = 24;
/// Characters of the secret that are kept to recognise a key by.
const PREFIX: usize = 11;
/// A secret on its way to the one who asked for it.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct Shown(String);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

impl Shown {
    /// A new secret behind `prefix`.
    pub(in crate::admin) fn new(prefix: &str) -> Self {
        let mut bytes = [0_u8; SECRET_BYTES];
        OsRng.fill_bytes(&mut bytes);
        Self(bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The secret.
    pub(in crate::admin) fn text(&self) -> &str {
        &self.0
    }

    /// What the secret begins with, by which it is recognised.
    pub(super) fn prefix(&self) -> String {
        self.0.chars().take(PREFIX).collect()
    }
}
