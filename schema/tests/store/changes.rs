//! Changes and their audit rows: together, or not at all.

use super::backend::on_both;
use super::rows;
use obleth_schema::admin_tokens::{self, AdminTokenRow};
use obleth_schema::audit::{self, AuditFilter, AuditRow};
use obleth_schema::changes::{Change, Edit, apply};
use obleth_schema::{Store, StoreError, groups, key_uses, keys, tenants};
use std::sync::Arc;

on_both!(
    all_changes_come_with_their_audit_rows,
    a_change_that_is_refused_takes_all_back,
    an_audit_row_that_is_refused_takes_the_changes_back,
    tokens_come_and_go,
    a_use_is_no_change_of_the_key,
);

fn told(id: &str, ts: i64) -> AuditRow {
    let text = |text: &str| format!("{text} of {id}");
    AuditRow {
        id: id.to_owned(),
        ts,
        actor_id: text("actor"),
        actor_name: "ci".to_owned(),
        method: text("method"),
        action: text("action"),
        kind: "group".to_owned(),
        object_id: text("object"),
        object_name: text("name"),
        before_json: Some(text("before")),
        after_json: Some(text("after")),
        request_id: text("request"),
        address: Some(text("address")),
    }
}

async fn audit_of(store: &Store) -> Vec<AuditRow> {
    audit::page(store, &AuditFilter::default(), None, 1000).await.unwrap()
}

async fn all_changes_come_with_their_audit_rows(store: Store) {
    let count = 700;
    let made: Vec<_> = (0..count).map(|number| rows::group(&format!("g{number}"))).collect();
    let changes: Arc<[Change]> = made.iter().cloned().map(|row| Change::Group(Edit::Insert(row))).collect();
    let told: Vec<_> = (0..count).map(|number| told(&format!("{number:04}"), 5)).collect();
    apply(&store, &changes, told.clone()).await.unwrap();
    assert_eq!(groups::all(&store).await.unwrap().len(), count + 1);
    let mut found = audit_of(&store).await;
    found.reverse();
    assert_eq!(found, told);
    let filter = AuditFilter {
        actor: Some("ci".to_owned()),
        kind: Some("group".to_owned()),
        ..AuditFilter::default()
    };
    let page = audit::page(&store, &filter, Some((5, "0003")), 2).await.unwrap();
    assert_eq!(page.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["0002", "0001"]);
}

async fn a_change_that_is_refused_takes_all_back(store: Store) {
    let group = rows::group("g");
    let changes: Arc<[Change]> = Arc::from([
        Change::Group(Edit::Insert(group.clone())),
        Change::Tenant(Edit::Insert(rows::tenant("t"))),
        Change::Group(Edit::Update(group, 99)),
    ]);
    let refused = apply(&store, &changes, vec![told("1", 1)]).await.unwrap_err();
    assert_eq!(refused.at, Some(2));
    assert!(matches!(refused.error, StoreError::Stale), "{refused:?}");
    let gone: Arc<[Change]> = Arc::from([Change::Key(Edit::Delete("nobody".to_owned()))]);
    let refused = apply(&store, &gone, vec![told("2", 2)]).await.unwrap_err();
    assert!(matches!(refused.error, StoreError::Stale), "{refused:?}");
    assert_eq!(groups::all(&store).await.unwrap().len(), 1);
    assert_eq!(tenants::all(&store).await.unwrap(), []);
    assert_eq!(audit_of(&store).await, []);
}

async fn an_audit_row_that_is_refused_takes_the_changes_back(store: Store) {
    let insert =
        |name: &str| -> Arc<[Change]> { Arc::from([Change::Group(Edit::Insert(rows::group(name)))]) };
    apply(&store, &insert("a"), vec![told("1", 1)]).await.unwrap();
    let refused = apply(&store, &insert("b"), vec![told("1", 2)]).await.unwrap_err();
    assert!(matches!(refused.error, StoreError::Duplicate { field: "audit.id" }), "{refused:?}");
    assert_eq!(groups::by_name(&store, "b").await.unwrap(), None);
    assert_eq!(audit_of(&store).await, [told("1", 1)]);
}

async fn tokens_come_and_go(store: Store) {
    let token = |id: &str, name: &str| AdminTokenRow {
        id: id.to_owned(),
        name: name.to_owned(),
        role: "viewer".to_owned(),
        token_hash: format!("hash of {id}"),
        created_at: 3,
    };
    let add = |row: AdminTokenRow| -> Arc<[Change]> { Arc::from([Change::AddAdminToken(row)]) };
    apply(&store, &add(token("1", "a")), Vec::new()).await.unwrap();
    apply(&store, &add(token("2", "b")), Vec::new()).await.unwrap();
    let twice = apply(&store, &add(token("3", "a")), Vec::new()).await.unwrap_err();
    assert!(matches!(twice.error, StoreError::Duplicate { field: "admin_tokens.name" }), "{twice:?}");
    assert_eq!(admin_tokens::all(&store).await.unwrap(), [token("1", "a"), token("2", "b")]);
    assert_eq!(admin_tokens::list(&store, Some("1"), 5).await.unwrap(), [token("2", "b")]);
    let delete: Arc<[Change]> = Arc::from([Change::DeleteAdminToken("1".to_owned())]);
    apply(&store, &delete, Vec::new()).await.unwrap();
    assert_eq!(admin_tokens::by_id(&store, "1").await.unwrap(), None);
    assert!(matches!(apply(&store, &delete, Vec::new()).await.unwrap_err().error, StoreError::Stale));
}

async fn a_use_is_no_change_of_the_key(store: Store) {
    let tenant = rows::tenant("t");
    let (used, unused) = (rows::key(&tenant.id), rows::key(&tenant.id));
    tenants::insert(&store, &tenant).await.unwrap();
    keys::insert(&store, &used).await.unwrap();
    keys::insert(&store, &unused).await.unwrap();
    let uses = [(used.id.clone(), 7), ("gone".to_owned(), 8)];
    key_uses::note(&store, &uses).await.unwrap();
    key_uses::note(&store, &[(used.id.clone(), 9)]).await.unwrap();
    key_uses::note(&store, &[(used.id.clone(), 8)]).await.unwrap();
    let ids = vec![used.id.clone(), unused.id, "gone".to_owned()];
    assert_eq!(key_uses::of(&store, ids.clone()).await.unwrap(), [(used.id.clone(), 9)]);
    assert_eq!(keys::by_id(&store, &used.id).await.unwrap(), Some(used.clone()));
    keys::delete(&store, &used.id).await.unwrap();
    assert_eq!(key_uses::of(&store, ids).await.unwrap(), []);
}
