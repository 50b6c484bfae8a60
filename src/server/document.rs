//! The registry at the start: what is stored, and what the configuration's document changes of it.

use super::StartError;
use crate::app::Gateway;
use obleth_actors::admin::{AdminError, Import, Origin, Trust, Write, Written};
use std::sync::Arc;

/// How often the document is tried while another replica changes the same things.
const TRIES: u32 = 5;

/// Loads the registry and applies the document.
pub(super) async fn load(gateway: &Gateway) -> Result<(), StartError> {
    gateway.handles.admin.load().await?;
    let Some(document) = &gateway.settings.document else {
        return Ok(());
    };
    let how = Import { dry_run: false, prune: false, trust: Trust::Environment };
    for left in (0..TRIES).rev() {
        let write = Write::Import(document.text.to_vec(), how);
        match gateway.handles.admin.write(Origin::internal("config-file"), write).await {
            Ok(Written::Imported(plan)) => {
                let (created, updated, _) = plan.counts();
                tracing::info!(
                    path = &*document.path,
                    created,
                    updated,
                    "the configuration document is applied"
                );
                for warning in plan.warnings() {
                    tracing::warn!(warning, "the configuration document");
                }
                return Ok(());
            }
            Ok(_) => return Err(AdminError::Internal.into()),
            Err(AdminError::StoreAway) => return Err(AdminError::StoreAway.into()),
            // Another replica applies the same document at the same moment.
            Err(AdminError::Stale | AdminError::ConflictAt(..)) if left > 0 => {
                gateway.handles.admin.load().await?;
            }
            Err(error) => return Err(StartError::Document(Arc::clone(&document.path), error)),
        }
    }
    Ok(())
}
