//! The configuration document that is applied at the start.

use super::Env;
use crate::http::admin::DOCUMENT_MAX;
use obleth_actors::admin::{Trust, check_document};
use obleth_core::net::Outbound;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A document of the registry; it may hold secrets, so it is never printed.
#[derive(Clone)]
pub struct Document {
    pub path: Arc<str>,
    pub text: Arc<[u8]>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Document {
    /// The document that `OBLETH_CONFIG_FILE` names, checked as far as that goes without the database.
    pub(super) fn read(env: &mut Env, outbound: &Outbound) -> Option<Self> {
        let path = env.text("OBLETH_CONFIG_FILE")?;
        let read = text_of(Path::new(&path)).and_then(|text| {
            match check_document(&text, Trust::Environment, outbound) {
                Ok(()) => Ok(text),
                Err(error) if error.field.is_empty() => Err(error.message),
                Err(error) => Err(format!("{}: {}", error.field, error.message)),
            }
        });
        match read {
            Ok(text) => Some(Self { path: path.into(), text: text.into() }),
            Err(why) => {
                env.fault(format!("OBLETH_CONFIG_FILE {path} cannot be used: {why}"));
                None
            }
        }
    }
}

fn text_of(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if usize::try_from(size).map_or(true, |size| size > DOCUMENT_MAX) {
        return Err(format!("it is larger than {DOCUMENT_MAX} bytes"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}
