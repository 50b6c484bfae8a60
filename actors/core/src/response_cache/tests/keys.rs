//! Keys: each part counts, and no list of parts reads like another.

use crate::ids::{ModelId, TenantId};
use crate::response_cache::{CacheKey, Mark, MarkOf, Material};
use proptest::prelude::*;
use uuid::Uuid;

fn mark(base: &str, key: Option<&str>, headers: &[(&str, &str)]) -> Mark {
    MarkOf { base: Some(base), upstream_model: "up", api_key: key, headers }.mark()
}

fn material() -> Material<'static> {
    Material {
        tenant: TenantId(Uuid::from_u128(1)),
        namespace: None,
        route: "/v1/chat/completions",
        query: "",
        model: ModelId(Uuid::from_u128(2)),
        upstream: mark("http://up", None, &[]),
        stream: false,
        headers: &[],
        body: b"{}",
    }
}

#[test]
fn every_part_counts() {
    let base = material();
    let keys = [
        base.key(),
        Material { tenant: TenantId(Uuid::from_u128(3)), ..base }.key(),
        Material { namespace: Some("a"), ..base }.key(),
        Material { namespace: Some("b"), ..base }.key(),
        Material { route: "/v1/completions", ..base }.key(),
        Material { query: "x=1", ..base }.key(),
        Material { model: ModelId(Uuid::from_u128(4)), ..base }.key(),
        Material { upstream: mark("http://other", None, &[]), ..base }.key(),
        Material { stream: true, ..base }.key(),
        Material { headers: &[("accept", b"a")], ..base }.key(),
        Material { headers: &[("accept", b"a"), ("accept", b"b")], ..base }.key(),
        Material { headers: &[("accepta", b"")], ..base }.key(),
        Material { body: b"{ }", ..base }.key(),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys[at + 1..].iter().all(|other| other != one), "{at}");
    }
    assert_eq!(base.key(), material().key());
}

#[test]
fn the_mark_changes_with_everything_the_upstream_is_asked_with() {
    let marks = [
        mark("http://up", None, &[]),
        mark("http://up2", None, &[]),
        mark("http://up", Some(""), &[]),
        mark("http://up", Some("k"), &[]),
        mark("http://up", None, &[("a", "b")]),
        mark("http://up", None, &[("a", "c")]),
        mark("http://up", None, &[("a", "b"), ("a", "b")]),
        MarkOf { base: None, upstream_model: "up", api_key: None, headers: &[] }.mark(),
        MarkOf { base: Some("http://up"), upstream_model: "up2", api_key: None, headers: &[] }.mark(),
    ];
    for (at, one) in marks.iter().enumerate() {
        assert!(marks[at + 1..].iter().all(|other| other != one), "{at}");
    }
    assert_eq!(format!("{:?}", marks[3]), "Mark(..)");
}

/// Parts of a request, short, so that many come out the same.
type Asked = (u8, Option<String>, String, bool, Vec<(String, Vec<u8>)>, Vec<u8>);

fn asked() -> impl Strategy<Value = Asked> {
    let text = "[ab]{0,2}";
    let headers = prop::collection::vec((text, prop::collection::vec(0_u8..2, 0..2)), 0..3);
    (0_u8..3, prop::option::of(text), text, any::<bool>(), headers, prop::collection::vec(0_u8..2, 0..3))
}

fn key((tenant, namespace, query, stream, headers, body): &Asked) -> CacheKey {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    Material {
        tenant: TenantId(Uuid::from_u128((*tenant).into())),
        namespace: namespace.as_deref(),
        query,
        stream: *stream,
        headers: &headers,
        body,
        ..material()
    }
    .key()
}

proptest! {
    #[test]
    fn keys_are_equal_exactly_when_all_parts_are(one in asked(), other in asked()) {
        prop_assert_eq!(key(&one) == key(&other), one == other);
    }

    #[test]
    fn no_tenant_has_a_key_of_another(mut one in asked(), other in 0_u8..3) {
        let before = key(&one);
        let tenant = std::mem::replace(&mut one.0, other);
        prop_assert_eq!(key(&one) == before, tenant == other);
        prop_assert_eq!(key(&one).tenant == before.tenant, tenant == other);
    }
}
