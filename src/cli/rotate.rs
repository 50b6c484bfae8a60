//! `obleth rotate-encryption-key`.

use super::{Failure, say};
use crate::config::{Config, Rotating};
use crate::server::lock_of;
use crate::telemetry;
use obleth_actors::admin::{AdminError, Rotation, rotate};
use obleth_schema::{DatabaseUrl, Store, StoreError};
use std::fmt::Display;
use std::path::Path;

pub(super) fn run() -> Result<(), Failure> {
    let Rotating { database, from, to } = Config::rotation_from_process()?;
    telemetry::start_logging("info");
    if let Some(path) = database.file().filter(|path| !Path::new(path).is_file()) {
        return Err(Failure::of(format_args!("nothing was changed: there is no database file {path:?}")));
    }
    // Held to the end: a gateway that runs would go on with the old key.
    let _lock = lock_of(&database).map_err(Failure::of)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Failure::of)?;
    let failed = |error: &dyn Display| Failure::of(format_args!("nothing was changed: {error}"));
    let (rotation, compacted) = runtime.block_on(async {
        let store = Store::connect(&database).map_err(|error| failed(&error))?;
        store.migrate().await.map_err(|error| failed(&error))?;
        let rotation = rotate(&store, &from, &to).await.map_err(|error: AdminError| failed(&error))?;
        Ok::<_, Failure>((rotation, store.compact().await))
    })?;
    tell(rotation);
    compacted.map_err(|error| left_over(&database, &error))
}

fn tell(Rotation { sealed, plain, stored }: Rotation) {
    match (sealed, stored) {
        (0, 0) => say("0 secret(s): none is stored, nothing was to be done"),
        (0, stored) => {
            say(&format!("0 secret(s) to do: all {stored} are encrypted with the new key already"))
        }
        _ => say(&format!(
            "{sealed} secret(s) encrypted with the new key, {plain} of them stored unencrypted before"
        )),
    }
    say("start obleth with the new key as OBLETH_ENCRYPTION_KEY");
}

/// The rotation is done, and the old secrets are not gone from the disk.
fn left_over(database: &DatabaseUrl, error: &StoreError) -> Failure {
    Failure::of(format_args!(
        "the secrets are encrypted with the new key, which is the one to start with; but {database} could not be \
         written anew and may still hold secrets as they were before: run this command once more ({error})"
    ))
}
