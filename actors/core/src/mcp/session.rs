//! Session ids as clients see them: the server's own id, sealed together with whose session it is.
//!
//! AES-256-GCM with server, its address and key as associated data, so an id opens for the key that made it and where
//! it was made, on any replica that has the same secret; to everybody else it is no session. Nothing is kept
//! here, so there is nothing to leak or to outgrow.

use crate::ids::{KeyId, McpServerId};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;

const NONCE: usize = 12;
/// Longest id of a server.
const ID_MAX: usize = 2048;
/// Keeps this use of a secret apart from any other.
const USE: &[u8] = b"obleth mcp session v1\0";

/// Seals and opens. Cloning is cheap enough, and never prints the secret.
#[derive(Clone)]
pub struct SessionSeal(Box<Aes256Gcm>);

impl fmt::Debug for SessionSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSeal(..)")
    }
}

impl SessionSeal {
    /// From a secret of 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        let key: [u8; 32] = Sha256::new().chain_update(USE).chain_update(secret).finalize().into();
        Self(Box::new(Aes256Gcm::new(&key.into())))
    }

    /// What the client gets for the server's `id`. `nonce` is used once. `None`: it is no id (visible ASCII).
    pub fn seal(&self, nonce: [u8; NONCE], whose: &Whose<'_>, id: &str) -> Option<String> {
        if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let whose = whose.bytes();
        let payload = Payload { msg: id.as_bytes(), aad: &whose };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The server's id. `None`: this is no session of that key at that server.
    pub fn open(&self, whose: &Whose<'_>, sealed: &str) -> Option<String> {
        if sealed.len() > 2 * ID_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let whose = whose.bytes();
        let opened = self.0.decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: &whose }).ok()?;
        String::from_utf8(opened).ok()
    }
}

/// Whose a session is.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    pub server: McpServerId,
    /// Where the server is: one elsewhere knows nothing of the session, and is not to learn its id.
    pub address: &'a str,
    pub key: KeyId,
}

impl Whose<'_> {
    fn bytes(&self) -> Vec<u8> {
        [self.server.0.as_bytes().as_slice(), self.key.0.as_bytes(), self.address.as_bytes()].concat()
    }
}
