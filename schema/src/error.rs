//! What can go wrong with a query, in words that carry no row values and no password.

use crate::url::UrlError;
use diesel::result::{ConnectionError, DatabaseErrorInformation, DatabaseErrorKind, Error};

/// Why a call on the [`crate::Store`] did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address of the database cannot be used.
    #[error("the database address {0}")]
    Url(#[from] UrlError),
    /// Another row has the value already. `field` is `table.column`.
    #[error("{field} is taken already")]
    Duplicate { field: &'static str },
    /// The row has another version than expected, or is gone.
    #[error("the row was changed or deleted meanwhile")]
    Stale,
    /// The row is referred to by others, or refers to one that does not exist.
    #[error("a row it refers to does not exist, or other rows refer to it")]
    Referenced,
    /// The database does not answer, or not now: the same call may succeed later.
    #[error("the database is not available: {reason}")]
    Unavailable { reason: String },
    /// A JSON column does not hold what the queries need of it. `field` is `table.column`.
    #[error("{field} is not a JSON list of names")]
    Malformed { field: &'static str },
    /// All went well, and was taken back as it should be.
    #[error("a rehearsal only")]
    Rehearsed,
    /// The tables could not be brought up to date.
    #[error("migration failed: {reason}")]
    Migration { reason: String },
    /// Any other refusal; trying again will not help.
    #[error("the database refused the statement: {reason}")]
    Query { reason: String },
}

impl StoreError {
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }

    fn query(reason: impl Into<String>) -> Self {
        Self::Query { reason: reason.into() }
    }
}

/// Constraint of PostgreSQL, and the column as SQLite names it in its message.
const UNIQUE: [(&str, &str); 19] = [
    ("models_pkey", "models.id"),
    ("models_model_name_key", "models.model_name"),
    ("model_names_pkey", "model_names.name"),
    ("tenants_pkey", "tenants.id"),
    ("tenants_name_key", "tenants.name"),
    ("keys_pkey", "keys.id"),
    ("keys_key_hash_key", "keys.key_hash"),
    ("keys_previous_hash_key", "keys.previous_hash"),
    ("tenant_groups_pkey", "tenant_groups.id"),
    ("tenant_groups_name_key", "tenant_groups.name"),
    ("admin_tokens_pkey", "admin_tokens.id"),
    ("admin_tokens_name_key", "admin_tokens.name"),
    ("admin_tokens_token_hash_key", "admin_tokens.token_hash"),
    ("audit_pkey", "audit.id"),
    ("mcp_servers_pkey", "mcp_servers.id"),
    ("mcp_servers_name_key", "mcp_servers.name"),
    ("ledger_pkey", "ledger.row_id"),
    ("__diesel_schema_migrations_pkey", "__diesel_schema_migrations.version"),
    ("pg_type_typname_nsp_index", "pg_type.typname"),
];

fn duplicate(info: &dyn DatabaseErrorInformation) -> StoreError {
    let known = UNIQUE.iter().find(|(constraint, column)| match info.constraint_name() {
        Some(name) => name == *constraint,
        None => info.message().ends_with(column),
    });
    StoreError::Duplicate { field: known.map_or("a unique column", |(_, column)| *column) }
}

/// Words by which a database says that it cannot serve now. The driver hides the SQLSTATE behind `Unknown`.
const PASSING: [&str; 11] = [
    "terminating connection",
    "canceling statement due to",
    "the database system is",
    "too many clients",
    "remaining connection slots",
    "deadlock detected",
    "No space left",
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
];

fn refused(info: &dyn DatabaseErrorInformation) -> StoreError {
    // Only the message, never the details: those quote the row.
    let message = info.message();
    if message == "FOREIGN KEY constraint failed" {
        // SQLite reports an `ON DELETE RESTRICT` under a code the driver does not know.
        StoreError::Referenced
    } else if PASSING.iter().any(|words| message.contains(words)) {
        StoreError::unavailable(message)
    } else {
        StoreError::query(message)
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        use DatabaseErrorKind as Kind;
        match error {
            Error::DatabaseError(Kind::UniqueViolation, info) => duplicate(info.as_ref()),
            Error::DatabaseError(Kind::ForeignKeyViolation | Kind::RestrictViolation, _) => Self::Referenced,
            Error::DatabaseError(Kind::UnableToSendCommand | Kind::ClosedConnection, info) => {
                Self::unavailable(info.message())
            }
            Error::DatabaseError(Kind::SerializationFailure | Kind::ReadOnlyTransaction, info) => {
                Self::unavailable(info.message())
            }
            Error::DatabaseError(_, info) => refused(info.as_ref()),
            Error::BrokenTransactionManager => Self::unavailable("the transaction was cut off"),
            Error::DeserializationError(_) => Self::query("a column does not hold what its type promises"),
            Error::SerializationError(_) => Self::query("a value does not fit its column"),
            Error::NotFound => Self::query("no row"),
            _ => Self::query("the transaction was used in a wrong way"),
        }
    }
}

impl From<ConnectionError> for StoreError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::CouldntSetupConfiguration(Error::DatabaseError(_, info)) => {
                Self::unavailable(connection_reason(info.message()))
            }
            ConnectionError::BadConnection(reason) => Self::unavailable(connection_reason(&reason)),
            _ => Self::unavailable("no connection could be opened"),
        }
    }
}

/// A parse error of the address may quote a piece of it, and so of a password.
fn connection_reason(reason: &str) -> &str {
    if reason.contains("connection string") { "the address cannot be read" } else { reason }
}
