//! Who calls: from the key in the headers to tenant and key. No await, no database.

use crate::app::Gateway;
use crate::error::{Code, Fault};
use crate::lifecycle::Phase;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use obleth_actors::admin::minute_of;
use obleth_core::registry::{Key, KeyDigest, Registry, Tenant, TenantStatus};
use std::sync::Arc;

/// What every key begins with.
const PREFIX: &str = "sk_";
/// No key is longer.
const LONGEST: usize = 256;

/// A caller that may send.
#[derive(Clone, Debug)]
pub struct Caller {
    pub tenant: Arc<Tenant>,
    pub key: Arc<Key>,
}

/// The caller whose key stands in `headers`.
pub fn authenticate(gateway: &Gateway, headers: &HeaderMap, now_unix_micros: i64) -> Result<Caller, Fault> {
    if gateway.lifecycle.phase() == Phase::Loading {
        return Err(Fault::new(Code::StoreUnavailable, "the registry is not loaded yet"));
    }
    let secret = secret_of(headers).ok_or_else(|| {
        Fault::new(Code::InvalidApiKey, "an API key is required: Authorization: Bearer sk_..., or x-api-key")
    })?;
    let registry = gateway.registry.load();
    let digest = KeyDigest::of(secret, gateway.settings.pepper.as_ref());
    let Some(key) = registry.key_of(&digest, now_unix_micros) else {
        return Err(unknown(gateway));
    };
    let Some(tenant) = registry.tenant(key.tenant) else {
        return Err(unknown(gateway));
    };
    check(key, tenant, now_unix_micros)?;
    key.used.note(minute_of(now_unix_micros));
    Ok(Caller { tenant: Arc::clone(tenant), key: Arc::clone(key) })
}

impl Caller {
    /// The same caller as the registry knows it now: what was revoked meanwhile holds.
    pub fn again(&self, registry: &Registry, now_unix_micros: i64) -> Result<Self, Fault> {
        // It was valid when the request came: what took its right away is a 403, and no wrong key.
        let no_tenant = || Fault::new(Code::TenantSuspended, "this tenant was deleted meanwhile");
        let no_key = || Fault::new(Code::KeyDisabled, "this API key was deleted meanwhile");
        registry.tenant(self.tenant.id).ok_or_else(no_tenant)?;
        let key = registry.key(self.key.id).ok_or_else(no_key)?;
        let tenant = registry.tenant(key.tenant).ok_or_else(no_tenant)?;
        check(key, tenant, now_unix_micros)?;
        Ok(Self { tenant: Arc::clone(tenant), key: Arc::clone(key) })
    }
}

/// Whether key and tenant may send.
fn check(key: &Key, tenant: &Tenant, now_unix_micros: i64) -> Result<(), Fault> {
    if key.disabled {
        return Err(Fault::new(Code::KeyDisabled, "this API key is disabled"));
    }
    if key.expires_at.is_some_and(|at| now_unix_micros >= at) {
        return Err(Fault::new(Code::KeyExpired, "this API key has expired"));
    }
    if tenant.status == TenantStatus::Suspended {
        return Err(Fault::new(Code::TenantSuspended, "this tenant is suspended"));
    }
    Ok(())
}

/// A key that the snapshot does not know may have been made elsewhere while the database is away.
fn unknown(gateway: &Gateway) -> Fault {
    if gateway.handles.accounting.health().is_away() {
        return Fault::new(Code::StoreUnavailable, "this API key cannot be checked now");
    }
    Fault::new(Code::InvalidApiKey, "this API key is not valid")
}

/// `Authorization` if it carries one of our keys, else `x-api-key`.
fn secret_of(headers: &HeaderMap) -> Option<&str> {
    bearer(headers)
        .filter(|secret| secret.starts_with(PREFIX))
        .or_else(|| headers.get("x-api-key")?.to_str().ok().map(str::trim))
        .or_else(|| bearer(headers))
        .filter(|secret| !secret.is_empty() && secret.len() <= LONGEST)
}

/// The credentials of the scheme `Bearer`, whose name has no case (RFC 9110 §11.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn authorization_wins_when_it_is_one_of_our_keys() {
        for (list, secret) in [
            (&[("authorization", "Bearer sk_a")][..], Some("sk_a")),
            (&[("authorization", "bearer  sk_a")], Some("sk_a")),
            (&[("x-api-key", "sk_b")], Some("sk_b")),
            (&[("authorization", "Bearer sk_a"), ("x-api-key", "sk_b")], Some("sk_a")),
            (&[("authorization", "Bearer other"), ("x-api-key", "sk_b")], Some("sk_b")),
            (&[("authorization", "Basic eDp5"), ("x-api-key", "sk_b")], Some("sk_b")),
            (&[("authorization", "Bearer other")], Some("other")),
            (&[("authorization", "Basic eDp5")], None),
            (&[("authorization", "sk_a")], None),
            (&[("x-api-key", "")], None),
            (&[], None),
        ] {
            assert_eq!(secret_of(&headers(list)), secret, "{list:?}");
        }
    }
}
