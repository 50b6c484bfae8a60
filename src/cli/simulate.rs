//! `obleth simulate`.

use super::{Failure, say};
use crate::simulate::{self, Algorithm, Events, Scenario, Stop};
use clap::Args;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

/// Replay a trace through the scheduler on a virtual clock.
#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    /// The pool, the tenants and their weights (JSON).
    #[arg(long)]
    scenario: PathBuf,
    /// One request a line, in order of time (JSON lines).
    #[arg(long)]
    trace: PathBuf,
    /// Who goes next.
    #[arg(long, value_enum, default_value_t)]
    algorithm: Algorithm,
    /// Write what happened to this file (JSON lines).
    #[arg(long)]
    events: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &SimulateArguments) -> Result<(), Failure> {
    let SimulateArguments { scenario, trace, .. } = arguments;
    let text = std::fs::read_to_string(scenario).map_err(|error| unusable(scenario, ": ", error))?;
    let settings = Scenario::parse(&text).map_err(|fault| unusable(scenario, ":", fault))?;
    let source = File::open(trace).map_err(|error| unusable(trace, ": ", error))?;
    let mut file = match &arguments.events {
        None => None,
        Some(path) => {
            let file = File::create(path)
                .map_err(|error| Failure::of(format_args!("{}: {error}", path.display())))?;
            Some(BufWriter::new(file))
        }
    };
    let mut events = file.as_mut().map_or_else(Events::nowhere, |file| Events::to(file));
    let report = simulate::run(arguments.algorithm, settings, BufReader::new(source), &mut events);
    let report = report.map_err(|stop| match stop {
        Stop::Trace(fault) => unusable(trace, ":", fault),
        Stop::Read(error) => unusable(trace, ": ", error),
        Stop::Write(_) => Failure::of(stop),
    })?;
    if arguments.json {
        say(&serde_json::to_string(&report).map_err(Failure::of)?);
    } else {
        say(report.to_string().trim_end());
    }
    Ok(())
}

/// A file that cannot be used, and where its fault is.
fn unusable(path: &Path, at: &str, fault: impl Display) -> Failure {
    Failure::Unusable(format!("{}{at}{fault}", path.display()))
}
