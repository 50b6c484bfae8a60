//! Groups, tenants, keys and models.

use super::backend::on_both;
use super::rows;
use obleth_schema::capacity::CapacityRow;
use obleth_schema::groups::DEFAULT_GROUP_ID;
use obleth_schema::mcp_servers::McpServerRow;
use obleth_schema::{Store, StoreError, capacity, groups, keys, mcp_servers, models, tenants};
use std::time::Duration;

on_both!(
    the_default_group_exists,
    every_column_comes_back_as_it_was_written,
    none_is_written_over_a_value,
    an_update_with_a_stale_version_changes_nothing,
    of_many_updates_of_one_version_one_wins,
    a_name_can_be_taken_once,
    a_hash_can_be_taken_once,
    a_name_or_alias_belongs_to_one_model,
    a_model_may_repeat_its_own_names,
    aliases_that_are_no_list_are_refused,
    references_hold,
    a_tenant_takes_its_keys_along,
    lists_page_by_bytes_of_the_name,
    keys_page_by_id_and_by_tenant,
    a_caller_that_leaves_breaks_nothing,
    the_capacity_is_one_row_with_a_version,
    mcp_servers_are_kept_by_name,
);

async fn mcp_servers_are_kept_by_name(store: Store) {
    let (b, a) = (rows::mcp_server("b"), rows::mcp_server("a"));
    mcp_servers::insert(&store, &b).await.unwrap();
    mcp_servers::insert(&store, &a).await.unwrap();
    let again = mcp_servers::insert(&store, &rows::mcp_server("a")).await;
    assert!(matches!(again, Err(StoreError::Duplicate { field: "mcp_servers.name" })));
    assert_eq!(mcp_servers::all(&store).await.unwrap(), [a.clone(), b.clone()]);
    assert_eq!(mcp_servers::list(&store, Some("a"), 9).await.unwrap(), std::slice::from_ref(&b));
    let bare = McpServerRow {
        version: 2,
        name: "c".to_owned(),
        auth_header_sealed: None,
        timeout_secs: None,
        requests_per_minute: None,
        description: None,
        enabled: false,
        ..a.clone()
    };
    mcp_servers::update(&store, &bare, 1).await.unwrap();
    assert!(matches!(mcp_servers::update(&store, &a, 1).await, Err(StoreError::Stale)));
    assert_eq!(mcp_servers::by_name(&store, "a").await.unwrap(), None);
    assert_eq!(mcp_servers::by_name(&store, "c").await.unwrap(), Some(bare));
    assert!(mcp_servers::delete(&store, &a.id).await.unwrap());
    assert!(!mcp_servers::delete(&store, &a.id).await.unwrap());
}

async fn the_capacity_is_one_row_with_a_version(store: Store) {
    let first = capacity::load(&store).await.unwrap();
    assert_eq!((first.version, first.max_in_flight), (1, None));
    let set = CapacityRow { version: 2, max_in_flight: Some(12), updated_at: 7 };
    capacity::update(&store, &set, 1).await.unwrap();
    assert_eq!(capacity::load(&store).await.unwrap(), set);
    assert!(matches!(capacity::update(&store, &first, 1).await, Err(StoreError::Stale)));
    assert_eq!(capacity::load(&store).await.unwrap(), set);
    let cleared = CapacityRow { version: 3, max_in_flight: None, updated_at: 8 };
    capacity::update(&store, &cleared, 2).await.unwrap();
    assert_eq!(capacity::load(&store).await.unwrap(), cleared);
}

async fn the_default_group_exists(store: Store) {
    let group = groups::by_name(&store, "default").await.unwrap().unwrap();
    assert_eq!((group.id.as_str(), group.weight), (DEFAULT_GROUP_ID, 100));
}

async fn every_column_comes_back_as_it_was_written(store: Store) {
    let group = rows::group("g");
    let tenant = rows::tenant("t");
    let key = rows::key(&tenant.id);
    let model = rows::model("m", &["m2"]);
    groups::insert(&store, &group).await.unwrap();
    tenants::insert(&store, &tenant).await.unwrap();
    keys::insert(&store, &key).await.unwrap();
    models::insert(&store, &model).await.unwrap();

    assert_eq!(groups::by_id(&store, &group.id).await.unwrap(), Some(group));
    assert_eq!(tenants::by_id(&store, &tenant.id).await.unwrap().as_ref(), Some(&tenant));
    assert_eq!(tenants::by_name(&store, "t").await.unwrap(), Some(tenant));
    assert_eq!(models::by_id(&store, &model.id).await.unwrap().as_ref(), Some(&model));
    assert_eq!(models::by_name(&store, "m").await.unwrap(), Some(model));
    assert_eq!(models::by_name(&store, "m2").await.unwrap(), None, "an alias is not the name");
    for hash in [&key.key_hash, key.previous_hash.as_ref().unwrap()] {
        assert_eq!(keys::by_hash(&store, hash).await.unwrap().as_ref(), Some(&key));
    }
    assert_eq!(keys::by_id(&store, &key.id).await.unwrap(), Some(key));
}

async fn none_is_written_over_a_value(store: Store) {
    let mut tenant = rows::tenant("t");
    tenants::insert(&store, &tenant).await.unwrap();
    tenant.version = 2;
    tenant.max_queued = None;
    tenant.allowed_models = None;
    tenants::update(&store, &tenant, 1).await.unwrap();
    assert_eq!(tenants::by_id(&store, &tenant.id).await.unwrap(), Some(tenant));
}

async fn an_update_with_a_stale_version_changes_nothing(store: Store) {
    let old = rows::model("m", &["alias"]);
    models::insert(&store, &old).await.unwrap();
    let mut new = old.clone();
    new.version = 9;
    new.aliases = "[]".to_owned();
    assert!(matches!(models::update(&store, &new, 8).await, Err(StoreError::Stale)));
    assert_eq!(models::by_id(&store, &old.id).await.unwrap(), Some(old));
    assert!(matches!(
        models::insert(&store, &rows::model("alias", &[])).await,
        Err(StoreError::Duplicate { field: "model_names.name" })
    ));
    let unknown = rows::tenant("nobody");
    assert!(matches!(tenants::update(&store, &unknown, 1).await, Err(StoreError::Stale)));
}

async fn of_many_updates_of_one_version_one_wins(store: Store) {
    let group = rows::group("g");
    groups::insert(&store, &group).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for weight in 1..=20 {
        let (store, mut group) = (store.clone(), group.clone());
        (group.version, group.weight) = (2, weight);
        writers.spawn(async move { groups::update(&store, &group, 1).await });
    }
    let outcomes = writers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Stale))).count(), 19);
}

async fn a_name_can_be_taken_once(store: Store) {
    groups::insert(&store, &rows::group("secret-name")).await.unwrap();
    let error = groups::insert(&store, &rows::group("secret-name")).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { field: "tenant_groups.name" }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret-name"));

    let (a, mut b) = (rows::tenant("a"), rows::tenant("b"));
    tenants::insert(&store, &a).await.unwrap();
    tenants::insert(&store, &b).await.unwrap();
    b.name = "a".to_owned();
    let error = tenants::update(&store, &b, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { field: "tenants.name" }), "{error:?}");
    let error = tenants::insert(&store, &a).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { .. }), "{error:?}");
}

async fn a_hash_can_be_taken_once(store: Store) {
    let tenant = rows::tenant("t");
    tenants::insert(&store, &tenant).await.unwrap();
    let first = rows::key(&tenant.id);
    keys::insert(&store, &first).await.unwrap();
    let mut second = rows::key(&tenant.id);
    second.key_hash = first.key_hash.clone();
    let error = keys::insert(&store, &second).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { field: "keys.key_hash" }), "{error:?}");
    let mut third = rows::key(&tenant.id);
    third.previous_hash = first.previous_hash.clone();
    let error = keys::insert(&store, &third).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { field: "keys.previous_hash" }), "{error:?}");
    for _ in 0..2 {
        let mut never_rotated = rows::key(&tenant.id);
        never_rotated.previous_hash = None;
        keys::insert(&store, &never_rotated).await.unwrap();
    }
}

async fn a_name_or_alias_belongs_to_one_model(store: Store) {
    let a = rows::model("a", &["a1", "a2"]);
    models::insert(&store, &a).await.unwrap();
    for (name, alias) in [("a1", "x"), ("x", "a"), ("x", "a2")] {
        let error = models::insert(&store, &rows::model(name, &[alias])).await.unwrap_err();
        assert!(matches!(error, StoreError::Duplicate { field: "model_names.name" }), "{error:?}");
    }
    let error = models::insert(&store, &rows::model("a", &[])).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { field: "models.model_name" }), "{error:?}");
    assert_eq!(models::all(&store).await.unwrap().len(), 1, "a refused insert leaves nothing");

    let mut renamed = a.clone();
    renamed.aliases = r#"["a2"]"#.to_owned();
    models::update(&store, &renamed, 1).await.unwrap();
    let mut b = rows::model("b", &["a1"]);
    models::insert(&store, &b).await.unwrap();
    b.aliases = r#"["a1","a2"]"#.to_owned();
    assert!(matches!(models::update(&store, &b, 1).await, Err(StoreError::Duplicate { .. })));
    assert!(models::delete(&store, &a.id).await.unwrap());
    assert!(!models::delete(&store, &a.id).await.unwrap());
    models::update(&store, &b, 1).await.unwrap();
}

async fn a_model_may_repeat_its_own_names(store: Store) {
    models::insert(&store, &rows::model("a", &["a", "b", "b"])).await.unwrap();
}

async fn aliases_that_are_no_list_are_refused(store: Store) {
    let mut model = rows::model("a", &[]);
    model.aliases = "{}".to_owned();
    let error = models::insert(&store, &model).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed { field: "models.aliases" }), "{error:?}");
}

async fn references_hold(store: Store) {
    let group = rows::group("g");
    groups::insert(&store, &group).await.unwrap();
    let mut tenant = rows::tenant("t");
    tenant.group_id = group.id.clone();
    tenants::insert(&store, &tenant).await.unwrap();
    let error = groups::delete(&store, &group.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Referenced), "{error:?}");

    let mut lost = rows::tenant("lost");
    lost.group_id = "none".to_owned();
    let error = tenants::insert(&store, &lost).await.unwrap_err();
    assert!(matches!(error, StoreError::Referenced), "{error:?}");
    tenant.group_id = "none".to_owned();
    let error = tenants::update(&store, &tenant, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Referenced), "{error:?}");
    let error = keys::insert(&store, &rows::key("nobody")).await.unwrap_err();
    assert!(matches!(error, StoreError::Referenced), "{error:?}");

    assert!(tenants::delete(&store, &tenant.id).await.unwrap());
    assert!(groups::delete(&store, &group.id).await.unwrap());
    assert!(!groups::delete(&store, &group.id).await.unwrap());
}

async fn a_tenant_takes_its_keys_along(store: Store) {
    let tenant = rows::tenant("t");
    let key = rows::key(&tenant.id);
    tenants::insert(&store, &tenant).await.unwrap();
    keys::insert(&store, &key).await.unwrap();
    assert!(tenants::delete(&store, &tenant.id).await.unwrap());
    assert_eq!(keys::by_id(&store, &key.id).await.unwrap(), None);
}

async fn lists_page_by_bytes_of_the_name(store: Store) {
    // An order by language would mix the cases and skip the punctuation.
    let names = ["-b", "A", "Z", "_", "a", "a b", "a-a", "ab", "ä"];
    for name in names.iter().rev() {
        tenants::insert(&store, &rows::tenant(name)).await.unwrap();
        models::insert(&store, &rows::model(name, &[])).await.unwrap();
    }
    let mut seen: Vec<String> = Vec::new();
    loop {
        let page = tenants::list(&store, seen.last().map(String::as_str), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|tenant| tenant.name));
    }
    assert_eq!(seen, names);
    let all = models::all(&store).await.unwrap();
    assert_eq!(all.iter().map(|model| model.model_name.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(models::list(&store, Some("ab"), 9).await.unwrap().len(), 1);
    assert_eq!(groups::list(&store, None, 9).await.unwrap().len(), 1);
    assert_eq!(groups::all(&store).await.unwrap().len(), 1);
}

async fn keys_page_by_id_and_by_tenant(store: Store) {
    let (a, b) = (rows::tenant("a"), rows::tenant("b"));
    for tenant in [&a, &b] {
        tenants::insert(&store, tenant).await.unwrap();
        for _ in 0..3 {
            keys::insert(&store, &rows::key(&tenant.id)).await.unwrap();
        }
    }
    let all = keys::all(&store).await.unwrap();
    assert!(all.is_sorted_by(|x, y| x.id < y.id) && all.len() == 6);
    let first = keys::list(&store, None, None, 4).await.unwrap();
    let rest = keys::list(&store, None, Some(&first[3].id), 4).await.unwrap();
    assert_eq!([first, rest].concat(), all);
    let of_a = keys::list(&store, Some(&a.id), None, 9).await.unwrap();
    assert_eq!(of_a.len(), 3);
    assert!(of_a.iter().all(|key| key.tenant_id == a.id));
    assert_eq!(keys::list(&store, Some(&a.id), Some(&of_a[0].id), 9).await.unwrap(), of_a[1..]);
}

async fn a_caller_that_leaves_breaks_nothing(store: Store) {
    for n in 0..50 {
        let group = rows::group(&format!("g{n:02}"));
        tokio::select! {
            biased;
            // Seldom done at once: then there is nobody who leaves this time.
            _ = groups::insert(&store, &group) => {}
            () = std::future::ready(()) => {}
        }
        tokio::select! {
            biased;
            _ = groups::all(&store) => {}
            () = std::future::ready(()) => {}
        }
    }
    // A write that was begun is done, and everything still works. This write waits behind the last one on
    // SQLite; PostgreSQL's connections are as many as they like, so look until they are there.
    groups::insert(&store, &rows::group("last")).await.unwrap();
    let all_there = async { while groups::all(&store).await.unwrap().len() < 52 {} };
    tokio::time::timeout(Duration::from_secs(20), all_there).await.unwrap();
    store.ping().await.unwrap();
}
