//! A fresh database per test, on each backend.

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use obleth_schema::{DatabaseUrl, Store};
use std::env;
use tempfile::TempDir;
use uuid::Uuid;

/// Expands an `async fn(Store)` into one test per backend. The store has its tables.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = $crate::store::backend::Database::sqlite();
                super::$name(database.migrated().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(database) = $crate::store::backend::Database::postgres().await else { return };
                super::$name(database.migrated().await).await;
                database.remove().await;
            })+
        }
    };
}

pub(crate) use on_both;

/// An empty database.
pub struct Database {
    pub url: DatabaseUrl,
    /// The same as text, for tests that change it.
    pub text: String,
    /// Removed with the value.
    _folder: Option<TempDir>,
    name: String,
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("sqlite://{}/obleth.db", folder.path().display());
        Self { url: text.parse().unwrap(), text, _folder: Some(folder), name: String::new() }
    }

    /// `None` when there is no server to test with.
    pub async fn postgres() -> Option<Self> {
        let server = server()?;
        let name = format!("test_{}", Uuid::new_v4().simple());
        on_server(&server, &format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').unwrap();
        let text = format!("{base}/{name}");
        Some(Self { url: text.parse().unwrap(), text, _folder: None, name })
    }

    pub fn store(&self) -> Store {
        Store::connect(&self.url).unwrap()
    }

    pub async fn migrated(&self) -> Store {
        let store = self.store();
        store.migrate().await.unwrap();
        store
    }

    /// Drops a PostgreSQL database. A test that failed leaves its own behind, to be looked at.
    pub async fn remove(self) {
        on_server(&server().unwrap(), &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

fn server() -> Option<String> {
    let server = env::var("OBLETH_TEST_POSTGRES_URL").ok();
    if server.is_none() {
        let required = env::var("OBLETH_TEST_REQUIRE").is_ok_and(|what| what == "all");
        assert!(!required, "OBLETH_TEST_REQUIRE=all, but OBLETH_TEST_POSTGRES_URL is unset");
        println!("SKIPPED postgres: OBLETH_TEST_POSTGRES_URL unset");
    }
    server
}

async fn on_server(server: &str, statement: &str) {
    let mut conn = AsyncPgConnection::establish(server).await.unwrap();
    conn.batch_execute(statement).await.unwrap();
}
