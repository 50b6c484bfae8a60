//! The database and the secrets that protect what is in it.

use super::Env;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obleth_actors::admin::seal::Sealer;
use obleth_core::mcp::SessionSeal;
use obleth_core::registry::Pepper;
use obleth_schema::DatabaseUrl;
use secrecy::{ExposeSecret, SecretString};

/// Bytes of an encryption key.
const KEY_BYTES: usize = 32;

/// Where data is kept, and how secrets in it are protected.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `OBLETH_DATABASE_URL`.
    pub database: Option<DatabaseUrl>,
    /// `OBLETH_ENCRYPTION_KEY`: base64 of 32 bytes. Required on PostgreSQL.
    pub sealer: Sealer,
    /// Seals the session ids of MCP servers; `None` without an encryption key.
    pub sessions: Option<SessionSeal>,
    /// Whether an encryption key is set.
    pub encrypted: bool,
    /// `OBLETH_API_KEY_PEPPER`: with it keys are kept as HMAC-SHA-256.
    pub pepper: Option<Pepper>,
}

impl DataConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let database = Self::database(env);
        let (is_set, bytes) = key_of(env, "OBLETH_ENCRYPTION_KEY");
        if !is_set && database.as_ref().is_some_and(DatabaseUrl::is_shared) {
            env.fault("OBLETH_ENCRYPTION_KEY is required with a PostgreSQL database".to_owned());
        }
        Self {
            database,
            sealer: Sealer::new(bytes.as_ref()),
            sessions: bytes.as_ref().map(SessionSeal::new),
            encrypted: bytes.is_some(),
            pepper: env.secret("OBLETH_API_KEY_PEPPER").map(Pepper::new),
        }
    }

    pub(super) fn database(env: &mut Env) -> Option<DatabaseUrl> {
        env.parsed("OBLETH_DATABASE_URL", "sqlite://obleth.db", |text| text.parse::<DatabaseUrl>())
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let set = |is_set: bool| if is_set { "(set)" } else { "(unset)" }.to_owned();
        let database = self.database.as_ref().map_or_else(String::new, ToString::to_string);
        vec![
            ("OBLETH_DATABASE_URL", database),
            ("OBLETH_ENCRYPTION_KEY", set(self.encrypted)),
            ("OBLETH_API_KEY_PEPPER", set(self.pepper.is_some())),
        ]
    }
}

/// From which key to which, and where.
#[derive(Clone, Debug)]
pub struct Rotating {
    pub database: DatabaseUrl,
    pub from: Sealer,
    pub to: Sealer,
}

impl Rotating {
    pub(super) fn read(env: &mut Env) -> Option<Self> {
        let database = DataConfig::database(env);
        let (_, from) = key_of(env, "OBLETH_ENCRYPTION_KEY");
        let (is_set, to) = key_of(env, "OBLETH_NEW_ENCRYPTION_KEY");
        if !is_set {
            env.fault("OBLETH_NEW_ENCRYPTION_KEY is required".to_owned());
        }
        if to.is_some() && from == to {
            env.fault("OBLETH_NEW_ENCRYPTION_KEY is the same as OBLETH_ENCRYPTION_KEY".to_owned());
        }
        Some(Self { database: database?, from: Sealer::new(from.as_ref()), to: Sealer::new(Some(&to?)) })
    }
}

/// Whether a key is set, and the key if it is one.
fn key_of(env: &mut Env, name: &'static str) -> (bool, Option<[u8; KEY_BYTES]>) {
    let key = env.secret(name);
    let bytes = key.as_ref().and_then(key_bytes);
    if key.is_some() && bytes.is_none() {
        env.fault(format!("{name} must be base64 of exactly 32 bytes"));
    }
    (key.is_some(), bytes)
}

fn key_bytes(key: &SecretString) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(key.expose_secret().trim()).ok()?.try_into().ok()
}
