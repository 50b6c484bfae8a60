//! What is kept of an API key's secret: its SHA-256, or its HMAC-SHA-256 under the operator's pepper.
//! A secret is 192 bits of randomness, so a fast hash is enough (OWASP's slow hashes are for passwords).

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;

/// The digest of a key's secret. Finding a key is a lookup by digest, so its time tells nothing of the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of `secret`.
    pub fn of(secret: &str, pepper: Option<&Pepper>) -> Self {
        match pepper {
            None => Self(Sha256::digest(secret.as_bytes()).into()),
            Some(pepper) => Self(pepper.keyed(secret)),
        }
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let mut bytes = [0_u8; 32];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }

    /// As 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        use fmt::Write;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(..)")
    }
}

/// `OBLETH_API_KEY_PEPPER`: with it a stolen database cannot be searched for a guessed secret.
#[derive(Clone, Debug)]
pub struct Pepper(SecretString);

impl Pepper {
    /// A pepper of any length.
    pub fn new(text: SecretString) -> Self {
        Self(text)
    }

    fn keyed(&self, secret: &str) -> [u8; 32] {
        // HMAC takes a key of any length (RFC 2104 §3), so the error cannot occur; hashing both is the
        // documented meaning for a key that were refused.
        match Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes()) {
            Ok(mut mac) => {
                mac.update(secret.as_bytes());
                mac.finalize().into_bytes().into()
            }
            Err(_) => {
                Sha256::new().chain_update(self.0.expose_secret()).chain_update(secret).finalize().into()
            }
        }
    }
}
