//! Several replicas: what they share beside the database.

use super::Env;
use obleth_actors::fleet::RedisUrl;

/// How replicas know of each other.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// `OBLETH_REDIS_URL`; `None`: this is the only replica.
    pub redis: Option<RedisUrl>,
    /// `OBLETH_FAIL_OPEN`: without Redis, limits a minute go on by this replica's part of them instead of refusing.
    pub fail_open: bool,
}

impl FleetConfig {
    pub(super) fn read(env: &mut Env) -> Self {
        let redis = match env.text("OBLETH_REDIS_URL") {
            Some(_) => env.parsed("OBLETH_REDIS_URL", "", str::parse),
            None => None,
        };
        Self { redis, fail_open: env.flag("OBLETH_FAIL_OPEN", true) }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let redis = self.redis.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string);
        vec![("OBLETH_REDIS_URL", redis), ("OBLETH_FAIL_OPEN", self.fail_open.to_string())]
    }
}
