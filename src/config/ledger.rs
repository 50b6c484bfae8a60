//! The ledger: where its journal is, how large it may be, how safe it is; how long rows are kept.

use super::Env;
use obleth_actors::accounting::{JournalSettings, Sync, WhenFull};
use obleth_schema::DatabaseUrl;
use std::path::PathBuf;

/// The ledger's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// `OBLETH_JOURNAL_DIR`, `OBLETH_JOURNAL_MAX_BYTES`, `OBLETH_LEDGER_SYNC`, `OBLETH_LEDGER_FULL`.
    pub journal: JournalSettings,
    /// `OBLETH_USAGE_RETENTION_DAYS`: how long the database keeps rows; 0: for ever.
    pub retention_days: u32,
}

impl LedgerConfig {
    pub(super) fn read(env: &mut Env, database: Option<&DatabaseUrl>) -> Self {
        let folder = env.text("OBLETH_JOURNAL_DIR").map_or_else(|| beside(database), PathBuf::from);
        let max_bytes = env.number("OBLETH_JOURNAL_MAX_BYTES", 1 << 30, (1 << 20)..=(1 << 40));
        let sync = env.parsed("OBLETH_LEDGER_SYNC", "interval", |text| match text {
            "interval" => Ok(Sync::Interval),
            "always" => Ok(Sync::Always),
            "never" => Ok(Sync::Never),
            _ => Err("must be interval, always or never"),
        });
        let when_full = env.parsed("OBLETH_LEDGER_FULL", "refuse", |text| match text {
            "refuse" => Ok(WhenFull::Refuse),
            "drop" => Ok(WhenFull::Drop),
            _ => Err("must be refuse or drop"),
        });
        let (sync, when_full) = (sync.unwrap_or_default(), when_full.unwrap_or_default());
        let retention_days = env.number("OBLETH_USAGE_RETENTION_DAYS", 180, 0..=36_500);
        let journal = JournalSettings { max_bytes, sync, when_full, ..JournalSettings::new(folder) };
        Self { journal, retention_days }
    }

    pub(super) fn effective(&self) -> Vec<(&'static str, String)> {
        let sync = match self.journal.sync {
            Sync::Interval => "interval",
            Sync::Always => "always",
            Sync::Never => "never",
        };
        let when_full = match self.journal.when_full {
            WhenFull::Refuse => "refuse",
            WhenFull::Drop => "drop",
        };
        vec![
            ("OBLETH_JOURNAL_DIR", self.journal.folder.display().to_string()),
            ("OBLETH_JOURNAL_MAX_BYTES", self.journal.max_bytes.to_string()),
            ("OBLETH_LEDGER_SYNC", sync.to_owned()),
            ("OBLETH_LEDGER_FULL", when_full.to_owned()),
            ("OBLETH_USAGE_RETENTION_DAYS", self.retention_days.to_string()),
        ]
    }
}

/// Beside the file of the database; without one, in the working directory.
fn beside(database: Option<&DatabaseUrl>) -> PathBuf {
    match database.and_then(DatabaseUrl::file) {
        Some(file) => PathBuf::from(format!("{file}.journal")),
        None => PathBuf::from("obleth.journal"),
    }
}
