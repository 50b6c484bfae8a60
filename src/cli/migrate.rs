//! `obleth migrate`.

use super::{Failure, say};
use crate::config::Config;
use crate::telemetry;
use obleth_schema::Store;

pub(super) fn run() -> Result<(), Failure> {
    let config = Config::from_process()?;
    telemetry::start_logging("info");
    let url = config.data.database.ok_or_else(|| Failure::of("OBLETH_DATABASE_URL is missing"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::of)?;
    let applied = runtime.block_on(async {
        let store = Store::connect(&url)?;
        store.migrate().await
    });
    match applied.map_err(Failure::of)? {
        0 => say("the database is up to date"),
        applied => say(&format!("{applied} migration(s) applied")),
    }
    Ok(())
}
