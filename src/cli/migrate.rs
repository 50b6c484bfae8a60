//! `obleth migrate`.

use super::{Failure, say};
use crate::config::Config;
use crate::telemetry;
use obleth_schema::{Store, StoreError};

pub(super) fn run() -> Result<(), Failure> {
    let url = Config::database_from_process()?;
    telemetry::start_logging("info");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::of)?;
    let applied = runtime.block_on(async {
        let store = Store::connect(&url)?;
        store.migrate().await
    });
    let failed = |error: StoreError| Failure::of(format_args!("cannot use the database {url}: {error}"));
    match applied.map_err(failed)? {
        0 => say("the database is up to date"),
        applied => say(&format!("{applied} migration(s) applied")),
    }
    Ok(())
}
