//! The audit as the API shows it: who changed what, from what to what. Rows are written with the changes
//! (`commit`) and by nothing else.

use super::{Admin, AdminError, FieldError, Page, Window, rfc3339};
use crate::shapes::{Id, Time};
use obleth_schema::audit::{AuditFilter, AuditRow};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// One change.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Change")]
pub struct AuditView {
    #[schemars(with = "Id")]
    id: String,
    #[schemars(with = "Time")]
    ts: String,
    actor: ActorView,
    method: String,
    action: String,
    kind: String,
    object_id: String,
    object_name: String,
    #[schemars(with = "Option<Map<String, Value>>")]
    before: Option<Box<RawValue>>,
    #[schemars(with = "Option<Map<String, Value>>")]
    after: Option<Box<RawValue>>,
    request_id: String,
    address: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Actor")]
struct ActorView {
    id: String,
    name: String,
}

fn document(text: Option<&str>) -> Result<Option<Box<RawValue>>, AdminError> {
    let raw = |text: &str| RawValue::from_string(text.to_owned());
    text.map(raw).transpose().map_err(|_| AdminError::Internal)
}

fn view(row: &AuditRow) -> Result<AuditView, AdminError> {
    Ok(AuditView {
        id: row.id.clone(),
        ts: rfc3339(row.ts),
        actor: ActorView { id: row.actor_id.clone(), name: row.actor_name.clone() },
        method: row.method.clone(),
        action: row.action.clone(),
        kind: row.kind.clone(),
        object_id: row.object_id.clone(),
        object_name: row.object_name.clone(),
        before: document(row.before_json.as_deref())?,
        after: document(row.after_json.as_deref())?,
        request_id: row.request_id.clone(),
        address: row.address.clone(),
    })
}

/// The place in the listing: time and id of the last row shown.
fn place(cursor: &str) -> Option<(i64, &str)> {
    let (ts, id) = cursor.split_once(' ')?;
    Some((ts.parse().ok()?, id))
}

impl Admin {
    /// `GET /audit`.
    pub async fn audit(&self, filter: &AuditFilter, window: Window) -> Result<Page<AuditView>, AdminError> {
        let wrong = || FieldError::new("cursor", "is not a cursor of this list");
        let after = window.after.as_deref().map(|cursor| place(cursor).ok_or_else(wrong)).transpose()?;
        let rows = obleth_schema::audit::page(&self.context.store, filter, after, window.limit + 1).await?;
        window.page(rows, |row| format!("{} {}", row.ts, row.id), view)
    }
}
