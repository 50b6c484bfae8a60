//! `obleth rotate-encryption-key`.

use super::{Failure, say};
use crate::config::{Config, Rotating};
use crate::server::lock_of;
use crate::telemetry;
use obleth_actors::admin::{AdminError, Rotation, rotate};
use obleth_schema::Store;
use std::fmt::Display;

pub(super) fn run() -> Result<(), Failure> {
    let Rotating { database, from, to } = Config::rotation_from_process()?;
    telemetry::start_logging("info");
    // Held to the end: a gateway that runs would go on with the old key.
    let _lock = lock_of(&database).map_err(Failure::of)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::of)?;
    let failed = |error: &dyn Display| Failure::of(format_args!("nothing was changed: {error}"));
    let Rotation { sealed, plain } = runtime.block_on(async {
        let store = Store::connect(&database).map_err(|error| failed(&error))?;
        store.migrate().await.map_err(|error| failed(&error))?;
        rotate(&store, &from, &to).await.map_err(|error: AdminError| failed(&error))
    })?;
    say(&format!("{sealed} secret(s) encrypted with the new key, {plain} of them stored unencrypted before"));
    say("start obleth with the new key as OBLETH_ENCRYPTION_KEY");
    Ok(())
}
