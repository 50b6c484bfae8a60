//! The simulator: a trace replayed through the production fair queue on a virtual clock.
//!
//! Is: a pool of slots whose requests take as long as the scenario says, and a report of who got what and
//! how long each waited. Is not: a second scheduler; who goes next is decided by [`FairQueue`] (or, for
//! comparison, by strict first in, first out). Invariant: the same scenario and trace give the same
//! events, byte for byte; time is in whole microseconds and cost in whole units, floats only in what is
//! printed.
//!
//! [`FairQueue`]: obleth_core::fair_queue::FairQueue

mod directory;
mod engine;
mod entitlement;
mod events;
mod fifo;
mod gaps;
mod numbers;
mod report;
mod scenario;
mod scheduler;
mod slots;
mod tally;
mod trace;

pub use events::Events;
pub use report::{Gap, Report, TenantReport};
pub use scenario::Scenario;

use obleth_core::fair_queue::{FairQueue, Settings};
use std::io::{self, BufRead};

/// Who goes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// The scheduler of the gateway.
    #[default]
    HrSfq,
    /// First in, first out, where a request that cannot start holds up all behind it.
    Fifo,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {text}")]
pub struct Fault {
    /// From 1.
    pub line: u64,
    pub text: String,
}

impl Fault {
    /// A JSON fault; `line` is that of the text's first line.
    fn of_json(line: u64, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let within = u64::try_from(error.line()).unwrap_or(1).saturating_sub(1);
        let text = text.strip_suffix(&place).unwrap_or(&text);
        Self { line: line.saturating_add(within), text: format!("column {}: {text}", error.column()) }
    }
}

/// Why a simulation ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("trace: {0}")]
    Trace(Fault),
    #[error("cannot read the trace: {0}")]
    Read(io::Error),
    #[error("cannot write events: {0}")]
    Write(io::Error),
}

/// Replays `trace` and reports.
pub fn run(
    algorithm: Algorithm,
    scenario: Scenario,
    trace: impl BufRead,
    events: &mut Events<'_>,
) -> Result<Report, Stop> {
    let slots = scenario.pool.slots;
    let report = match algorithm {
        Algorithm::HrSfq => {
            let unlimited = u32::MAX;
            let own = Settings::default();
            let settings = Settings {
                slots,
                max_queued: unlimited,
                default_tenant_max_queued: unlimited,
                theta_percent: scenario.pool.theta_percent.unwrap_or(own.theta_percent),
                ..own
            };
            engine::replay(FairQueue::new(settings), scenario, trace, events)?
        }
        Algorithm::Fifo => engine::replay(fifo::Fifo::new(slots), scenario, trace, events)?,
    };
    events.flush().map_err(Stop::Write)?;
    Ok(Report { algorithm: algorithm.into(), ..report })
}

impl From<Algorithm> for &'static str {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HrSfq => "hr-sfq",
            Algorithm::Fifo => "fifo",
        }
    }
}

#[cfg(test)]
mod tests;
