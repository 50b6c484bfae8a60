//! Rotation of the encryption key: every stored secret is opened with the old key and sealed with the new one, in
//! one transaction. A command of its own, while no gateway serves the database.

use super::commit::Step;
use super::origin::Origin;
use super::seal::Sealer;
use super::{AdminError, mcp_servers, models};
use crate::clock::unix_micros;
use obleth_schema::Store;
use obleth_schema::changes::{Change, Edit, apply};
use std::sync::Arc;

/// What a rotation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Secrets that were sealed anew.
    pub sealed: usize,
    /// Of those, how many had been stored in the open.
    pub plain: usize,
    /// Secrets that are stored, whatever they are sealed with.
    pub stored: usize,
}

/// Seals every secret anew. A second run with the same keys finds nothing to do. What the file of a SQLite database
/// still holds of the old ones is [`Store::compact`]'s to remove.
pub async fn rotate(store: &Store, from: &Sealer, to: &Sealer) -> Result<Rotation, AdminError> {
    let rows = obleth_schema::models::all(store).await?;
    let mut rotation = Rotation::default();
    let mut changes = Vec::new();
    for row in &rows {
        let wrong = |error| AdminError::Sealed(format!("the secret of model {:?} {error}", row.model_name));
        let stored = [&row.api_key_sealed, &row.upstream_headers_sealed];
        rotation.stored += stored.into_iter().flatten().count();
        let Some((sealed, count)) = models::resealed((from, to), row).map_err(wrong)? else {
            continue;
        };
        let plain = stored.into_iter().flatten().filter(|text| Sealer::is_plain(text)).count();
        rotation.sealed += count;
        rotation.plain += plain;
        changes.push(Change::Model(Edit::Update(sealed, row.version)));
    }
    for row in &obleth_schema::mcp_servers::all(store).await? {
        let wrong = |error| AdminError::Sealed(format!("the secret of MCP server {:?} {error}", row.name));
        rotation.stored += usize::from(row.auth_header_sealed.is_some());
        let Some(sealed) = mcp_servers::resealed((from, to), row).map_err(wrong)? else { continue };
        rotation.sealed += 1;
        rotation.plain += usize::from(row.auth_header_sealed.as_deref().is_some_and(Sealer::is_plain));
        changes.push(Change::McpServer(Edit::Update(sealed, row.version)));
    }
    if changes.is_empty() {
        return Ok(rotation);
    }
    let key = |sealer: &Sealer| sealer.key_id().map(|id| format!("{{\"key_id\":\"{id}\"}}"));
    let told = Step {
        action: "rotate",
        kind: "encryption_key",
        id: to.key_id().unwrap_or_default().to_owned(),
        name: "encryption key".to_owned(),
        before: key(from),
        after: key(to),
        change: Change::Told,
    };
    // The audit tells of all of them in one row.
    let audit = vec![told.audit(&Origin::internal("rotate-encryption-key"), unix_micros())];
    apply(store, &Arc::from(changes), audit).await.map_err(|refused| AdminError::from(refused.error))?;
    Ok(rotation)
}
