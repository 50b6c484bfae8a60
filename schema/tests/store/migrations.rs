//! The tables come and go.

use super::backend::Database;
use super::rows;
use obleth_schema::{StoreError, groups};

/// Migrations there are.
const COUNT: usize = 7;

async fn up_down_up(database: &Database) {
    let store = database.store();
    assert_eq!(store.migrate().await.unwrap(), COUNT);
    assert_eq!(store.migrate().await.unwrap(), 0, "a second run has nothing to do");
    groups::insert(&store, &rows::group("g")).await.unwrap();
    assert_eq!(store.revert_all().await.unwrap(), COUNT);
    let error = groups::all(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Query { .. }), "{error:?}");
    assert_eq!(store.migrate().await.unwrap(), COUNT);
    let names: Vec<_> = groups::all(&store).await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["default"]);
}

async fn several_at_once(database: &Database) {
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = database.store();
        starts.spawn(async move { store.migrate().await.unwrap() });
    }
    assert_eq!(starts.join_all().await.iter().sum::<usize>(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_migrates_up_down_up() {
    up_down_up(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_migrates_up_down_up() {
    let Some(database) = Database::postgres().await else { return };
    up_down_up(&database).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_migrates_once_when_several_start() {
    several_at_once(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_migrates_once_when_several_start() {
    let Some(database) = Database::postgres().await else { return };
    several_at_once(&database).await;
    database.remove().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_runtime_of_one_thread_migrates_too() {
    up_down_up(&Database::sqlite()).await;
    let Some(database) = Database::postgres().await else { return };
    up_down_up(&database).await;
    database.remove().await;
}
