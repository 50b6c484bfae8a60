//! Configuration: environment variables, one group a file, every fault reported together.
//!
//! Values are read once at the start. A bad or contradictory value stops the start with one message that
//! lists all of them (exit code 2); `obleth check-config` does only that.

use obleth_schema::DatabaseUrl;
use std::fmt;

mod admission;
mod cache;
mod data;
mod env;
mod file;
mod fleet;
mod ledger;
mod listen;
mod mcp;
mod metrics;
mod traces;
mod upstream;

pub use admission::AdmissionConfig;
pub use cache::CacheConfig;
pub use data::{DataConfig, Rotating};
pub use env::Env;
pub use file::Document;
pub use fleet::FleetConfig;
pub use ledger::LedgerConfig;
pub use listen::ListenConfig;
pub use mcp::{McpConfig, Origins};
pub use metrics::MetricsConfig;
pub use traces::TracesConfig;
pub use upstream::UpstreamConfig;

/// Everything the server needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: ListenConfig,
    pub upstream: UpstreamConfig,
    pub admission: AdmissionConfig,
    pub data: DataConfig,
    pub ledger: LedgerConfig,
    pub traces: TracesConfig,
    pub metrics: MetricsConfig,
    pub fleet: FleetConfig,
    pub cache: CacheConfig,
    /// `OBLETH_CONFIG_FILE`: applied at the start.
    pub document: Option<Document>,
    pub mcp: McpConfig,
    /// Set but unknown `OBLETH_` variables: most likely misspelt.
    pub unknown: Vec<String>,
}

/// All faults of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| writeln!(f, "  - {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// Reads the configuration from the process environment.
    pub fn from_process() -> Result<Self, Faults> {
        Self::read(Env::process())
    }

    /// Reads only where the database is: what `obleth migrate` needs.
    pub fn database_from_process() -> Result<DatabaseUrl, Faults> {
        let mut env = Env::process();
        let database = DataConfig::database(&mut env);
        match (database, env.into_faults()) {
            (Some(url), faults) if faults.is_empty() => Ok(url),
            (_, faults) => Err(Faults(faults)),
        }
    }

    /// Reads what `obleth rotate-encryption-key` needs.
    pub fn rotation_from_process() -> Result<Rotating, Faults> {
        let mut env = Env::process();
        let rotating = Rotating::read(&mut env);
        match (rotating, env.into_faults()) {
            (Some(rotating), faults) if faults.is_empty() => Ok(rotating),
            (_, faults) => Err(Faults(faults)),
        }
    }

    /// Reads the configuration from `env`.
    pub fn read(mut env: Env) -> Result<Self, Faults> {
        let data = DataConfig::read(&mut env);
        let upstream = UpstreamConfig::read(&mut env);
        let document = Document::read(&mut env, &upstream.outbound);
        let config = Self {
            listen: ListenConfig::read(&mut env),
            upstream,
            admission: AdmissionConfig::read(&mut env),
            cache: CacheConfig::read(&mut env),
            mcp: McpConfig::read(&mut env),
            ledger: LedgerConfig::read(&mut env, data.database.as_ref()),
            traces: TracesConfig::read(&mut env),
            metrics: MetricsConfig::read(&mut env),
            fleet: FleetConfig::read(&mut env),
            data,
            document,
            unknown: env.unknown(),
        };
        match env.into_faults() {
            faults if faults.is_empty() => Ok(config),
            faults => Err(Faults(faults)),
        }
    }

    /// The values in force, without secrets, for the log and `check-config`.
    pub fn effective(&self) -> Vec<(&'static str, String)> {
        let mut values = self.listen.effective();
        values.extend(self.upstream.effective());
        values.extend(self.admission.effective());
        values.extend(self.data.effective());
        values.extend(self.fleet.effective());
        values.extend(self.ledger.effective());
        values.extend(self.traces.effective());
        values.extend(self.metrics.effective());
        values.extend(self.cache.effective());
        let document = self.document.as_ref().map_or("(unset)", |document| &document.path);
        values.push(("OBLETH_CONFIG_FILE", document.to_owned()));
        values.extend(self.mcp.effective());
        values
    }
}

#[cfg(test)]
mod tests;
