//! The database and the secrets that protect what is in it.

use super::Env;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obleth_actors::admin::seal::Sealer;
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
    /// Whether an encryption key is set.
    pub encrypted: bool,
    /// `OBLETH_API_KEY_PEPPER`: with it keys are kept as HMAC-SHA-256.
    pub pepper: Option<Pepper>,
}

impl DataConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let database = Self::database(env);
        let key = env.secret("OBLETH_ENCRYPTION_KEY");
        let bytes = key.as_ref().and_then(key_bytes);
        if key.is_some() && bytes.is_none() {
            env.fault("OBLETH_ENCRYPTION_KEY must be base64 of exactly 32 bytes".to_owned());
        }
        if key.is_none() && database.as_ref().is_some_and(DatabaseUrl::is_shared) {
            env.fault("OBLETH_ENCRYPTION_KEY is required with a PostgreSQL database".to_owned());
        }
        Self {
            database,
            sealer: Sealer::new(bytes.as_ref()),
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

fn key_bytes(key: &SecretString) -> Option<[u8; KEY_BYTES]> {
    STANDARD.decode(key.expose_secret().trim()).ok()?.try_into().ok()
}
