//! Tokens of the management API: made, listed, deleted, and recognised. The root token of the configuration is
//! not one of them. The secret is shown once; only its digest is kept.

use super::commit::Step;
use super::document::read;
use super::fields::check_name;
use super::keys::Shown;
use super::origin::Origin;
use super::{Admin, AdminError, Context, Page, Window, rfc3339, to_json};
use crate::clock::unix_micros;
use crate::shapes::{Id, Name, Secret, Time};
use obleth_core::registry::KeyDigest;
use obleth_schema as schema;
use obleth_schema::admin_tokens::AdminTokenRow;
use obleth_schema::changes::Change;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// As the audit names it.
pub const KIND: &str = "admin_token";

/// What each secret begins with.
const PREFIX: &str = "adm_";
/// Tokens that may exist: all are held in memory.
const MOST: usize = 1000;

/// What a token may do: each role may also do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Viewer,
    /// Everything but tokens.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// All, from the least on.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// A token as the listener recognises it.
#[derive(Clone, Debug)]
pub struct AdminToken {
    pub id: Arc<str>,
    pub name: Arc<str>,
    pub role: Role,
}

/// All tokens. A lookup by digest tells nothing of the secret by its time.
pub(super) type Tokens = HashMap<KeyDigest, Arc<AdminToken>>;

/// A token as the API answers it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AdminToken")]
pub struct TokenView {
    #[schemars(with = "Id")]
    id: String,
    version: i64,
    #[schemars(with = "Name")]
    name: String,
    #[schemars(with = "Role")]
    role: String,
    #[schemars(with = "Time")]
    created_at: String,
    #[schemars(with = "Time")]
    updated_at: String,
}

/// A new token, with the secret that is shown once.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AdminTokenWithSecret")]
pub struct TokenWithSecret {
    #[serde(flatten)]
    token: TokenView,
    #[schemars(with = "Secret")]
    secret: Shown,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "AdminTokenSpec")]
pub struct TokenSpec {
    #[schemars(with = "Name")]
    name: String,
    role: Role,
}

fn view(row: &AdminTokenRow) -> TokenView {
    TokenView {
        id: row.id.clone(),
        // A token is made and deleted, never changed.
        version: 1,
        name: row.name.clone(),
        role: row.role.clone(),
        created_at: rfc3339(row.created_at),
        updated_at: rfc3339(row.created_at),
    }
}

/// The row as the listener uses it.
pub(super) fn entry(row: &AdminTokenRow) -> Result<(KeyDigest, AdminToken), AdminError> {
    let digest = KeyDigest::from_hex(&row.token_hash).ok_or(AdminError::Internal)?;
    let role = Role::named(&row.role).ok_or(AdminError::Internal)?;
    Ok((digest, AdminToken { id: row.id.as_str().into(), name: row.name.as_str().into(), role }))
}

/// `POST /admin-tokens`.
pub(super) async fn create(
    context: &Context,
    origin: &Origin,
    body: &[u8],
) -> Result<TokenWithSecret, AdminError> {
    let spec: TokenSpec = read(body)?;
    check_name("name", &spec.name)?;
    if context.tokens.load().len() >= MOST {
        return Err(AdminError::Conflict("name", "there are 1000 admin tokens already"));
    }
    let secret = Shown::new(PREFIX);
    let row = AdminTokenRow {
        id: Uuid::now_v7().to_string(),
        name: spec.name,
        role: spec.role.as_str().to_owned(),
        token_hash: KeyDigest::of(secret.text(), context.pepper.as_ref()).to_hex(),
        created_at: unix_micros(),
    };
    let token = view(&row);
    let step = Step {
        action: "create",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: None,
        after: Some(to_json(&token)?),
        change: Change::AddAdminToken(row),
    };
    context.commit(origin, step).await?;
    Ok(TokenWithSecret { token, secret })
}

/// `DELETE /admin-tokens/{id}`.
pub(super) async fn delete(context: &Context, origin: &Origin, id: &str) -> Result<(), AdminError> {
    let row = schema::admin_tokens::by_id(&context.store, id).await?;
    let row = row.ok_or(AdminError::NotFound("admin token"))?;
    let step = Step {
        action: "delete",
        kind: KIND,
        id: row.id.clone(),
        name: row.name.clone(),
        before: Some(to_json(&view(&row))?),
        after: None,
        change: Change::DeleteAdminToken(row.id),
    };
    context.commit(origin, step).await
}

impl Context {
    /// Reads all tokens from the database.
    pub(super) async fn load_tokens(&self) -> Result<(), AdminError> {
        let rows = schema::admin_tokens::all(&self.store).await?;
        let entries = rows.iter().map(|row| entry(row).map(|(digest, token)| (digest, Arc::new(token))));
        self.tokens.store(Arc::new(entries.collect::<Result<Tokens, _>>()?));
        Ok(())
    }

    /// Changes the tokens. Only the actor calls this, so no change is lost between load and store.
    pub(super) fn change_tokens(&self, change: impl FnOnce(&mut Tokens)) {
        let mut tokens = Tokens::clone(&self.tokens.load());
        change(&mut tokens);
        self.tokens.store(Arc::new(tokens));
    }
}

impl Admin {
    /// `GET /admin-tokens`.
    pub async fn tokens(&self, window: Window) -> Result<Page<TokenView>, AdminError> {
        let after = window.after.as_deref();
        let rows = schema::admin_tokens::list(&self.context.store, after, window.limit + 1).await?;
        window.page(rows, |row| row.id.clone(), |row| Ok(view(row)))
    }

    /// The token whose secret this is.
    pub fn token(&self, secret: &str) -> Option<Arc<AdminToken>> {
        let digest = KeyDigest::of(secret, self.context.pepper.as_ref());
        self.context.tokens.load().get(&digest).map(Arc::clone)
    }
}
