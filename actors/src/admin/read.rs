//! Reads of the management API: straight from the database, page by page.

use super::{Admin, AdminError, GroupView, KeyView, McpServerView, ModelView, TenantView};
use super::{groups, keys, mcp_servers, models, tenants};
use crate::shapes::Cursor;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obleth_schema as schema;
use obleth_schema::keys::{KeyFilter, KeyRow};
use schemars::JsonSchema;
use serde::Serialize;

/// Rows of a page that names no limit, and the most of one.
const PAGE: u32 = 100;
pub(crate) const PAGE_MAX: u32 = 1000;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    pub data: Vec<T>,
    /// Hand it back as `cursor` for the next page; null at the end.
    #[schemars(with = "Option<Cursor>")]
    pub next_cursor: Option<String>,
}

/// `limit` and `cursor` of a list that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageError {
    Limit,
    Cursor,
}

impl From<PageError> for AdminError {
    fn from(error: PageError) -> Self {
        let (field, message) = match error {
            PageError::Limit => ("limit", "must be a whole number from 1 to 1000"),
            PageError::Cursor => ("cursor", "is not a cursor of this list"),
        };
        super::FieldError::new(field, message).into()
    }
}

/// The place a list is read from, and how far.
#[derive(Debug)]
pub struct Window {
    /// Which list: its cursors are no others'.
    list: String,
    pub after: Option<String>,
    pub limit: u32,
}

impl Window {
    /// From the query's `limit` and `cursor`; `list` is the path, which has no line feed.
    pub fn new(list: &str, limit: Option<&str>, cursor: Option<&str>) -> Result<Self, PageError> {
        let limit = match limit {
            None => PAGE,
            Some(text) => {
                text.parse().ok().filter(|limit| (1..=PAGE_MAX).contains(limit)).ok_or(PageError::Limit)?
            }
        };
        let decode = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .filter(|text| !text.contains('\0'))
                .and_then(|text| {
                    text.split_once('\n').filter(|(of, _)| *of == list).map(|(_, at)| at.to_owned())
                })
        };
        let after = cursor.map(|text| decode(text).ok_or(PageError::Cursor)).transpose()?;
        Ok(Self { list: list.to_owned(), after, limit })
    }

    /// A page of `rows`, which were read with one row more than the limit.
    pub fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        position: impl Fn(&R) -> String,
        view: impl Fn(&R) -> Result<T, AdminError>,
    ) -> Result<Page<T>, AdminError> {
        let limit = usize::try_from(self.limit).unwrap_or(0);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let cursor = |row: &R| URL_SAFE_NO_PAD.encode(format!("{}\n{}", self.list, position(row)));
        let next_cursor = rows.last().filter(|_| more).map(cursor);
        let data = rows.iter().map(view).collect::<Result<_, _>>()?;
        Ok(Page { data, next_cursor })
    }
}

impl Admin {
    /// `GET /models`.
    pub async fn models(&self, window: Window) -> Result<Page<ModelView>, AdminError> {
        let rows =
            schema::models::list(&self.context.store, window.after.as_deref(), window.limit + 1).await?;
        window.page(rows, |row| row.model_name.clone(), |row| models::view(&self.context.sealer, row))
    }

    /// `GET /models/{model_name}`.
    pub async fn model(&self, name: &str) -> Result<ModelView, AdminError> {
        models::view(&self.context.sealer, &models::stored(&self.context, name).await?)
    }

    /// `GET /tenants`.
    pub async fn tenants(&self, window: Window) -> Result<Page<TenantView>, AdminError> {
        let rows =
            schema::tenants::list(&self.context.store, window.after.as_deref(), window.limit + 1).await?;
        window.page(rows, |row| row.name.clone(), |row| tenants::view(&self.context, row))
    }

    /// `GET /tenants/{id}`.
    pub async fn tenant(&self, id: &str) -> Result<TenantView, AdminError> {
        tenants::view(&self.context, &tenants::stored(&self.context, id).await?)
    }

    /// A tenant by its name.
    pub async fn tenant_named(&self, name: &str) -> Result<TenantView, AdminError> {
        let row = schema::tenants::by_name(&self.context.store, name).await?;
        tenants::view(&self.context, &row.ok_or(AdminError::NotFound("tenant"))?)
    }

    /// `GET /keys`, or those of one tenant, which then must exist.
    pub async fn keys(&self, filter: &KeyFilter, window: Window) -> Result<Page<KeyView>, AdminError> {
        if let Some(tenant) = &filter.tenant_id {
            tenants::stored(&self.context, tenant).await?;
        }
        let after = window.after.as_deref();
        let rows = schema::keys::search(&self.context.store, filter, after, window.limit + 1).await?;
        let ids = rows.iter().map(|row| row.id.clone()).collect();
        let uses = self.context.last_uses(ids).await?;
        let view = |row: &KeyRow| keys::view(row).map(|view| view.used(uses.get(&row.id).cloned()));
        window.page(rows, |row| row.id.clone(), view)
    }

    /// `GET /keys/{id}`.
    pub async fn key(&self, id: &str) -> Result<KeyView, AdminError> {
        let row = keys::stored(&self.context, id).await?;
        Ok(keys::view(&row)?.used(self.context.last_use(&row.id).await?))
    }

    /// `GET /mcp-servers`.
    pub async fn mcp_servers(&self, window: Window) -> Result<Page<McpServerView>, AdminError> {
        let after = window.after.as_deref();
        let rows = schema::mcp_servers::list(&self.context.store, after, window.limit + 1).await?;
        window.page(rows, |row| row.name.clone(), |row| Ok(mcp_servers::view(row)))
    }

    /// `GET /mcp-servers/{name}`.
    pub async fn mcp_server(&self, name: &str) -> Result<McpServerView, AdminError> {
        Ok(mcp_servers::view(&mcp_servers::stored(&self.context, name).await?))
    }

    /// `GET /groups`.
    pub async fn groups(&self, window: Window) -> Result<Page<GroupView>, AdminError> {
        let rows =
            schema::groups::list(&self.context.store, window.after.as_deref(), window.limit + 1).await?;
        window.page(rows, |row| row.name.clone(), |row| Ok(groups::view(row)))
    }

    /// `GET /groups/{name}`.
    pub async fn group(&self, name: &str) -> Result<GroupView, AdminError> {
        groups::stored(&self.context, name)
            .await?
            .as_ref()
            .map(groups::view)
            .ok_or(AdminError::NotFound("group"))
    }
}
