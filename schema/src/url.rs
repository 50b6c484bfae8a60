//! Where the database is.

use std::fmt;
use std::str::FromStr;

/// A database address that one of the backends can take. `Debug` and `Display` leave a password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(pub(crate) Target);

/// What the address points at.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Path of the file.
    Sqlite(String),
    /// The whole address, as the driver reads it.
    Postgres(String),
}

/// Why an address is not one. The address itself is not repeated: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("must begin with sqlite://, postgres:// or postgresql://")]
    Scheme,
    #[error("names no database file")]
    NoPath,
    #[error("names no server")]
    NoServer,
    #[error("must name a plain file: in-memory and file: databases cannot be shared by several connections")]
    NotAFile,
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            return sqlite(path);
        }
        let server = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        match server {
            Some("" | "/") => Err(UrlError::NoServer),
            Some(_) => Ok(Self(Target::Postgres(text.to_owned()))),
            None => Err(UrlError::Scheme),
        }
    }
}

fn sqlite(path: &str) -> Result<DatabaseUrl, UrlError> {
    match path {
        "" => Err(UrlError::NoPath),
        // Each connection of a pool would open a database of its own.
        _ if path.contains(":memory:") || path.starts_with("file:") => Err(UrlError::NotAFile),
        _ => Ok(DatabaseUrl(Target::Sqlite(path.to_owned()))),
    }
}

impl DatabaseUrl {
    /// The file, where it is one.
    pub fn file(&self) -> Option<&str> {
        match &self.0 {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// Whether several replicas can share the database.
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Target::Postgres(_))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Sqlite(path) => write!(f, "sqlite://{path}"),
            // What follows may hold a password in more than one place (user info, query).
            Target::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}
