//! The command line. Exit codes: 0 done, 1 failed, 2 bad usage or configuration.

use crate::config::{Config, Faults};
use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

mod check_config;
mod demo;
mod migrate;
mod mock;
mod rotate;
mod serve;
mod signals;
mod simulate;

/// A fair, exact gateway for teams that share GPU-backed models.
#[derive(Debug, Parser)]
#[command(
    name = "obleth",
    version,
    about,
    after_help = "Configuration comes from OBLETH_* variables; see the README."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Serve,
    /// Run a gateway with a mock upstream, a tenant, a key and a model, and print a curl line that works.
    Demo(demo::DemoArguments),
    /// Run the bundled OpenAI-compatible backend.
    Mock(mock::MockArguments),
    /// Bring the database's tables up to date.
    Migrate,
    /// Check the configuration and print the values in force.
    CheckConfig,
    /// Encrypt every stored secret anew: from OBLETH_ENCRYPTION_KEY to OBLETH_NEW_ENCRYPTION_KEY.
    RotateEncryptionKey,
    /// Replay a trace through the scheduler on a virtual clock and report who got what.
    Simulate(simulate::SimulateArguments),
}

/// How a command ended.
enum Failure {
    Configuration(Faults),
    /// A file that was named cannot be used.
    Unusable(String),
    Failed(String),
}

impl Failure {
    fn of(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Configuration(faults)
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // clap itself exits with 2 on bad usage and 0 on --help.
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Mock(arguments) => mock::run(&arguments),
        Command::Migrate => migrate::run(),
        Command::CheckConfig => check_config::run(),
        Command::RotateEncryptionKey => rotate::run(),
        Command::Simulate(arguments) => simulate::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(faults)) => {
            say_error(&faults.to_string());
            ExitCode::from(2)
        }
        Err(Failure::Unusable(text)) => {
            say_error(&format!("obleth: {text}\n"));
            ExitCode::from(2)
        }
        Err(Failure::Failed(text)) => {
            say_error(&format!("obleth: {text}\n"));
            ExitCode::FAILURE
        }
    }
}

fn say_error(text: &str) {
    // Nobody left to tell when stderr is closed.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints to stdout; a closed pipe is no reason to fail.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Logs the values in force and what looks misspelt.
fn announce(config: &Config) {
    for (name, value) in config.effective() {
        tracing::info!(name, value, "configuration");
    }
    for name in &config.unknown {
        tracing::warn!(name = name.as_str(), "this variable is not known to this version and has no effect");
    }
    if !config.data.encrypted {
        tracing::warn!("OBLETH_ENCRYPTION_KEY is not set: upstream secrets are stored unencrypted");
    }
}
