use super::*;
use uuid::Uuid;

fn key(id: u128, secret: &str) -> Key {
    Key {
        id: KeyId(Uuid::from_u128(id)),
        tenant: TenantId(Uuid::from_u128(1)),
        digest: KeyDigest::of(secret, None),
        previous: None,
        disabled: false,
        expires_at: None,
        allowed_models: None,
        allowed_tools: None,
        max_in_flight: None,
        limits: Limits::default(),
        used: LastUse::default(),
    }
}

fn model(id: u128, name: &str, aliases: &[&str]) -> Model {
    Model {
        id: ModelId(Uuid::from_u128(id)),
        name: name.into(),
        upstream_model: "up".into(),
        api_base: None,
        api_key: None,
        price: Prices::default(),
        context_window: None,
        max_output_tokens: None,
        admission_weight: CostFactor::ONE,
        max_in_flight: None,
        enabled: true,
        aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
        fallbacks: Vec::new(),
        request_timeout_secs: None,
        upstream_headers: Vec::new(),
        cache_ttl: None,
        upstream_mark: crate::response_cache::MarkOf::default().mark(),
        created_unix: 0,
    }
}

#[test]
fn a_key_is_found_by_its_secret_until_it_is_replaced() {
    let mut registry = Registry::default();
    registry.put_key(key(1, "old"));
    let before = registry.clone();
    registry.put_key(key(1, "new"));
    let find = |registry: &Registry, secret| registry.key_of(&KeyDigest::of(secret, None), 0).is_some();
    assert!(!find(&registry, "old") && find(&registry, "new"));
    assert!(find(&before, "old") && !find(&before, "new"), "a snapshot does not change under its reader");
    registry.remove_key(KeyId(Uuid::from_u128(1)));
    assert!(!find(&registry, "new"));
}

#[test]
fn what_has_passed_to_another_stays_there_when_its_former_owner_goes() {
    let mut registry = Registry::default();
    registry.put_key(key(1, "shared"));
    registry.put_key(key(2, "shared"));
    registry.remove_key(KeyId(Uuid::from_u128(1)));
    let found = registry.key_of(&KeyDigest::of("shared", None), 0).map(|key| key.id);
    assert_eq!(found, Some(KeyId(Uuid::from_u128(2))));
    let mut rotated = key(3, "third");
    rotated.previous = Some(Box::new((KeyDigest::of("shared", None), 1_000)));
    registry.put_key(rotated);
    registry.put_key(key(2, "other"));
    assert!(registry.key_of(&KeyDigest::of("shared", None), 999).is_some());

    let named = |registry: &Registry, name| registry.model_named(name).map(|model| model.id.0.as_u128());
    registry.put_model(model(1, "m", &["x"]));
    registry.put_model(model(2, "n", &["x"]));
    registry.put_model(model(1, "m", &[]));
    assert_eq!(named(&registry, "x"), Some(2));
    registry.put_model(model(3, "m", &[]));
    registry.remove_model(ModelId(Uuid::from_u128(1)));
    assert_eq!(named(&registry, "m"), Some(3));
}

#[test]
fn a_rotated_secret_works_until_the_overlap_ends() {
    let mut registry = Registry::default();
    let mut rotated = key(1, "new");
    rotated.previous = Some(Box::new((KeyDigest::of("old", None), 1_000)));
    registry.put_key(rotated);
    let find = |secret, now| registry.key_of(&KeyDigest::of(secret, None), now).is_some();
    assert!(find("old", 999));
    assert!(!find("old", 1_000));
    assert!(find("new", 1_000));
}

#[test]
fn digests_match_the_published_test_vectors() {
    // FIPS 180-2 appendix B.1, and RFC 4231 test case 2.
    assert_eq!(
        KeyDigest::of("abc", None).to_hex(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let pepper = Pepper::new("Jefe".into());
    let digest = KeyDigest::of("what do ya want for nothing?", Some(&pepper));
    assert_eq!(digest.to_hex(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_eq!(KeyDigest::from_hex(&digest.to_hex()), Some(digest));
    assert_eq!(KeyDigest::from_hex("5bd"), None);
    assert_eq!(KeyDigest::from_hex(&"zz".repeat(32)), None);
}

#[test]
fn a_brownout_policy_is_known_as_long_as_a_tenant_has_it() {
    let policy = |wait_ms| Policy::new(wait_ms, 256, crate::brownout::Step::ALL);
    let tenant = |id: u128, brownout| Tenant {
        id: TenantId(Uuid::from_u128(id)),
        name: "t".into(),
        weight: Share::DEFAULT,
        group: GroupId(Uuid::from_u128(1)),
        status: TenantStatus::Active,
        max_in_flight: None,
        max_queued: None,
        allowed_models: None,
        allowed_tools: None,
        brownout,
        limits: Limits::default(),
    };
    let mut registry = Registry::default();
    let known = |registry: &Registry| registry.policies().copied().collect::<BTreeSet<Policy>>();
    for (id, brownout, wanted) in [
        (1, policy(1), &[policy(1)][..]),
        (1, policy(1), &[policy(1)]),
        (2, policy(1), &[policy(1)]),
        (1, policy(2), &[policy(1), policy(2)]),
        (2, None, &[policy(2)]),
        (3, policy(2), &[policy(2)]),
    ] {
        registry.put_tenant(tenant(id, brownout));
        assert_eq!(known(&registry), wanted.iter().copied().flatten().collect());
    }
    registry.remove_tenant(TenantId(Uuid::from_u128(1)));
    assert_eq!(known(&registry), policy(2).into_iter().collect());
    registry.remove_tenant(TenantId(Uuid::from_u128(3)));
    assert_eq!(known(&registry), BTreeSet::new());
}

#[test]
fn a_key_takes_what_the_benchmark_of_many_keys_calls_its_record() {
    assert!(size_of::<Key>() <= 208, "{} bytes: tell scripts/bench-keys.sh", size_of::<Key>());
}
