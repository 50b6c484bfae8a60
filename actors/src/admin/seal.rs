//! Secrets at rest: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce and the place of the secret as
//! associated data, so that a sealed value moved to another row does not open. A sealed value names its key by an id,
//! so that a wrong key is told from a damaged value, and a rotation knows what it has done.

use aes_gcm::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obleth_core::registry::KeyDigest;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// Marks a value sealed by this scheme.
const SEALED: &str = "aes256gcm:";
/// Marks a value that was stored while no key was configured.
const PLAIN: &str = "plain:";
/// Digits of the id of a key.
const ID: usize = 8;
/// Bytes of a nonce.
const NONCE: usize = 12;

/// Seals and opens secrets; without a key it stores them as they are (SQLite only, with a warning).
#[derive(Clone, Default)]
pub struct Sealer(Option<Box<SealingKey>>);

#[derive(Clone)]
struct SealingKey {
    cipher: Aes256Gcm,
    id: String,
}

/// The id of a key: a few digits of a digest of it, which tell nothing of it.
fn id_of(key: &[u8; 32]) -> String {
    let text = format!("obleth encryption key {}", STANDARD.encode(key));
    KeyDigest::of(&text, None).to_hex().chars().take(ID).collect()
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Sealer(key)" } else { "Sealer(no key)" })
    }
}

/// Why a secret cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed, but no key is configured.
    #[error("is encrypted, and OBLETH_ENCRYPTION_KEY is not set")]
    NoKey,
    /// Sealed with another key.
    #[error("was encrypted with another key than this OBLETH_ENCRYPTION_KEY")]
    OtherKey,
    /// The key is another one, or the value was altered or moved.
    #[error("cannot be opened with this OBLETH_ENCRYPTION_KEY")]
    WrongKey,
    /// Sealing failed.
    #[error("cannot be encrypted")]
    Failed,
}

impl Sealer {
    /// A sealer with `key`.
    pub fn new(key: Option<&[u8; 32]>) -> Self {
        Self(key.map(|key| Box::new(SealingKey { cipher: Aes256Gcm::new(key.into()), id: id_of(key) })))
    }

    /// The id of its key.
    pub fn key_id(&self) -> Option<&str> {
        self.0.as_deref().map(|key| key.id.as_str())
    }

    /// Whether `stored` names this sealer's key.
    pub fn is_own(&self, stored: &str) -> bool {
        let id = stored.strip_prefix(SEALED).and_then(|text| text.split_once(':')).map(|(id, _)| id);
        id.is_some() && id == self.key_id()
    }

    /// Whether `stored` was kept in the open.
    pub fn is_plain(stored: &str) -> bool {
        stored.starts_with(PLAIN)
    }

    /// `secret` as it is stored at `place`.
    pub fn seal(&self, place: &str, secret: &SecretString) -> Result<String, SealError> {
        let Some(SealingKey { cipher, id }) = self.0.as_deref() else {
            return Ok(format!("{PLAIN}{}", secret.expose_secret()));
        };
        let nonce = Aes256Gcm::generate_nonce(&mut OsRng);
        let payload = Payload { msg: secret.expose_secret().as_bytes(), aad: place.as_bytes() };
        let sealed = cipher.encrypt(&nonce, payload).map_err(|_| SealError::Failed)?;
        Ok(format!("{SEALED}{id}:{}", STANDARD.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// What is stored at `place`, sealed if it was kept in the open while there was no key.
    pub fn renew(&self, place: &str, stored: &str) -> Result<String, SealError> {
        match stored.strip_prefix(PLAIN) {
            Some(plain) => self.seal(place, &plain.into()),
            None => Ok(stored.to_owned()),
        }
    }

    /// The secret stored at `place`.
    pub fn open(&self, place: &str, stored: &str) -> Result<SecretString, SealError> {
        if let Some(plain) = stored.strip_prefix(PLAIN) {
            return Ok(plain.into());
        }
        let key = self.0.as_deref().ok_or(SealError::NoKey)?;
        let text = stored.strip_prefix(SEALED).ok_or(SealError::WrongKey)?;
        let text = match text.split_once(':') {
            Some((id, _)) if id != key.id => return Err(SealError::OtherKey),
            Some((_, text)) => text,
            // Sealed before keys had ids.
            None => text,
        };
        let bytes = STANDARD.decode(text).map_err(|_| SealError::WrongKey)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE).ok_or(SealError::WrongKey)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let opened =
            key.cipher.decrypt(Nonce::from_slice(nonce), payload).map_err(|_| SealError::WrongKey)?;
        String::from_utf8(opened).map(Into::into).map_err(|_| SealError::WrongKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_with_its_key_and_in_its_place() {
        let sealer = Sealer::new(Some(&[7; 32]));
        let stored = sealer.seal("models/1", &"upstream-secret".into()).unwrap();
        assert!(!stored.contains("upstream-secret"));
        assert_ne!(
            stored,
            sealer.seal("models/1", &"upstream-secret".into()).unwrap(),
            "a nonce is used once"
        );
        let open = |sealer: &Sealer, place| sealer.open(place, &stored).map(|s| s.expose_secret().to_owned());
        assert_eq!(open(&sealer, "models/1").as_deref(), Ok("upstream-secret"));
        assert_eq!(open(&sealer, "models/2"), Err(SealError::WrongKey));
        assert_eq!(open(&Sealer::new(Some(&[8; 32])), "models/1"), Err(SealError::OtherKey));
        assert_eq!(open(&Sealer::default(), "models/1"), Err(SealError::NoKey));
        assert!(sealer.open("models/1", "aes256gcm:AAAA").is_err());
        assert!(sealer.open("models/1", "garbage").is_err());
    }

    #[test]
    fn a_value_without_the_id_of_its_key_opens_as_before() {
        let sealer = Sealer::new(Some(&[7; 32]));
        let stored = sealer.seal("p", &"s".into()).unwrap();
        let id = sealer.key_id().unwrap();
        let older = stored.replace(&format!("{SEALED}{id}:"), SEALED);
        assert_ne!(older, stored);
        assert_eq!(sealer.open("p", &older).unwrap().expose_secret(), "s");
        assert_eq!(Sealer::new(Some(&[8; 32])).open("p", &older).map(|_| ()), Err(SealError::WrongKey));
        assert!(sealer.is_own(&stored) && !sealer.is_own(&older));
    }

    #[test]
    fn without_a_key_a_secret_is_kept_and_still_opens_once_there_is_one() {
        let stored = Sealer::default().seal("p", &"s".into()).unwrap();
        let opened = Sealer::new(Some(&[1; 32])).open("p", &stored).unwrap();
        assert_eq!(opened.expose_secret(), "s");
        let sealer = Sealer::new(Some(&[1; 32]));
        let renewed = sealer.renew("p", &stored).unwrap();
        assert!(renewed.starts_with(SEALED), "{renewed}");
        assert_eq!(sealer.renew("p", &renewed), Ok(renewed));
    }
}
