//! Which database the gateways of a run stand on: SQLite, or PostgreSQL when `OBLETH_TEST_BACKEND=postgres` and
//! `OBLETH_TEST_POSTGRES_URL` names a server. A gateway has a database of its own, named in its folder.

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use std::path::Path;
use uuid::Uuid;

/// Whether this run is on PostgreSQL.
pub fn is_postgres() -> bool {
    std::env::var("OBLETH_TEST_BACKEND").is_ok_and(|backend| backend == "postgres")
}

/// The database of the gateway in `folder`; made if it is not there yet.
pub async fn url_in(folder: &Path) -> String {
    if !is_postgres() {
        return format!("sqlite://{}", folder.join("obleth.db").display());
    }
    let note = folder.join("postgres");
    if let Ok(url) = std::fs::read_to_string(&note) {
        return url;
    }
    let server = std::env::var("OBLETH_TEST_POSTGRES_URL").expect("OBLETH_TEST_POSTGRES_URL");
    let name = format!("api_{}", Uuid::new_v4().simple());
    let mut connection = AsyncPgConnection::establish(&server).await.expect("a PostgreSQL server");
    connection.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
    let (base, _) = server.rsplit_once('/').unwrap();
    let url = format!("{base}/{name}");
    std::fs::write(note, &url).unwrap();
    url
}
