//! `obleth mock`.

use super::signals::Signals;
use super::{Failure, say};
use crate::mock::{self, MockOptions};
use clap::Args;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// The bundled OpenAI-compatible backend.
#[derive(Debug, Args)]
pub(super) struct MockArguments {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Time to the first token, in milliseconds.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    ttft_ms: u64,
    /// Time between tokens, in milliseconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    token_ms: u64,
    /// Requests that generate at once; others wait. 0 = no limit.
    #[arg(long, default_value_t = 0)]
    slots: usize,
    /// Most tokens of an answer.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tokens: u32,
    /// Worker threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    workers: u64,
}

pub(super) fn run(arguments: &MockArguments) -> Result<(), Failure> {
    let listener = TcpListener::bind(arguments.listen)
        .map_err(|error| Failure::of(format_args!("cannot listen on {}: {error}", arguments.listen)))?;
    let options = MockOptions {
        ttft: Duration::from_millis(arguments.ttft_ms),
        token: Duration::from_millis(arguments.token_ms),
        slots: arguments.slots,
        tokens: arguments.tokens,
        workers: usize::try_from(arguments.workers).unwrap_or(1),
    };
    actix::System::new().block_on(async {
        let mut signals = Signals::listen().map_err(Failure::of)?;
        let server = mock::start(listener, options).map_err(Failure::of)?;
        let handle = server.handle();
        say(&format!("mock upstream on http://{}/v1", server.addr()));
        let serving = actix_rt::spawn(server.run());
        signals.next().await;
        handle.stop(false).await;
        serving.await.map_err(Failure::of)?.map_err(Failure::of)
    })
}
