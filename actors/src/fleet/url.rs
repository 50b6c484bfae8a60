//! Where Redis is.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use std::fmt;
use std::str::FromStr;

/// The address of a Redis server. `Debug` and `Display` leave everything out that may be secret.
#[derive(Clone)]
pub struct RedisUrl(ConnectionInfo);

/// Why an address is not one. The address itself is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    #[error("must begin with redis:// or rediss://")]
    Scheme,
    #[error("names no server")]
    NoServer,
    #[error("must not have a query or a fragment")]
    Extra,
    #[error("is no address of the form redis://[user:password@]host[:port][/database]")]
    Form,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let text = text.trim();
        if !text.starts_with("redis://") && !text.starts_with("rediss://") {
            return Err(RedisUrlError::Scheme);
        }
        let url = url::Url::parse(text).map_err(|_| RedisUrlError::Form)?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(RedisUrlError::NoServer);
        }
        // Options of the driver: one of them switches the check of certificates off.
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RedisUrlError::Extra);
        }
        text.into_connection_info().map(Self).map_err(|_| RedisUrlError::Form)
    }
}

impl RedisUrl {
    pub(super) fn client(&self) -> redis::RedisResult<redis::Client> {
        redis::Client::open(self.0.clone())
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.0.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_encrypted() { "rediss://…" } else { "redis://…" })
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_never_shown() {
        for good in ["redis://h", "redis://h:6380/3", "rediss://u:hunter2@h", "redis://:hunter2@[::1]:1"] {
            let url: RedisUrl = good.parse().unwrap();
            assert!(!format!("{url} {url:?}").contains("hunter2"), "{good}");
        }
        for (bad, why) in [
            ("h:6379", RedisUrlError::Scheme),
            ("unix:///tmp/redis", RedisUrlError::Scheme),
            ("redis://", RedisUrlError::NoServer),
            ("redis://h/words", RedisUrlError::Form),
            ("redis://h:words", RedisUrlError::Form),
            ("redis://h/?protocol=resp3", RedisUrlError::Extra),
            ("rediss://h/#insecure", RedisUrlError::Extra),
        ] {
            assert_eq!(bad.parse::<RedisUrl>().map(|_| ()), Err(why), "{bad}");
        }
    }
}
