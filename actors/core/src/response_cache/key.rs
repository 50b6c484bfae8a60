//! The key of a request: two requests with the same key would get the same answer.
//!
//! Is: SHA-256 over every part that can change an answer, each behind its length, so that no two lists of parts
//! read the same. The tenant stands beside the digest, too: what belongs to one is not found by another even if
//! digests could be made to collide.

use crate::ids::{ModelId, TenantId};
use sha2::{Digest, Sha256};
use std::fmt;

/// Changes with what the digest is made of.
const VERSION: &[u8] = b"obleth response cache 1";

/// A hash of bytes or of parts of them.
#[derive(Clone, Debug)]
pub struct Parts(Sha256);

impl Parts {
    /// No parts yet.
    pub fn new(version: &[u8]) -> Self {
        let mut parts = Self(Sha256::new());
        parts.push(version);
        parts
    }

    /// Adds a part.
    pub fn push(&mut self, part: &[u8]) {
        self.0.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(part);
    }

    /// Adds the number of parts that follow.
    pub fn count(&mut self, count: usize) {
        self.0.update(u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
    }

    /// The digest of all.
    pub fn digest(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Which upstream a model has, as one value that changes with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark([u8; 32]);

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is made of secrets, too.
        f.write_str("Mark(..)")
    }
}

/// What makes an upstream another one. It holds secrets: it is never printed.
#[derive(Clone, Copy, Default)]
pub struct MarkOf<'a> {
    pub base: Option<&'a str>,
    pub upstream_model: &'a str,
    pub api_key: Option<&'a str>,
    /// Names and values, in the order in which they are set.
    pub headers: &'a [(&'a str, &'a str)],
}

impl fmt::Debug for MarkOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MarkOf(..)")
    }
}

impl MarkOf<'_> {
    /// The mark.
    pub fn mark(&self) -> Mark {
        let mut parts = Parts::new(b"obleth upstream 1");
        for part in [self.base, Some(self.upstream_model), self.api_key] {
            parts.count(usize::from(part.is_some()));
            parts.push(part.unwrap_or_default().as_bytes());
        }
        parts.count(self.headers.len());
        for (name, value) in self.headers {
            parts.push(name.as_bytes());
            parts.push(value.as_bytes());
        }
        Mark(parts.digest())
    }
}

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    pub tenant: TenantId,
    digest: [u8; 32],
}

/// What a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    pub tenant: TenantId,
    /// `None` is a namespace of its own.
    pub namespace: Option<&'a str>,
    /// The path upstream.
    pub route: &'a str,
    pub query: &'a str,
    /// The model as it was resolved, under whichever of its names.
    pub model: ModelId,
    pub upstream: Mark,
    /// Streamed and JSON answers are kept apart.
    pub stream: bool,
    /// Headers that go upstream and may change the answer, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The canonical body.
    pub body: &'a [u8],
}

impl Material<'_> {
    /// The key.
    pub fn key(&self) -> CacheKey {
        let mut parts = Parts::new(VERSION);
        parts.push(self.tenant.0.as_bytes());
        parts.count(usize::from(self.namespace.is_some()));
        parts.push(self.namespace.unwrap_or_default().as_bytes());
        parts.push(self.route.as_bytes());
        parts.push(self.query.as_bytes());
        parts.push(self.model.0.as_bytes());
        parts.push(&self.upstream.0);
        parts.count(usize::from(self.stream));
        parts.count(self.headers.len());
        for (name, value) in self.headers {
            parts.push(name.as_bytes());
            parts.push(value);
        }
        parts.push(self.body);
        CacheKey { tenant: self.tenant, digest: parts.digest() }
    }
}
